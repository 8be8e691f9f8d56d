"""W4A16: 4-bit weights in groups by plain rounding to nearest. No text is looked at.

Source      the baseline of https://arxiv.org/abs/2210.17323 (RTN), by llm-compressor.
Changes     the linear layers of the decoder blocks; never the output head.
Saves       three quarters of 16-bit weight memory in an engine with 4-bit kernels; simulated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies import _weights
from tiltmeter.strategies._weights import OneShotQuantizer


@register("strategy", "w4a16")
@dataclass(frozen=True)
class W4A16(OneShotQuantizer):
    """bits per weight; group_size: weights that share a scale, along the inputs."""

    bits: int = 4
    group_size: int = 128

    name = "w4a16"
    summary = "4-bit weights, rounded to nearest"
    source = "https://arxiv.org/abs/2210.17323"
    paper_setting = "not part of the study"
    aliases = ("rtn",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _weights.check_bits(self.name, self.bits)

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.quantization import QuantizationModifier

        groups = _weights.integer_weights(self.bits, self.group_size, symmetric=True)
        return [QuantizationModifier(config_groups=groups, ignore=ignore)]

    @property
    def scheme_text(self) -> Text:
        return say("proof.scheme_nearest", bits=self.bits, size=self.group_size)
