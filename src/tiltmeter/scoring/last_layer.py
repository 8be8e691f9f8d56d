"""The last layer's feed-forward network, for the rows that somebody reads.

What other rows need of the last layer are their keys and values; what comes after its attention is read for those rows
alone whose logits are asked for. For options that is one row per prompt, so most of the network's work there is for
nothing: it holds half to three quarters of a layer's weights, a fortieth of 30 layers, an eighth of 6.

Position-wise by construction in every transformer; a model whose network mixes rows fails the engine's self-test, like
every other thing that is not as it seems.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

WORTH = 0.75  # with more of the rows read than this, picking them costs about what it saves


def last_feed_forward(model: PreTrainedModel) -> nn.Module | None:
    """The module that nearly every architecture names `mlp`, in the last of the decoder's layers."""
    for child in model.get_decoder().children():
        if isinstance(child, nn.ModuleList) and len(child):
            return getattr(child[-1], "mlp", None)
    return None


@contextmanager
def only_rows(network: nn.Module | None, rows: Tensor, size: int) -> Iterator[None]:
    """Inside, `network` computes `rows` of the `size` it is given, (1, size, hidden); the others come out as zeros."""
    if network is None or len(rows) > WORTH * size:
        yield
        return
    picked = rows if len(rows) else rows.new_zeros(1)  # not every kernel takes an empty batch

    def pick(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(part[:, picked] if isinstance(part, Tensor) else part for part in inputs)

    def place(_network: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):  # experts may add their router's scores
            return (spread(output[0]), *output[1:])
        return spread(output)

    def spread(found: Tensor) -> Tensor:
        return found.new_zeros(1, size, found.shape[-1]).index_copy_(1, picked, found)

    hooks = network.register_forward_pre_hook(pick), network.register_forward_hook(place)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
