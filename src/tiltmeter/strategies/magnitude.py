"""Magnitude pruning: zero the smallest weights of every layer. The baseline that better methods must beat.

Source      Han et al. 2015, https://arxiv.org/abs/1506.02626, by torch.nn.utils.prune (L1, per layer).
Changes     the linear layers of the decoder blocks and every expert of a mixture; never the output head.
Saves       nothing on dense kernels.
Departure   none; llm-compressor's magnitude modifier does nothing in one shot, so torch's own is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes, _compress, _pruning
from tiltmeter.strategies.base import Context, Evidence, Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tiltmeter.models.variant import LoadedVariant


@register("strategy", "magnitude")
@dataclass(frozen=True)
class Magnitude(Strategy):
    """sparsity: fraction of every layer's weights set to zero."""

    sparsity: float = 0.5

    name = "magnitude"
    summary = "unstructured pruning by weight magnitude alone"
    source = "https://arxiv.org/abs/1506.02626"
    library = "torch.nn.utils.prune"
    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "pruning"
    makes_checkpoint = True
    simulated = True
    read_by = ("transformers", "vLLM")

    def __post_init__(self) -> None:
        _compress.check_fraction(self.name, "sparsity", self.sparsity)

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return _pruning.cannot_prune_after(self.name, earlier)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        linear.require_linear_layers(context.config, self.name, with_experts=True)

    def before_loading(self, context: Context) -> None:
        _compress.compressed(self, context, self._prune, None)

    def _prune(self, model: PreTrainedModel) -> None:
        import torch
        from torch.nn.utils import prune

        smallest = prune.L1Unstructured(amount=self.sparsity)
        with torch.no_grad():
            for matrix in linear.matrices(model).values():
                matrix.mul_(smallest.compute_mask(matrix, default_mask=torch.ones_like(matrix)))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        return _pruning.proof_of_sparsity(self.name, context.made[self.name], self.sparsity, False)
