"""Which variant is in memory, and what is known of a model before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.registry import build
from tiltmeter.scoring.backends.base import Answering, Backend, Identity, is_address
from tiltmeter.store import write_json
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.progress import Progress
    from tiltmeter.scoring.variant import LoadedVariant

__all__ = ["Identity", "Loader"]


class Loader:
    """Keeps at most one variant in memory. An address is asked where it is served, all else by the study's backend."""

    def __init__(self, study: Study, record: dict[str, Any], record_path: Path, progress: Progress) -> None:
        self.study, self.record, self.record_path, self.progress = study, record, record_path, progress
        self._backends: dict[str, Backend] = {}
        self._identities: dict[str, Identity] = {}
        self.spec: VariantSpec | None = None
        self.variant: LoadedVariant | None = None
        self._engine: Answering | None = None

    def load(self, spec: VariantSpec) -> LoadedVariant:
        if self.spec == spec and self.variant is not None:
            return self.variant
        self.release()
        self.progress.note(f"loading {spec.source} · {spec.strategy}")
        self.variant = self._backend(spec.source).load(spec)
        self.spec = spec
        return self.variant

    def engine(self) -> Answering:
        """The engine of the loaded variant, with the run's token budget (fixed at the first start)."""
        assert self.variant is not None and self.spec is not None
        backend = self._backend(self.spec.source)
        if self._engine is None:
            if self.record.get("batch_tokens") is None:
                self.record["batch_tokens"] = self.study.batch_tokens or backend.auto_batch_tokens(self.variant)
                write_json(self.record_path, {**self.record})
            self._engine = backend.engine(self.variant, self.record["batch_tokens"])
        return self._engine

    def identity(self, source: str) -> Identity:
        """Tokenizer, hash and dtype of a model, without loading its weights.

        Raises UserError for what cannot be read or asked, and for a strategy that cannot work with any of the study's
        models: both before anything is computed.
        """
        if source not in self._identities:
            self._identities[source] = self._backend(source).identity(source)
        return self._identities[source]

    def release(self) -> None:
        if self.variant is not None and self.spec is not None:
            self._backend(self.spec.source).release(self.variant)
        self.variant = self.spec = self._engine = None

    def _backend(self, source: str) -> Backend:
        name = "endpoint" if is_address(source) else self.study.backend
        if name not in self._backends:
            backend: Backend = build(
                "backend", name, study=self.study, run=self.record_path.parent, say=self.progress.note
            )
            backend.check()
            self._backends[name] = backend
        return self._backends[name]
