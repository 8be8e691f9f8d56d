"""W8A8: 8-bit integer weights per output channel and 8-bit activations per token.

Source      Xiao et al. 2022 (SmoothQuant), https://arxiv.org/abs/2211.10438, by llm-compressor.
Changes     the linear layers of the decoder blocks (and the norms before them with `smooth`); never the head.
Saves       half of 16-bit weight memory and integer products in an engine that has them; simulated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies._weights import OneShotQuantizer
from tiltmeter.strategies.calibration import Calibrated


@register("strategy", "w8a8")
@dataclass(frozen=True)
class W8A8(Calibrated, OneShotQuantizer):
    """smooth: SmoothQuant's strength, 0 to 1; 0 leaves it out, and then no text is looked at."""

    smooth: float = 0.0

    rounds_activations = True
    name = "w8a8"
    summary = "8-bit weights and activations; smooth=0.8 adds SmoothQuant"
    source = "https://arxiv.org/abs/2211.10438"
    paper_setting = "not part of the study (its INT8 is LLM.int8(): strategy int8)"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.smooth <= 1.0:
            raise UserError(
                f"{self.name}: smooth is between 0 and 1, got {self.smooth}", fix="the usual value is smooth=0.8"
            )

    @property
    def calibrates(self) -> bool:
        return self.smooth > 0

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.quantization import QuantizationModifier
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        quantize = QuantizationModifier(targets=["Linear"], scheme="W8A8", ignore=ignore)
        return [SmoothQuantModifier(smoothing_strength=self.smooth), quantize] if self.smooth else [quantize]

    @property
    def scheme_text(self) -> Text:
        smoothing = f", SmoothQuant {self.smooth}" if self.smooth else ""
        return say("proof.scheme_w8a8", smoothing=smoothing)


@register("strategy", "smoothquant")
@dataclass(frozen=True)
class SmoothQuant(W8A8):
    """smooth: SmoothQuant's strength; ``smoothquant`` is ``w8a8:smooth=0.8`` under the paper's name."""

    smooth: float = 0.8

    name = "smoothquant"
    summary = "8-bit weights and activations after moving outliers into the weights (w8a8:smooth=0.8)"
