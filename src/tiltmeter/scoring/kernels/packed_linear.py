"""Linear layers whose weights are laid out beforehand for the number of rows they are asked for.

A float32 matrix product on a CPU first copies the weights into the order its inner loop reads them in. That copy takes
a twentieth (1,024 rows) to a fifth (80 rows) of the time (`benchmarks.breakdown` prints it). MKL can keep the copy, for
one number of rows. The engine's forwards have few sizes: pieces of trees are cut to exactly the token budget, and
decoding replaces finished rows at once. `PackedLinears` watches which numbers of rows come often and keeps the weights
packed for those; every other forward takes the layer's own way. The products are the same, bit for bit with one
thread (a test holds them to it), and but for the order of summation with more.

Cost rule   Packing reads and writes every weight once, about as long as the arithmetic of a few hundred tokens, so it
            pays back within a few thousand. It starts after 2,000 have come with one number of rows, among the last
            8,000: near what knowing the future would have done (ski rental), and the odd sizes of last pieces stay out.
Memory      One more copy of the packed weights per number of rows; only where it takes no more than an eighth of what
            is free.

`torch.ops.mkl` is what torch.compile's frozen graphs call; a torch built without MKL has no such operators and keeps
its own layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tiltmeter.scoring.budget import free_bytes

KEPT = 2  # numbers of rows: one of tree pieces, one of decoding steps
PAYS_AFTER_TOKENS = 2000
WINDOW_TOKENS = 8000
MEMORY_SHARE = 1 / 8  # of what is free
FEWEST_ROWS = 16  # below, the product waits for the weights in either order

Forward = Callable[[Tensor], Tensor]


class PackedLinears:
    """The plain float32 linear layers of a model that is not changed any more.

    Layers of other kinds (quantized, wrapped, on another device) are left alone.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = model.modules() if available() else ()
        self._layers = [module for module in modules if isinstance(module, nn.Linear) and packable(module)]
        self._bytes = sum(layer.weight.nbytes for layer in self._layers)
        self._forwards: dict[int, list[Forward]] = {}  # by number of rows, one per layer
        self._tokens: Counter[int] = Counter()  # that came lately, by number of rows

    @contextmanager
    def expecting(self, rows: int) -> Iterator[None]:
        """Inside, layers that are given `rows` rows use their packed weights where those exist."""
        self._watch(rows)
        forwards = self._forwards.get(rows)
        if forwards is None:
            yield
            return
        try:
            for layer, forward in zip(self._layers, forwards, strict=True):
                layer.__dict__["forward"] = forward
            yield
        finally:
            for layer in self._layers:
                layer.__dict__.pop("forward", None)

    def _watch(self, rows: int) -> None:
        """Count `rows`, and pack for them once that pays."""
        if not self._layers:
            return
        if self._tokens.total() > WINDOW_TOKENS:
            self._tokens.clear()
        self._tokens[rows] += rows
        if rows in self._forwards or rows < FEWEST_ROWS or self._tokens[rows] < PAYS_AFTER_TOKENS:
            return
        if len(self._forwards) == KEPT:
            del self._forwards[min(self._forwards, key=lambda kept: self._tokens[kept])]
        self._tokens.clear()
        if self._bytes <= MEMORY_SHARE * free_bytes("cpu"):
            self._forwards[rows] = [_packed(layer, rows) for layer in self._layers]


def available() -> bool:
    """Whether this torch has the operators."""
    return torch.backends.mkl.is_available() and getattr(torch.ops.mkl, "_mkl_linear", None) is not None


def packable(module: nn.Module) -> bool:
    """A plain linear layer with plain float32 weights on the CPU, called in the plain way."""
    return (
        type(module) is nn.Linear
        and "forward" not in module.__dict__
        and type(module.weight) is nn.Parameter
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
    )


@contextmanager
def called(layer: nn.Linear, forward: Forward) -> Iterator[None]:
    """Inside, `layer` is computed by `forward`, whatever computed it before."""
    before = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        layer.__dict__.pop("forward")
        if before is not None:
            layer.__dict__["forward"] = before


def _packed(layer: nn.Linear, rows: int) -> Forward:
    weight, bias = layer.weight.detach(), layer.bias
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
    linear = torch.ops.mkl._mkl_linear

    def forward(x: Tensor) -> Tensor:
        if x.numel() != rows * weight.shape[1]:  # the output layer is asked for fewer
            return nn.functional.linear(x, weight, bias)
        return linear(x, packed, weight, bias, rows)  # type: ignore[no-any-return]

    return forward


_of: WeakKeyDictionary[nn.Module, PackedLinears] = WeakKeyDictionary()


def packed_linears(model: nn.Module) -> PackedLinears:
    """The one of `model`: whoever runs it shares the packed weights, and they go when it goes."""
    if model not in _of:
        _of[model] = PackedLinears(model)
    return _of[model]
