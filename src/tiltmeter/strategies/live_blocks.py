"""One loaded model whose blocks are quantized or not at the flip of a switch: for a search over blocks to keep.

How         llm-compressor's model keeps its original weights and rounds them, and what enters its layers, in each
            forward; compressed-tensors turns that off and on per module. Nothing is saved, copied or quantized anew: a
            candidate costs 0.3 ms on a model of 135M parameters, against a second and a loading through the library.
Exact       for schemes that look at no text (rounding to nearest, FP8_DYNAMIC, MX …): the logits are those of the same
            strategy with keep=… bit for bit. GPTQ, AWQ and AutoRound fit each block to what quantized blocks before it
            hand on, so that switching would only be an approximation: refused.
Use         find the blocks here, then run the winner: ``w4a16:keep=0+29``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError
from tiltmeter.models import linear
from tiltmeter.models.quiet import held_back
from tiltmeter.models.reading import load_model
from tiltmeter.strategies import _compress
from tiltmeter.strategies._weights import OneShotQuantizer
from tiltmeter.strategies.base import Context
from tiltmeter.strategies.chain import Chain

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass
class LiveBlocks:
    """A model under a quantizer, in memory.

    Attributes:
        model: for forwards; all its blocks are quantized at first.
        strategy: canonical.
        blocks: the decoder blocks in their order.
        kept: numbers of the blocks that run as they are now.
    """

    model: PreTrainedModel
    strategy: str
    blocks: tuple[nn.Module, ...]
    kept: frozenset[int] = field(default_factory=frozenset)

    def keep(self, numbers: Collection[int]) -> None:
        """From now on these blocks run in full precision, all others quantized.

        Raises UserError for a number that is no block's.
        """
        from compressed_tensors.quantization import disable_quantization, enable_quantization

        wanted = frozenset(numbers)
        beyond = [number for number in wanted if not 0 <= number < len(self.blocks)]
        if beyond:
            raise UserError(f"there is no block {beyond[0]}", fix=f"blocks are 0-{len(self.blocks) - 1}")
        for number in wanted ^ self.kept:
            self.blocks[number].apply(disable_quantization if number in wanted else enable_quantization)
        self.kept = wanted


def live_blocks(chain: Chain, context: Context) -> LiveBlocks:
    """The model of `context` (of `variants.apply.context_for`) under one quantizer that looks at no text.

    Raises UserError for other strategies, and as loading does.
    """
    part = chain.parts[0] if len(chain.parts) == 1 else None
    if not isinstance(part, OneShotQuantizer) or part.calibrates or part.keep:
        raise UserError(
            f"{chain.canonical}: blocks can be switched under one quantizer that looks at no text and keeps none",
            fix="for instance w4a16, fp8 or nvfp4a16",
        )
    part.check(context)
    _compress.require_library(part.name)
    model = load_model(context.checkpoint, context.dtype, context.device)
    model.config.name_or_path = model.name_or_path = str(context.checkpoint)
    with held_back():
        part.fitted(context).change(model, context, None)
    return LiveBlocks(model, chain.canonical, tuple(linear.blocks(model).values()))
