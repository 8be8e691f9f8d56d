"""AWQ: 4-bit weights in groups, after scaling the input channels that matter most.

Source      Lin et al. 2023, https://arxiv.org/abs/2306.00978, by llm-compressor (asymmetric W4A16, grid search
            over 20 scales per smoothed layer).
Changes     the linear layers of the decoder blocks and the norms before them; never the output head.
Calibrates  on 16 windows by default: the paper needs no more (its figure 8), and the search costs 20 forwards each.
Saves       three quarters of 16-bit weight memory in an engine with 4-bit kernels; simulated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies import _weights
from tiltmeter.strategies._weights import OneShotQuantizer
from tiltmeter.strategies.calibration import Calibrated


@register("strategy", "awq")
@dataclass(frozen=True)
class AWQ(Calibrated, OneShotQuantizer):
    """bits per weight; group_size: weights that share a scale, along the inputs."""

    samples: int = 16
    bits: int = 4
    group_size: int = 128

    name = "awq"
    summary = "4-bit weights after activation-aware channel scaling"
    source = "https://arxiv.org/abs/2306.00978"
    paper_setting = "ready-made AWQ checkpoints, 4 bit, group size 128"

    def __post_init__(self) -> None:
        super().__post_init__()
        _weights.check_bits(self.name, self.bits)

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.quantization import QuantizationModifier
        from llmcompressor.modifiers.transform.awq import AWQModifier

        groups = _weights.integer_weights(self.bits, self.group_size, symmetric=False)
        return [AWQModifier(), QuantizationModifier(config_groups=groups, ignore=ignore)]

    @property
    def scheme_text(self) -> Text:
        return say("proof.scheme_asymmetric", bits=self.bits, size=self.group_size)
