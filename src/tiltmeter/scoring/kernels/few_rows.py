"""Linear layers of a decoding step, whose weights oneDNN has laid out beforehand.

With few rows a product waits for its weights. torch's own copies them into the order that its inner loop reads before
it reads them, and gains nothing from a second thread; MKL's layout is made for one number of rows. oneDNN's serves all
numbers, and a row's sums are taken in the same order whatever stands beside it. `benchmarks.linear_kernels` prints
what that gains: up to 32 rows every layer of a model that fits in no cache, up to 128 rows the layers that fit in none
themselves (the output layer of a small model). Small models keep their own way.

Whether a layer is laid out follows from the model and the number of rows, not from what was asked before, so that a
run that goes on computes as it began. It costs a copy of the weights, where that takes no more than an eighth of the
free memory, and the time of some thirty steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tiltmeter.scoring.budget import free_bytes
from tiltmeter.scoring.kernels.packed_linear import MEMORY_SHARE, Forward, available, called, packable

NO_CACHE_HOLDS = 2**25  # bytes
ALL_LAYERS = range(2, 33)  # rows; a single one is no product of matrices
LARGE_LAYERS = range(2, 129)  # rows; with more the copy is little beside the product


class FewRows:
    """The plain float32 linear layers of a model that is not changed any more."""

    def __init__(self, model: nn.Module) -> None:
        usable = available() and torch.backends.mkldnn.is_available()
        modules = model.modules() if usable else ()
        layers = [module for module in modules if isinstance(module, nn.Linear) and packable(module)]
        self._all = layers if _bytes(layers) >= NO_CACHE_HOLDS else []
        self._large = [layer for layer in layers if layer.weight.nbytes >= NO_CACHE_HOLDS]

    def takes_all(self, rows: int) -> bool:
        """Whether a step of `rows` rows leaves no layer to others."""
        return rows in ALL_LAYERS and bool(self._all) and len(self._laid_out(self._all)) == len(self._all)

    @contextmanager
    def at(self, rows: int) -> Iterator[None]:
        """Inside, a step of `rows` rows is computed from what was laid out."""
        chosen = self._all if rows in ALL_LAYERS else self._large if rows in LARGE_LAYERS else []
        with ExitStack() as stack:
            for layer, forward in self._laid_out(chosen):
                stack.enter_context(called(layer, forward))
            yield

    def _laid_out(self, layers: list[nn.Linear]) -> list[tuple[nn.Linear, Forward]]:
        """`layers`, each with what computes it; none of them where memory was short when they were first needed."""
        missing = [layer for layer in layers if layer not in _forwards]
        if missing:
            fits = _bytes(missing) <= MEMORY_SHARE * free_bytes("cpu")
            for layer in missing:
                _forwards[layer] = _by_onednn(layer.weight.detach(), layer.bias) if fits else None
        return [(layer, forward) for layer in layers if (forward := _forwards[layer])]


_forwards: WeakKeyDictionary[nn.Linear, Forward | None] = WeakKeyDictionary()  # shared by all who run a model


def _bytes(layers: list[nn.Linear]) -> int:
    return sum(layer.weight.nbytes for layer in layers)


def _by_onednn(weight: Tensor, bias: Tensor | None) -> Forward:
    """Holds no layer, so that it goes when its layer goes."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, 16)  # from 16 rows on the layout is one for all numbers
    product = torch.ops.mkldnn._linear_pointwise
    return lambda x: product(x, laid_out, bias, "none", [], "")
