"""SparseGPT: prune column by column and let the remaining weights make up for the loss.

Source      Frantar & Alistarh 2023, https://arxiv.org/abs/2301.00774, by llm-compressor (its default damping
            and block size).
Changes     the linear layers of the decoder blocks; never the output head.
Saves       nothing on dense kernels. 2:4 runs faster only on GPUs with sparse tensor cores; see tiltmeter speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.registry import register
from tiltmeter.strategies._pruning import OneShotPruning


class _SparseGPT(OneShotPruning):
    source = "https://arxiv.org/abs/2301.00774"
    paper_setting = "not part of the study (named as future work)"

    def modifier(self, blocks: list[str]) -> Any:
        from llmcompressor.modifiers.pruning import SparseGPTModifier

        return SparseGPTModifier(sparsity=self.wanted, mask_structure="2:4" if self.two_four else "0:0", targets=blocks)


@register("strategy", "sparsegpt")
@dataclass(frozen=True)
class SparseGPT(_SparseGPT):
    """sparsity: fraction of every layer's weights set to zero."""

    sparsity: float = 0.5

    name = "sparsegpt"
    summary = "unstructured pruning with weight update"


@register("strategy", "sparsegpt-2:4")
@dataclass(frozen=True)
class SparseGPTTwoFour(_SparseGPT):
    name = "sparsegpt-2:4"
    summary = "semi-structured pruning, 2 of every 4 weights, with weight update"
