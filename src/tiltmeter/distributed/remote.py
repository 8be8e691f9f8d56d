"""Both ends of what the driver asks of a worker: `Worker` lives in a process of the cluster, `RemoteLoader` and
`RemoteEngine` stand in the driver for the loader and the engine of one process.

The batches of a cell are its shards: they go to every worker that holds the variant, and one more worker loads it where
that is sooner than waiting.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from tiltmeter.distributed.places import Places
from tiltmeter.distributed.worker_pool import Pool, Unfit
from tiltmeter.errors import UserError
from tiltmeter.runs import record as run_record
from tiltmeter.runs.environments import kind_of
from tiltmeter.runs.loading import Answered, Identity, Job, Loader, Result, ask
from tiltmeter.runs.progress import Progress, Silent
from tiltmeter.runs.store import digest
from tiltmeter.schema import RunRecord
from tiltmeter.schema.run import Hardware
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.remembered import Outcome
from tiltmeter.scoring.requests import Answer, Request
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

LOADING_PAYS = 1.0  # times the seconds that another worker needs to load a variant must be saved by having it


@dataclass(frozen=True)
class Expected:
    """What every worker that answers for a variant must find: the hashes of the weights and, once known, of the proof.

    The proof holds what the probe prompts gave, so it shows other hardware, and a quantized copy that each machine made
    for itself and that came out otherwise.
    """

    weights: str
    proof: str | None = None


@dataclass(frozen=True)
class About:
    """A worker's machine: what must be the same everywhere, and its hardware."""

    host: str
    versions: dict[str, str]
    hardware: Hardware
    calibration: str | None  # hash of the calibration text


class Worker:
    """Runs in a process of the cluster. `study.device` is "cpu" or "cuda", `threads` torch's, `folder` the driver's."""

    def __init__(self, study: Study, threads: int, folder: str) -> None:
        import torch

        torch.set_num_threads(threads)
        if Path(folder).is_dir():  # relative paths mean what they mean there
            os.chdir(folder)
        self.loader = Loader(study, RunRecord(), None, Silent())

    def about(self) -> About:
        """What must be the same on every machine, and the hardware."""
        study = self.loader.study
        hardware = run_record.hardware()
        return About(socket.gethostname(), run_record.versions(), hardware, file_hash(study.calibration))

    def identity(self, source: str) -> Identity:
        return self.loader.identity(source)

    def load(self, spec: VariantSpec, expected: Expected) -> tuple[LoadedVariant, float]:
        """What is to be known of a variant, without its model, which stays here, and without its tokenizer, which the
        driver has; and the seconds that loading took."""
        started = time.perf_counter()
        variant = self._held(spec, expected)
        seconds = time.perf_counter() - started
        return replace(variant, model=None, tokenizer=None, new_cache=None, generate=None), seconds  # type: ignore[arg-type]

    def budget(self, spec: VariantSpec, expected: Expected) -> int:
        """The token budget that suits this variant here."""
        self._held(spec, expected)
        return self.loader.budget(spec)

    def answer(
        self,
        spec: VariantSpec,
        expected: Expected,
        batch_tokens: int,
        outcomes: dict[str, Outcome],
        requests: Sequence[Request],
    ) -> Answered:
        """The answers to one batch, computed as the self-tests of the run chose (`outcomes`) where they have. Raises
        what the library raises, and `Unfit`."""
        self.loader.record.batch_tokens = batch_tokens
        self._held(spec, expected)
        engine = self.loader.engine(spec)
        engine.outcomes.update(outcomes)
        return ask(engine, requests)

    def _held(self, spec: VariantSpec, expected: Expected) -> LoadedVariant:
        """The variant, loaded unless it is here already."""
        if self.loader.identity(spec.source).weight_hash != expected.weights:
            raise Unfit(f"{spec.source} on {socket.gethostname()} is another checkpoint than elsewhere in the cluster")
        variant = self.loader.load(spec)
        if expected.proof not in (None, digest(variant.proof)):
            raise Unfit(
                f"{spec.strategy} came out otherwise on {socket.gethostname()} than elsewhere in the cluster "
                "(a cache that all machines share, named by TILTMETER_CACHE, holds it once)"
            )
        return variant


def file_hash(path: str | None) -> str | None:
    """SHA-256 of a file of the study; None where there is none."""
    file = Path(path).expanduser() if path else None
    return hashlib.sha256(file.read_bytes()).hexdigest() if file and file.is_file() else None


class RemoteLoader(Loader):
    """Has variants loaded by workers, and is told what is to be known of them. As a context, ends its workers."""

    def __init__(
        self,
        study: Study,
        record: RunRecord,
        record_path: Path,
        progress: Progress,
        places: Places,
        disconnect: Callable[[], None],
    ) -> None:
        super().__init__(study, record, record_path, progress)
        self._disconnect = disconnect
        self._loaded: dict[VariantSpec, tuple[LoadedVariant, float]] = {}
        self._engines: dict[VariantSpec, RemoteEngine] = {}
        self._lock = threading.RLock()
        self._versions, self._calibration = _public(run_record.versions()), file_hash(study.calibration)
        self._hardware: list[Hardware] = []
        as_actor: Any = ray.remote(scheduling_strategy="SPREAD", num_cpus=places.cpus, num_gpus=places.gpus)
        there = study.model_copy(update={"device": places.device})
        self.pool = Pool(
            lambda: as_actor(Worker).remote(there, places.threads, os.getcwd()), places.room, self._accept, progress
        )

    def _accept(self, about: About) -> None:
        """Raises UserError for a worker whose answers would be others; notes on which hardware answers come about."""
        theirs, ours = _public(about.versions), self._versions
        if theirs != ours:
            names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
            found = [f"{name} {theirs.get(name, 'absent')} instead of {ours.get(name, 'absent')}" for name in names]
            raise UserError(
                f"other versions on {about.host} than here: {', '.join(found)}",
                fix="install the same versions on every machine of the cluster",
            )
        if about.calibration != self._calibration:
            raise UserError(
                f"the calibration text {self.study.calibration} on {about.host} is not the one here",
                fix="put the same file at the same path on every machine of the cluster",
            )
        hardware = about.hardware
        if kind_of(hardware) in map(kind_of, self._hardware):
            return
        self._hardware.append(hardware)
        if len(self._hardware) == 1:
            self.record.hardware, self.record.versions = hardware, about.versions
        else:
            self.progress.warn("the workers' hardware differs: low bits of answers may depend on which one was asked")
            self.record.more_hardware = self._hardware[1:]
        assert self.record_path is not None
        run_record.write_record(self.record_path, self.record)

    def identity(self, source: str) -> Identity:
        """As seen by a worker: this machine needs neither the checkpoint nor a GPU."""
        with self._lock:
            if source not in self._identities:
                self._identities[source] = self.pool.call(None, lambda actor: actor.identity.remote(source))
            return self._identities[source]

    def load(self, spec: VariantSpec) -> LoadedVariant:
        """What is to be known of a variant; its model is on a worker."""
        if spec not in self._loaded:
            self.progress.note(f"loading {spec.source} · {spec.strategy}")
            identity = self.identity(spec.source)
            expected = Expected(identity.weight_hash)
            variant, seconds = self.pool.call(spec, lambda actor: actor.load.remote(spec, expected))
            # one tokenizer a source: with a copy for each variant the driver grew with the study
            self._loaded[spec] = replace(variant, tokenizer=identity.tokenizer), seconds
        return self._loaded[spec][0]

    def engine(self, spec: VariantSpec) -> RemoteEngine:
        variant = self.load(spec)
        if spec not in self._engines:
            with self._lock:
                budget = self.budget(spec)
            expected = Expected(self.identity(spec.source).weight_hash, digest(variant.proof))
            engine = RemoteEngine(self.pool, spec, expected, variant, budget, self._loaded[spec][1])
            engine.outcomes.update(self._methods(spec))
            self._engines[spec] = engine
        return self._engines[spec]

    def answers(
        self, spec: VariantSpec, queue: deque[list[int]], requests_at: Callable[[list[int]], Sequence[Request]]
    ) -> Iterator[tuple[list[int], Answered | Exception]]:
        """As the base class says, in the order in which workers are done."""
        engine = self.engine(spec)
        for batch, found in engine.answer_batches(queue, requests_at):
            with self._lock:
                self._remember_methods(spec, engine)
            yield batch, found

    def _measured_budget(self, spec: VariantSpec) -> int:
        expected = Expected(self.identity(spec.source).weight_hash)
        return int(self.pool.call(spec, lambda actor: actor.budget.remote(spec, expected)))

    def each(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """As many jobs at a time as there can be workers. The first that raises ends them all."""
        todo = list(jobs)
        self._fix_budget(todo)

        def one(job: Job) -> Result:
            with self.pool.active(job.spec):
                return work(job)

        with ThreadPoolExecutor(self.pool.room) as threads:
            futures = [threads.submit(one, job) for job in todo]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for error in [future.exception() for future in futures if future.done()]:
                    if error:
                        raise error
                return iter([future.result() for future in futures])
            except BaseException:
                self.pool.stop()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _fix_budget(self, jobs: list[Job]) -> None:
        """The first variant of the order fixes the token budget, as in one process, before others may."""
        for job in filter(None, jobs):
            if self.record.batch_tokens is not None:
                return
            try:
                self.engine(job.spec)
            except Exception:  # raised again, and judged, when its turn comes
                continue

    def release(self) -> None:
        self.pool.close()
        self._disconnect()


class RemoteEngine(Engine):
    """Plans here, has batches answered by the workers that hold the variant.

    Args:
        variant: without its model.
        load_seconds: what loading it took; another worker loads it where that is less than what it saves.
    """

    def __init__(
        self,
        pool: Pool,
        spec: VariantSpec,
        expected: Expected,
        variant: LoadedVariant,
        batch_tokens: int,
        load_seconds: float,
    ) -> None:
        super().__init__(variant, batch_tokens=batch_tokens)
        self._pool, self._spec, self._expected, self._load_seconds = pool, spec, expected, load_seconds
        self._n_batches = 0
        self._worked = 0.0  # seconds, of all workers together

    def answer_batches(
        self, queue: deque[list[int]], requests_at: Callable[[list[int]], Sequence[Request]]
    ) -> Iterator[tuple[list[int], Answered | Exception]]:
        """See `RemoteLoader.answers`."""

        def start(actor: Any, batch: list[int]) -> Any:
            outcomes = dict(self.outcomes)
            return actor.answer.remote(self._spec, self._expected, self.batch_tokens, outcomes, requests_at(batch))

        started, before = time.perf_counter(), self.stats.seconds
        for batch, found in self._pool.spread(self._spec, queue, start, self._pays):
            if isinstance(found, Answered):
                self._n_batches += 1
                self._worked += found.seconds
                self.outcomes = {**found.outcomes, **self.outcomes}  # the first that was found holds
                self.stats.tokens_asked += found.tokens_asked
                self.stats.tokens_computed += found.tokens_computed
                self.stats.seconds = before + time.perf_counter() - started
            yield batch, found

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        ((_, found),) = self.answer_batches(deque([[]]), lambda _: requests)
        if isinstance(found, Exception):
            raise found
        return found.answers

    def _pays(self, waiting: int, at_work: int) -> bool:
        if not self._n_batches:
            return False
        saved = self._worked / self._n_batches * waiting / (at_work + 1)
        return saved > LOADING_PAYS * self._load_seconds


def _public(versions: dict[str, str]) -> dict[str, str]:
    """Without what says for which hardware a library was built (2.13.0+cpu): a driver needs no GPU."""
    return {name: version.partition("+")[0] for name, version in versions.items()}
