"""FP8: 8-bit floating-point (E4M3) weights per output channel and activations per token.

Source      Micikevicius et al. 2022, https://arxiv.org/abs/2209.05433, by llm-compressor (FP8_DYNAMIC).
Changes     the linear layers of the decoder blocks; never the output head. No text is looked at.
Saves       half of 16-bit weight memory, and time on GPUs with FP8 tensor cores; simulated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies._weights import OneShotQuantizer


@register("strategy", "fp8")
@dataclass(frozen=True)
class FP8(OneShotQuantizer):
    name = "fp8"
    summary = "8-bit floating-point weights and activations"
    source = "https://arxiv.org/abs/2209.05433"
    paper_setting = "not part of the study"
    rounds_activations = True

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.quantization import QuantizationModifier

        return [QuantizationModifier(targets=["Linear"], scheme="FP8_DYNAMIC", ignore=ignore)]

    @property
    def scheme_text(self) -> Text:
        return say("proof.scheme_fp8")
