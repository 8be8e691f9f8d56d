"""Which variant is in memory, and what is known of a model before it is loaded."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from tiltmeter.backends.base import Answering, Backend, Identity
from tiltmeter.messages import Text
from tiltmeter.models.address import is_address
from tiltmeter.models.formats.gguf.source import is_gguf
from tiltmeter.registry import build
from tiltmeter.runs.inputs import Inputs
from tiltmeter.runs.record import write_record
from tiltmeter.runs.spending import Spending
from tiltmeter.runs.store import stored_variant
from tiltmeter.schema import RunRecord
from tiltmeter.schema.place import NONE
from tiltmeter.scoring.requests import Answer, Request
from tiltmeter.strategies.gguf_type import LIBRARY
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.runs.progress import Progress
    from tiltmeter.scoring.remembered import Outcome

__all__ = ["Answered", "Identity", "Loader", "ask"]

Result = TypeVar("Result")


class ForVariant(Protocol):
    """Work that needs one variant; false when nothing of it is left to do."""

    @property
    def spec(self) -> VariantSpec: ...
    def __bool__(self) -> bool: ...


Job = TypeVar("Job", bound=ForVariant)


@dataclass(frozen=True)
class Answered:
    """One batch's answers, in its order, what they took, and what the run must say about them.

    Attributes:
        tokens_asked, tokens_computed: see `scoring.engine.Stats`.
        seconds: wall time, without that of a self-test.
        outcomes: of the engine's self-tests so far, by kind of request.
    """

    answers: list[Answer]
    tokens_asked: int
    tokens_computed: int
    seconds: float
    notes: list[Text]
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def ask(engine: Answering, requests: Sequence[Request]) -> Answered:
    """The engine's answers to one batch, with what they took."""
    asked, computed, started = engine.stats.tokens_asked, engine.stats.tokens_computed, time.perf_counter()
    tests = getattr(engine.stats, "test_seconds", 0.0)
    answers = engine.answer(requests)
    return Answered(
        answers,
        tokens_asked=engine.stats.tokens_asked - asked,
        tokens_computed=engine.stats.tokens_computed - computed,
        seconds=time.perf_counter() - started - (getattr(engine.stats, "test_seconds", 0.0) - tests),
        notes=list(getattr(engine, "said", engine.notes)),
        outcomes=dict(engine.outcomes),
    )


def _told(error: Exception) -> Exception:
    """The error for whoever asked; one of memory no longer holds what it was raised over. Raises UserError where the
    device is lost to this process."""
    from tiltmeter.scoring import device

    if device.is_lost(error):
        raise device.lost(error) from error
    return device.without_frames(error) if device.is_out_of_memory(error) else error


class Loader:
    """Keeps at most one variant in memory; as a context, until the context ends.

    An address is asked where it is served, all else by the study's backend.

    Args:
        record: what `run.json` holds; `record_path`: where it is, None for one that only a worker sees.
    """

    def __init__(self, study: Study, record: RunRecord, record_path: Path | None, progress: Progress) -> None:
        self.study, self.record, self.record_path, self.progress = study, record, record_path, progress
        self._backends: dict[str, Backend] = {}
        self._identities: dict[str, Identity] = {}
        self.spec: VariantSpec | None = None
        self.variant: LoadedVariant | None = None
        self._engine: Answering | None = None
        self._plans: dict[tuple[Path, str, str, int], list[array[int]]] = {}
        self.spending = Spending(study.budget)

    def load(self, spec: VariantSpec) -> LoadedVariant:
        if self.spec == spec and self.variant is not None:
            return self.variant
        self.release()
        self.progress.note(f"loading {spec.source} · {spec.strategy}")
        self.variant = self._backend(spec.source).load(spec)
        self.spec = spec
        return self.variant

    def engine(self, spec: VariantSpec) -> Answering:
        """The engine of a variant, which is loaded unless it is in memory, with the run's token budget."""
        variant = self.load(spec)
        if self._engine is None:
            self._engine = self._backend(spec.source).engine(variant, self.budget(spec))
            self._engine.outcomes.update(self._methods(spec))
        return self._engine

    def plan(self, spec: VariantSpec, inputs: Inputs) -> list[list[int]]:
        """The engine's batches of a cell's requests. Variants of one model are asked the same: planned once for all."""
        engine, salt = self.engine(spec), spec.chain.salt
        rows: int | None = getattr(engine, "rows", None)
        if rows is None:
            return engine.plan(inputs.requests(), salt=salt)
        key = inputs.path, spec.source, salt, rows
        if key not in self._plans:
            self._plans[key] = [array("i", batch) for batch in engine.plan(inputs.requests(), salt=salt)]
        return [batch.tolist() for batch in self._plans[key]]

    def _methods(self, spec: VariantSpec) -> dict[str, Outcome]:
        """What the self-tests of a variant chose when the run began: it goes on with that."""
        variant = self.load(spec)
        key = f"{spec.strategy} · {variant.dtype} · {variant.weight_hash[:16]}"
        return self.record.methods.setdefault(key, {})

    def _remember_methods(self, spec: VariantSpec, engine: Answering) -> None:
        methods, chosen = self._methods(spec), engine.outcomes
        if chosen != methods:
            methods.update(chosen)
            if self.record_path:
                write_record(self.record_path, self.record)

    def answers(
        self, spec: VariantSpec, queue: deque[list[int]], requests_at: Callable[[list[int]], Sequence[Request]]
    ) -> Iterator[tuple[list[int], Answered | Exception]]:
        """Batches of `queue`, each with its answers or with what went wrong; the reader may put more into the queue."""
        engine = self.engine(spec)
        while queue:
            batch = queue.popleft()
            requests = requests_at(batch)
            try:
                if is_address(spec.source):
                    self.spending.allow(requests)
                answered = ask(engine, requests)
                self._remember_methods(spec, engine)
                if is_address(spec.source):
                    self.spending.spent += answered.tokens_asked
                found: Answered | Exception = answered
            except Exception as error:
                found = _told(error)
            yield batch, found
            del found  # or it is in memory while the next batch is computed

    def budget(self, spec: VariantSpec) -> int:
        """The run's token budget. It is fixed at the first start, by the first variant that is loaded."""
        if self.record.batch_tokens is None:
            self.record.batch_tokens = self.study.batch_tokens or self._measured_budget(spec)
            if self.record_path:
                write_record(self.record_path, self.record)
        return self.record.batch_tokens

    def _measured_budget(self, spec: VariantSpec) -> int:
        return self._backend(spec.source).auto_batch_tokens(self.load(spec))

    def each(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """What `work` makes of each job, in their order; one at a time."""
        return map(work, jobs)

    def identity(self, source: str) -> Identity:
        """Tokenizer, hash and dtype of a model, without loading its weights.

        Raises UserError for what cannot be read or asked, and for a strategy that cannot work with any of the study's
        models: both before anything is computed.
        """
        if source not in self._identities:
            self._identities[source] = self._backend(source).identity(source)
        return self._identities[source]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        if self.variant is not None and self.spec is not None:
            self._backend(self.spec.source).release(self.variant)
        self.variant = self.spec = self._engine = None

    def _probed(self, base: str) -> list[float] | None:
        """What a base answered to the probe questions, from its stored proof; None when it was not asked."""
        facts = stored_variant(self.record_path.parent, base, NONE) if self.record_path else None
        return facts.proof.probe_logprobs if facts else None

    def _backend(self, source: str) -> Backend:
        name = backend_name(self.study, source)
        if name not in self._backends:
            backend: Backend = build("backend", name, study=self.study, probed=self._probed, say=self.progress.note)
            backend.check()
            self._backends[name] = backend
        return self._backends[name]


def backend_name(study: Study, source: str) -> str:
    """Who answers about a model: an address is asked where it is served; GGUF files run in llama.cpp where their base
    is one or the study says so, and what is no GGUF file does not. A base file whose every strategy acts in
    transformers runs there."""
    if is_address(source):
        return "endpoint"
    if study.backend == "llama-cpp" and not is_gguf(source):
        return "transformers"
    if study.backend == "transformers" and is_gguf(study.models[0]) and not _dense(study):
        return "llama-cpp"
    return study.backend


def _dense(study: Study) -> bool:
    """Whether a study of a GGUF file wants its weights in transformers: all its strategies act there."""
    parts = [part for spec in study.variants() if spec.kind == "strategy" for part in spec.chain.parts]
    acting = [part for part in parts if not part.redraws]
    return bool(acting) and all(part.library != LIBRARY for part in acting)
