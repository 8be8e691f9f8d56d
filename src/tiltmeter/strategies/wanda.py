"""Wanda: zero the weights whose product of magnitude and input norm is smallest, per output row.

Source      Sun et al. 2023, https://arxiv.org/abs/2306.11695, by llm-compressor; mask = |W| x ||x||_2 over
            calibration tokens, the lowest half of every row (``wanda``) or two of every four columns (``wanda-2:4``).
Changes     the linear layers of the decoder blocks; never the output head.
Saves       nothing on dense kernels. 2:4 runs faster only on GPUs with sparse tensor cores; see tiltmeter speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.registry import register
from tiltmeter.strategies._pruning import OneShotPruning

STUDY = "128 sequences of 2,048 tokens from C4"


class _Wanda(OneShotPruning):
    source = "https://arxiv.org/abs/2306.11695"

    def modifier(self, blocks: list[str]) -> Any:
        from llmcompressor.modifiers.pruning import WandaPruningModifier

        structure = "2:4" if self.two_four else "0:0"
        return WandaPruningModifier(sparsity=self.wanted, mask_structure=structure, targets=blocks)


@register("strategy", "wanda")
@dataclass(frozen=True)
class Wanda(_Wanda):
    """sparsity: fraction of every output row set to zero."""

    sparsity: float = 0.5

    name = "wanda"
    summary = "unstructured pruning by magnitude x input norm (WU)"
    paper_setting = f"50 %, {STUDY}"
    aliases = ("wu",)


@register("strategy", "wanda-2:4")
@dataclass(frozen=True)
class WandaTwoFour(_Wanda):
    name = "wanda-2:4"
    summary = "semi-structured pruning, 2 of every 4 weights, by magnitude x input norm (WS)"
    paper_setting = f"2:4, {STUDY}"
    aliases = ("ws", "wanda24")
