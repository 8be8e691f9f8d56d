"""GPTQ: 4-bit weights in groups, rounded column by column with the error passed on.

Source      Frantar et al. 2022, https://arxiv.org/abs/2210.17323, by llm-compressor (symmetric W4A16).
Changes     the linear layers of the decoder blocks; never the output head.
Saves       three quarters of 16-bit weight memory in an engine with 4-bit kernels; simulated here.
Trap        Passing errors on fills pruned weights again (86-98 % of 2:4 groups were left), so it is refused
            after pruning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies import _weights
from tiltmeter.strategies._weights import OneShotQuantizer
from tiltmeter.strategies.base import Strategy
from tiltmeter.strategies.calibration import Calibrated


@register("strategy", "gptq")
@dataclass(frozen=True)
class GPTQ(Calibrated, OneShotQuantizer):
    """bits per weight; group_size: weights that share a scale, along the inputs."""

    bits: int = 4
    group_size: int = 128

    name = "gptq"
    summary = "4-bit weights, rounding errors passed on to later columns"
    source = "https://arxiv.org/abs/2210.17323"
    paper_setting = "not part of the study (named as future work)"

    def __post_init__(self) -> None:
        super().__post_init__()
        _weights.check_bits(self.name, self.bits)

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        pruned = next((part.name for part in earlier if part.prunes), None)
        if pruned:
            return f"gptq moves rounding errors into weights that {pruned} has set to zero, which undoes the pruning"
        return super().cannot_follow(earlier)

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.quantization import GPTQModifier

        groups = _weights.integer_weights(self.bits, self.group_size, symmetric=True)
        return [GPTQModifier(config_groups=groups, ignore=ignore)]

    @property
    def scheme_text(self) -> Text:
        return say("proof.scheme_symmetric", bits=self.bits, size=self.group_size)
