"""Depth pruning: whole decoder blocks are left out.

Source      Men et al. 2024 (ShortGPT), https://arxiv.org/abs/2403.03853; Gromov et al. 2024,
            https://arxiv.org/abs/2403.17887, by slicing the list of blocks.
Changes     `n` neighbouring blocks go, from the middle or from the end; the others, embeddings and head stay.
Saves       their share of weights, cache and time, everywhere: no kernel is needed.
Departure   which blocks go follows from `from` alone; the papers rank them by how little they change their input.
Trap        a block that keeps its old number writes to the old place in the KV cache: single forwards work, generating
            raises. Blocks are renumbered, as are the configuration's lists of one entry a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes, _compress
from tiltmeter.strategies._structure import Counted, Structural
from tiltmeter.strategies.base import Context, Evidence

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class FewerBlocks(Counted, Evidence):
    """Which blocks are gone, and how many are left."""

    dropped_blocks: list[int]
    blocks: int


@register("strategy", "drop-layers")
@dataclass(frozen=True)
class DropLayers(Structural):
    """n: blocks left out; from: which ones, the middle (first half one less where it does not halve) or the last."""

    n: int = 1
    from_: Literal["middle", "end"] = "middle"

    name = "drop-layers"
    summary = "whole decoder blocks left out (depth pruning)"
    source = "https://arxiv.org/abs/2403.03853"
    library = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1:
            raise UserError(f"drop-layers: n is at least 1, got {self.n}", fix="write drop-layers:n=1")

    def dropped(self, layers: int) -> range:
        """Numbers of the blocks that go, of a model with `layers` of them."""
        first = (layers - self.n) // 2 if self.from_ == "middle" else layers - self.n
        return range(first, first + self.n)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        blocks = linear.blocks(linear.skeleton(context.config))
        if self.n >= len(blocks):
            raise UserError(
                f"drop-layers: n={self.n} of {len(blocks)} decoder blocks leaves none",
                fix=f"drop fewer: drop-layers:n={max(len(blocks) // 8, 1)}",
            )

    def before_loading(self, context: Context) -> None:
        _compress.compressed(self, context, self._slice, None)
        self.smaller(context)

    def _slice(self, model: PreTrainedModel) -> None:
        from torch import nn

        blocks = linear.blocks(model)
        gone = self.dropped(len(blocks))
        owner, _, attribute = next(iter(blocks)).rpartition(".")[0].rpartition(".")
        left = nn.ModuleList(block for number, block in enumerate(blocks.values()) if number not in gone)
        setattr(model.get_submodule(owner), attribute, left)
        config = model.config.get_text_config(decoder=True)
        for name, value in vars(config).items():
            if isinstance(value, list) and len(value) == len(blocks):  # layer_types and their like: one entry a block
                setattr(config, name, [each for number, each in enumerate(value) if number not in gone])
        config.num_hidden_layers = len(left)
        for number, block in enumerate(left):
            for module in block.modules():
                if getattr(module, "layer_idx", None) is not None:
                    cast(Any, module).layer_idx = number

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        left = len(linear.blocks(variant.model))
        gone = self.dropped(left + self.n)
        summary = say("proof.dropped", n=self.n, all=left + self.n, first=gone[0], last=gone[-1])
        return FewerBlocks(summary, **vars(self.counted(variant, context)), dropped_blocks=list(gone), blocks=left)
