"""The last layer, for the rows that somebody reads.

What other rows need of the last layer are their keys and values; its queries, attention, output projection and
feed-forward network are read for those rows alone whose logits are asked for. For options that is one row per prompt,
so nearly all of a layer's work is for nothing there: a thirtieth of 30 layers, a sixth of 6.

Position-wise by construction in every transformer; a model whose modules mix rows fails the engine's self-test, like
every other thing that is not as it seems.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tiltmeter.scoring.kernels.blockwise import Blockwise

WORTH = 0.75  # with more of the rows read than this, picking them costs about what it saves


@dataclass(frozen=True)
class LastLayer:
    """What of the last layer works row by row, by the names that nearly every architecture gives it.

    Attributes:
        networks: the feed-forward network (`mlp`), the projections to queries and from heads (`q_proj`, `o_proj`).
        attention: the module around them (`self_attn`), which says when attention is the last layer's.
    """

    networks: tuple[nn.Module, ...] = ()
    attention: nn.Module | None = None


def last_layer(model: PreTrainedModel) -> LastLayer:
    """The parts found in the last of the decoder's layers."""
    for child in model.get_decoder().children():
        if isinstance(child, nn.ModuleList) and len(child):
            attention = getattr(child[-1], "self_attn", None)
            named = (
                getattr(child[-1], "mlp", None),
                getattr(attention, "q_proj", None),
                getattr(attention, "o_proj", None),
            )
            return LastLayer(tuple(part for part in named if part is not None), attention)
    return LastLayer()


@contextmanager
def only_rows(layer: LastLayer, rows: Tensor, size: int, blocks: Blockwise | None = None) -> Iterator[None]:
    """Inside, the networks compute `rows` of the `size` they are given, (1, size, features), and so does `blocks`
    in the layer's attention; the others come out as zeros."""
    if len(rows) > WORTH * size:
        yield
        return
    picked = rows if len(rows) else rows.new_zeros(1)  # not every kernel takes an empty batch
    on_host = picked.cpu().numpy()  # before anything is launched that it would wait for

    def pick(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(part[:, picked] if isinstance(part, Tensor) else part for part in inputs)

    def place(_network: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):  # experts may add their router's scores
            return (spread(output[0]), *output[1:])
        return spread(output)

    def spread(found: Tensor) -> Tensor:
        return found.new_zeros(1, size, found.shape[-1]).index_copy_(1, picked, found)

    def begin(*_: Any) -> None:
        assert blocks is not None
        blocks.rows = on_host

    def end(*_: Any) -> None:
        assert blocks is not None
        blocks.rows = None

    hooks = [
        hook
        for network in layer.networks
        for hook in (network.register_forward_pre_hook(pick), network.register_forward_hook(place))
    ]
    if blocks is not None and layer.attention is not None:
        hooks += [
            layer.attention.register_forward_pre_hook(begin),
            layer.attention.register_forward_hook(end, always_call=True),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
