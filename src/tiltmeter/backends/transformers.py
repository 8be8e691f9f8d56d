"""Checkpoints read by transformers and answered by the built-in engine: the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiltmeter.backends import _probe
from tiltmeter.backends.base import Answering, Backend, Identity
from tiltmeter.errors import UserError, together
from tiltmeter.messages import say
from tiltmeter.models import reading
from tiltmeter.models.address import is_address
from tiltmeter.models.check import check_checkpoint
from tiltmeter.models.formats.awq_gptq import read_format
from tiltmeter.models.formats.gguf.source import is_gguf
from tiltmeter.models.resolve import resolve
from tiltmeter.registry import register
from tiltmeter.variants import apply
from tiltmeter.variants.ready_made import describe

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.study import VariantSpec


@register("backend", "transformers")
class Transformers(Backend):
    """Any causal LM that transformers can load, under every strategy."""

    about = "any causal LM that transformers can load, with the built-in engine; the default"
    runs_on = "CPU, GPU"
    source = "transformers, torch"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._known: dict[str, Identity] = {}

    def check(self) -> None:
        """Raises one UserError for every checkpoint that cannot be taken, and every strategy that cannot work with any
        of the study's models."""
        specs = [spec for spec in self.study.variants() if not is_address(spec.source)]
        wrong: dict[str, UserError] = {}
        for source in dict.fromkeys(spec.source for spec in specs):
            try:
                self._known[source] = self._identity(source)
            except UserError as error:
                wrong.setdefault(error.message, error)
        checkpoints = [model for model in self.study.models if model in self._known]
        chains = {spec.strategy: spec.chain for spec in specs if spec.source in checkpoints}
        refused = [
            apply.refusals(
                model,
                chains.values(),
                device=self.study.device,
                dtype=self.study.dtype,
                calibration=self.study.calibration,
            )
            for model in checkpoints
        ]
        for name in chains:
            if all(name in each for each in refused):
                wrong.setdefault(refused[0][name].message, refused[0][name])
        if wrong:
            raise together(list(wrong.values()))

    def identity(self, source: str) -> Identity:
        """Tokenizer, weight hash and base dtype of a checkpoint, without loading its weights.

        A ready-made checkpoint runs in its base's dtype, whatever it was saved in: a change of type is no part of the
        compression. Raises UserError for a format that cannot be read, and for a checkpoint that cannot be taken.
        """
        if source not in self._known:
            self._known[source] = self._identity(source)
        return self._known[source]

    def _identity(self, source: str) -> Identity:
        compared_with = self.base_of(source)
        if is_gguf(source):
            self.say(f"reading the header of {source}")
        folder = resolve(source, compared_with)
        read_format(folder, source)
        tokenizer = reading.load_tokenizer(folder, source)
        check_checkpoint(folder, source, reading.load_config(folder, source), tokenizer)
        return Identity(
            tokenizer=tokenizer,
            weight_hash=apply.fingerprint(source, compared_with),
            dtype=self.dtype_of(source),
        )

    def load(self, spec: VariantSpec) -> LoadedVariant:
        variant = apply.load(
            spec.source,
            spec.chain,
            device=self.study.device,
            dtype=self.dtype_of(spec.source),
            base=self.base_of(spec.source),
            calibration=self.study.calibration,
            seed=self.study.seed,
            progress=self.say,
        )
        if spec.source == spec.model:
            return variant
        if is_address(spec.model):  # its base is served: only answers can be compared
            from tiltmeter.scoring.reference import option_logprobs

            variant.proof["summary"] = say("served.read_here")
            found = [option_logprobs(variant, ids, [token])[0] for ids, token in _probe.questions(variant.tokenizer)]
            _probe.compare(variant, found, self.probed(spec.model))
        else:  # a ready-made checkpoint: what it is, measured against its base
            describe(variant, spec.model)
        return variant

    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Answering:
        from tiltmeter.scoring.engine import Engine
        from tiltmeter.scoring.remembered import Remembered

        return Engine(variant, batch_tokens=batch_tokens, remembered=Remembered(variant), say=self.say)

    def auto_batch_tokens(self, variant: LoadedVariant) -> int:
        from tiltmeter.scoring.engine import auto_batch_tokens

        return auto_batch_tokens(variant)

    def release(self, variant: LoadedVariant) -> None:
        reading.release(variant)
