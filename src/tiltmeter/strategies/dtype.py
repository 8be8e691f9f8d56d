"""Another floating-point type alone, as a control: how much of a change is mere rounding?

Source      the study's published code mixed float32, bfloat16 and float16 between base and variants.
Changes     weights and activations are cast to `type`.
Saves       memory by half against float32; on this project's test CPU bfloat16 was slower, not faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tiltmeter.messages import say
from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, DidNothing, Evidence, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class Cast(Evidence):
    """The types that the loaded parameters have."""

    parameter_types: list[str]


@register("strategy", "dtype")
@dataclass(frozen=True)
class Dtype(Strategy):
    """Run in `type` whatever the run's dtype is."""

    type: Literal["bfloat16", "float16", "float32"]

    name = "dtype"
    summary = "control: another floating-point type alone, e.g. dtype:bfloat16"
    source = "https://arxiv.org/abs/2410.22118"
    library = "torch"
    hardware = "CPU, GPU"
    paper_setting = "the published code mixed types without naming them"
    role = "dtype"
    shorthand = "type"

    @property
    def runs_in(self) -> str:
        return self.type

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        if earlier:
            return f"the floating-point type is set at loading, so dtype comes before {earlier[0].name}"
        return None

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        kinds = sorted(
            {str(p.dtype).removeprefix("torch.") for p in variant.model.parameters() if p.is_floating_point()}
        )
        if context.base_dtype == self.type:
            raise DidNothing(f"dtype: the base runs in {self.type} already")
        return Cast(say("proof.dtype", base=context.base_dtype, type=self.type), kinds)
