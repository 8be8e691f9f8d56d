"""`--ray ADDRESS`: the same run, its models held and asked by the workers of a Ray cluster.

This process, the driver, keeps the study, the inputs, the batch plan and every file of the run; `pipeline` does not
know who answers. Variants stand side by side, each on a worker of its own. The batches of a cell are its shards: they
go to every worker that holds the variant, and more workers load it where that is sooner than waiting.

Address     ``local``: a cluster on this machine, for this run. ``auto``: the one that runs here or that $RAY_ADDRESS
            names, else a local one. ``HOST:PORT``: a running one that this machine is part of. ``ray://HOST:PORT``:
            through Ray's client, from outside (needs ``ray[client]``). A process that is connected stays so.
Answers     The plan is the cell's, so they are those of one process on the workers' hardware. On a CPU a worker has as
            many threads as torch has here (OMP_NUM_THREADS), because the order of summation depends on them; on a GPU
            it has one GPU. Every worker must have the driver's versions, weights and calibration text, or is refused.
Trust       Ray has no passwords and moves Python objects between its processes by pickle: use a cluster of your own.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter import environment
from tiltmeter.errors import UserError, missing_extra
from tiltmeter.loading import Identity, Job, Loader, Result
from tiltmeter.progress import Progress
from tiltmeter.scoring.engine import Answered, Engine
from tiltmeter.scoring.requests import Answer, Request
from tiltmeter.store import write_json
from tiltmeter.strategies.base import VariantFailed
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.scoring.variant import LoadedVariant
    from tiltmeter.workers import Pool

REACH_S = 5.0  # for a connection to the address; Ray itself would try for minutes
LOADING_PAYS = 1.0  # times the time another worker needs to load a variant must be saved by having it


def connect(address: str, study: Study, record: dict[str, Any], record_path: Path, progress: Progress) -> RemoteLoader:
    """A loader whose variants live in the cluster. Raises UserError when Ray is absent or the address is no cluster."""
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "ray", "--ray") from None
    ours = not ray.is_initialized()
    if ours:
        progress.note(f"connecting to the Ray cluster: {address}")
        _initialize(address, progress.debug)
    return RemoteLoader(study, record, record_path, progress, disconnect=ray.shutdown if ours else lambda: None)


def _initialize(address: str, debug: bool) -> None:
    import ray
    from ray.exceptions import RayError

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run is told to anyone
    options: dict[str, Any] = {"log_to_driver": debug, "logging_level": "INFO" if debug else "ERROR"}
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    if address not in ("auto", "local"):
        _check_reachable(address)
    try:
        try:
            ray.init("local" if address == "local" else address, **options)
        except ConnectionError:
            if address != "auto":
                raise
            ray.init("local", **options)
    except (ConnectionError, OSError, RuntimeError, ValueError, RayError) as error:
        client = "ray[client]" in str(error)
        raise UserError(
            f"the Ray cluster {address} cannot be used: {str(error).strip().splitlines()[0]}",
            fix='pip install "ray[client]"' if client else "start one with `ray start --head`, or use --ray local",
        ) from None


def _check_reachable(address: str) -> None:
    found = re.fullmatch(r"(?:ray://)?(\[.+\]|[^:/]+):(\d{1,5})", address)
    if not found:
        raise UserError(
            f"{address!r} is no address of a Ray cluster", fix="--ray local, auto, HOST:PORT or ray://HOST:PORT"
        )
    host, port = found[1].strip("[]"), int(found[2])
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: {getattr(error, 'strerror', None) or error}",
            fix="use the address that `ray start --head` printed, or --ray local for this machine alone",
        ) from None


class RemoteLoader(Loader):
    """Has variants loaded by workers, and is told what is to be known of them. As a context, ends its workers."""

    def __init__(
        self,
        study: Study,
        record: dict[str, Any],
        record_path: Path,
        progress: Progress,
        disconnect: Callable[[], None],
    ) -> None:
        import ray

        from tiltmeter.workers import Pool, Worker, file_hash

        super().__init__(study, record, record_path, progress)
        self._disconnect = disconnect
        self._loaded: dict[VariantSpec, tuple[LoadedVariant, float]] = {}
        self._engines: dict[VariantSpec, RemoteEngine] = {}
        self._lock = threading.Lock()
        self._expected = {"versions": environment.versions(), "calibration": file_hash(study.calibration)}
        self._hardware: list[dict[str, Any]] = []
        needs, room, device, threads = share(study.device, ray.nodes())
        remote: Any = ray.remote(scheduling_strategy="SPREAD", **needs)
        actor = remote(Worker)
        elsewhere = study.model_copy(update={"device": device})
        self.pool: Pool = Pool(lambda: actor.remote(elsewhere, threads), room, self._accept, progress)

    def _accept(self, about: dict[str, Any]) -> None:
        """Raises UserError for a worker whose answers would be others; notes on which hardware answers come about."""
        for name, expected in self._expected.items():
            if about[name] != expected:
                raise UserError(
                    f"{about['host']} has other {name}: {_difference(about[name], expected)}",
                    fix="use the same versions and files on every machine of the cluster",
                )
        if about["hardware"] in self._hardware:
            return
        self._hardware.append(about["hardware"])
        if len(self._hardware) == 1:
            self.record["hardware"] = about["hardware"]
        else:
            self.progress.warn("the workers' hardware differs: low bits of answers may depend on which one was asked")
            self.record["more_hardware"] = self._hardware[1:]
        assert self.record_path is not None
        write_json(self.record_path, self.record)

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
            weights = self.identity(spec.source).weight_hash
            self._loaded[spec] = self.pool.call(spec, lambda actor: actor.load.remote(spec, weights))
        return self._loaded[spec][0]

    def engine(self, spec: VariantSpec) -> RemoteEngine:
        variant = self.load(spec)
        if spec not in self._engines:
            with self._lock:
                budget = self.budget(spec)
            self._engines[spec] = RemoteEngine(self.pool, spec, variant, budget, self._loaded[spec][1])
        return self._engines[spec]

    def _measured_budget(self, spec: VariantSpec) -> int:
        weights = self._identities[spec.source].weight_hash
        return int(self.pool.call(spec, lambda actor: actor.budget.remote(spec, weights)))

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
            if self.record["batch_tokens"] is not None:
                return
            try:
                self.engine(job.spec)
            except (UserError, VariantFailed):
                continue  # raised again, and judged, when its turn comes

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
        self, pool: Pool, spec: VariantSpec, variant: LoadedVariant, batch_tokens: int, load_seconds: float
    ) -> None:
        super().__init__(variant, batch_tokens=batch_tokens)
        self._pool, self._spec, self._load_seconds = pool, spec, load_seconds
        self._n_batches = 0
        self._worked = 0.0  # seconds, of all workers together

    def answer_batches(
        self, queue: deque[list[int]], requests_at: Callable[[list[int]], Sequence[Request]]
    ) -> Iterator[tuple[list[int], Answered | Exception]]:
        """As the base class says, in the order in which workers are done."""
        weights, started = self.variant.weight_hash, time.perf_counter()

        def ask(actor: Any, batch: list[int]) -> Any:
            return actor.answer.remote(self._spec, weights, self.batch_tokens, requests_at(batch))

        before = self.stats.seconds
        for batch, found in self._pool.spread(self._spec, queue, ask, self._pays):
            if isinstance(found, Answered):
                self._n_batches += 1
                self._worked += found.seconds
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


def share(device: str, nodes: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], int, str, int]:
    """What a worker asks of the cluster, how many workers have room in it, their device and their threads.

    Args:
        device: the study's; "auto" is a GPU where the cluster has one.
        nodes: as `ray.nodes()` tells them.
    Raises UserError for a GPU that the cluster does not have, or one named by its number.
    """
    import torch

    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in alive))
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} with --ray: the cluster chooses", fix="--device auto, cpu or cuda")
    if device == "cuda" and not gpus:
        raise UserError("--device cuda was asked for, but the Ray cluster has no GPU", fix="--device auto")
    if gpus and device != "cpu":
        return {"num_gpus": 1, "num_cpus": 1}, gpus, "cuda", torch.get_num_threads()
    cpus = [int(node.get("CPU", 0)) for node in alive]
    threads = max(1, min(torch.get_num_threads(), max(cpus, default=1)))
    return {"num_cpus": threads}, max(1, sum(n // threads for n in cpus)), "cpu", threads


def _difference(found: Any, expected: Any) -> str:
    """The entries of a worker's facts that are not the driver's."""
    if not isinstance(found, dict) or not isinstance(expected, dict):
        return "not the file of this machine"
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    return ", ".join(f"{name} {found.get(name, 'absent')} instead of {expected.get(name, 'absent')}" for name in names)
