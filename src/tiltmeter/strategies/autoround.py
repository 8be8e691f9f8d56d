"""AutoRound: 2- to 4-bit weights in groups, whose rounding is learned block by block with signed gradients.

Source      Cheng et al. 2023, https://arxiv.org/abs/2309.05516, by llm-compressor (AutoRoundModifier) and auto-round.
Changes     the linear layers of the decoder blocks; never the output head.
Calibrates  `iters` steps a block over batches of 8 windows: the slowest strategy here.
Saves       three quarters of 16-bit weight memory or more in an engine with such kernels; simulated here.
Traps       1. On integer weights it leaves a float32 model's linear layers in bfloat16, whose next forward raises:
               they are put back into the run's type.
            2. The library's learning rate is 1/iters: few iterations take large steps, and end worse than rounding to
               nearest. The rate here is that of 200 iterations, the paper's, or less.
            3. It compiles by default, and prints: compiling is off, both streams are held back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies import _compress, _weights
from tiltmeter.strategies._weights import OneShotQuantizer
from tiltmeter.strategies.base import Context
from tiltmeter.strategies.calibration import Calibrated

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tiltmeter.strategies.calibration import Windows

USUAL_ITERS = 200  # of the paper; its learning rate is 1/200


@register("strategy", "autoround")
@dataclass(frozen=True)
class AutoRound(Calibrated, OneShotQuantizer):
    """bits per weight; group_size: weights that share a scale, along the inputs; iters: steps of each block."""

    bits: int = 4
    group_size: int = 128
    iters: int = USUAL_ITERS

    name = "autoround"
    summary = "2- to 8-bit weights whose rounding is learned"
    source = "https://arxiv.org/abs/2309.05516"
    paper_setting = "not part of the study"

    def __post_init__(self) -> None:
        super().__post_init__()
        _weights.check_bits(self.name, self.bits)
        if self.iters < 1:
            raise UserError(f"autoround: iters is at least 1, got {self.iters}", fix="the usual value is iters=200")

    def check(self, context: Context) -> None:
        super().check(context)
        _compress.check_library("auto_round", self.name)

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.autoround import AutoRoundModifier

        groups = _weights.integer_weights(self.bits, self.group_size, symmetric=True)
        return [
            AutoRoundModifier(
                config_groups=groups,
                ignore=ignore,
                iters=self.iters,
                lr=1 / max(self.iters, USUAL_ITERS),
                enable_torch_compile=False,
                batch_size=min(8, self.samples),
            )
        ]

    def change(self, model: PreTrainedModel, context: Context, windows: Windows | None) -> None:
        kind = model.dtype
        super().change(model, context, windows)
        cast(Any, model).to(kind)

    @property
    def scheme_text(self) -> Text:
        return say("proof.scheme_learned", bits=self.bits, size=self.group_size, iters=self.iters)
