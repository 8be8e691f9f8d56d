"""Which variant is in memory, and what is known of a checkpoint before its weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.gguf_files.source import is_gguf
from tiltmeter.store import write_json
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.progress import Progress
    from tiltmeter.scoring.engine import Engine
    from tiltmeter.scoring.variant import LoadedVariant


@dataclass(frozen=True)
class Identity:
    """What makes a variant's prompts and answers its own, known before its weights are loaded."""

    tokenizer: Any
    weight_hash: str
    dtype: str


class Loader:
    """Keeps at most one variant in memory."""

    def __init__(self, study: Study, record: dict[str, Any], record_path: Path, progress: Progress) -> None:
        self.study, self.record, self.record_path, self.progress = study, record, record_path, progress
        self._identities: dict[str, Identity] = {}
        self.spec: VariantSpec | None = None
        self.variant: LoadedVariant | None = None
        self._engine: Engine | None = None

    def load(self, spec: VariantSpec) -> LoadedVariant:
        from tiltmeter import models

        if self.spec == spec and self.variant is not None:
            return self.variant
        self.release()
        self.progress.note(f"loading {spec.source} · {spec.strategy}")
        self.variant = models.load(
            spec.source,
            spec.chain,
            device=self.study.device,
            dtype=self.identity(spec.source).dtype,
            base=self._base_of(spec.source),
            calibration=self.study.calibration,
            seed=self.study.seed,
            progress=self.progress.note,
        )
        if spec.source != spec.model:  # a ready-made checkpoint: what it is, measured against its base
            from tiltmeter.compare_models import describe

            describe(self.variant, spec.model)
        self.spec = spec
        return self.variant

    def engine(self) -> Engine:
        """The engine of the loaded variant, with the run's token budget (fixed at the first start)."""
        from tiltmeter.scoring.engine import Engine, auto_batch_tokens

        assert self.variant is not None
        if self._engine is None:
            if self.record.get("batch_tokens") is None:
                self.record["batch_tokens"] = self.study.batch_tokens or auto_batch_tokens(self.variant)
                write_json(self.record_path, {**self.record})
            self._engine = Engine(self.variant, batch_tokens=self.record["batch_tokens"])
        return self._engine

    def identity(self, source: str) -> Identity:
        """Tokenizer, weight hash and base dtype of a checkpoint, without loading its weights.

        A ready-made checkpoint runs in its base's dtype, whatever it was saved in: a change of type is no part of the
        compression. Raises UserError for a format that cannot be read, and for a strategy that cannot work with any of
        the study's models: both before anything is computed.
        """
        if not self._identities:
            self._check_strategies()
        if source not in self._identities:
            from tiltmeter import checkpoints, models
            from tiltmeter.quantized_formats import read_format

            compared_with = self._base_of(source)
            if is_gguf(source):
                self.progress.note(f"reading the header of {source}")
            folder = checkpoints.resolve(source, compared_with)
            read_format(folder, source)
            base = compared_with or source
            device = models.pick_device(self.study.device)
            self._identities[source] = Identity(
                tokenizer=models.load_tokenizer(folder, source),
                weight_hash=models.fingerprint(source, compared_with),
                dtype=models.pick_dtype(self.study.dtype, device, models.load_config(checkpoints.resolve(base), base)),
            )
        return self._identities[source]

    def _base_of(self, source: str) -> str | None:
        """The model that a ready-made checkpoint is compared with; None for a model of the study itself."""
        return None if source in self.study.models else self.study.models[0]

    def _check_strategies(self) -> None:
        from tiltmeter import models

        chains = {spec.strategy: spec.chain for spec in self.study.variants() if spec.source in self.study.models}
        refused = [
            models.refusals(model, chains.values(), device=self.study.device, dtype=self.study.dtype,
                            calibration=self.study.calibration)
            for model in self.study.models
        ]
        for name in chains:
            if all(name in each for each in refused):
                raise refused[0][name]

    def release(self) -> None:
        from tiltmeter import models

        if self.variant is not None:
            models.release(self.variant)
        self.variant = self.spec = self._engine = None
