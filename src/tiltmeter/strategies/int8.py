"""INT8 weights and activations with outlier columns kept in 16 bit: LLM.int8().

Source      Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, by bitsandbytes.
Changes     every linear layer but the output head; inputs are cast to float16 whatever the run's dtype.
Saves       about half of 16-bit weight memory. Batch composition changes which columns are outliers, so
            answers depend on it; ``int8+rerun`` measures by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes
from tiltmeter.strategies.base import Context, Evidence, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@register("strategy", "int8")
@dataclass(frozen=True)
class Int8(Strategy):
    """threshold: activations larger than this keep their column in 16 bit."""

    threshold: float = 6.0

    name = "int8"
    summary = "8-bit weights and activations, outlier columns in 16 bit"
    source = "https://arxiv.org/abs/2208.07339"
    library = "bitsandbytes"
    hardware = "GPU; runs on CPU"
    paper_setting = "bitsandbytes load_in_8bit, threshold 6"
    role = "weights"
    rounds_activations = True

    def __post_init__(self) -> None:
        if self.threshold < 0:
            raise UserError(
                f"int8: threshold is at least 0, got {self.threshold}", fix="the usual value is threshold=6"
            )

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return _bitsandbytes.refuse_second_quantizer(self.name, earlier)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        linear.require_reach(context.config, self.name)

    def before_loading(self, context: Context) -> None:
        _bitsandbytes.require()

    def loading_options(self, context: Context) -> Mapping[str, object]:
        from transformers import BitsAndBytesConfig

        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=self.threshold)}

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        variant.notes.append(say("note.int8_batches"))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        import bitsandbytes as bnb

        return _bitsandbytes.evidence(
            variant.model, bnb.nn.Linear8bitLt, say("proof.scheme_bitsandbytes", x=f"{self.threshold:g}")
        )
