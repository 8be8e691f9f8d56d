"""The output layer: its logits where the piece before had its own, its weights laid out beforehand for few rows.

The logits of a piece of whole texts are the largest tensor there is: 1,024 rows of 32,000 are 131 MB. An allocator
gives that much back to the system at once, which clears every page before it hands it out again. Whoever reads logits
before asking for the next ones can have them in one buffer instead. Same bits.

Its weights, the largest of a small model, fit in no cache, and torch's product of few rows copies them into the order
that its inner loop reads before it reads them: each step of decoding reads them twice and writes them once. oneDNN
keeps that copy, one for every number of rows (`benchmarks.linear_kernels` prints what it gains). It costs the time of
some thirty steps and the memory of the layer. The sums are taken in another order, a row's always in the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tiltmeter.scoring.budget import free_bytes
from tiltmeter.scoring.kernels.packed_linear import MEMORY_SHARE, Forward, available, packable

LARGE = 2**25  # bytes; the largest piece that glibc's allocator keeps for itself, and more than a core's cache
FEW_ROWS = range(2, 129)  # a single row is no product of matrices; with more rows the copy is little beside the product


class OutputLayer:
    """The output layer of a model that is not changed any more; plain float32 on a CPU only, without hooks or bias."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._layer: nn.Linear | None = None
        layer = model.get_output_embeddings()
        if isinstance(layer, nn.Linear) and packable(layer) and layer.bias is None:
            self._layer = None if layer._forward_hooks or layer._forward_pre_hooks else layer

    @contextmanager
    def writing_into(self, buffer: list[Tensor], rows: int) -> Iterator[None]:
        """Inside, logits of `rows` rows stand in the one tensor of `buffer`, made here the first time, and whatever
        stood there is gone. Few rows get a tensor of their own."""
        layer = self._layer
        if layer is None or 4 * rows * layer.out_features < LARGE:
            yield
            return
        if not buffer or len(buffer[0]) < rows:
            buffer[:] = [torch.empty(rows, layer.out_features)]
        weight = layer.weight.detach().t()

        def forward(x: Tensor) -> Tensor:
            if x.numel() != rows * len(weight):
                return nn.functional.linear(x, layer.weight)
            return torch.mm(x.reshape(rows, -1), weight, out=buffer[0][:rows]).view(*x.shape[:-1], -1)

        with _called(layer, forward):
            yield

    @contextmanager
    def laid_out(self, rows: int) -> Iterator[None]:
        """Inside, the logits of few rows are computed from weights that were laid out beforehand."""
        forward = self._few_rows() if rows in FEW_ROWS else None
        if forward is None:
            yield
            return
        assert self._layer is not None
        with _called(self._layer, forward):
            yield

    def _few_rows(self) -> Forward | None:
        """None where the layer is small, of another kind, or memory is short; found out once a layer."""
        layer = self._layer
        if layer is None or layer.weight.nbytes < LARGE or not (available() and torch.backends.mkldnn.is_available()):
            return None
        if layer not in _laid_out:
            fits = layer.weight.nbytes <= MEMORY_SHARE * free_bytes("cpu")
            _laid_out[layer] = _by_onednn(layer.weight.detach()) if fits else None
        return _laid_out[layer]


_laid_out: WeakKeyDictionary[nn.Module, Forward | None] = WeakKeyDictionary()  # shared by all who run a model


def _by_onednn(weight: Tensor) -> Forward:
    """Holds no layer, so that it goes when its layer goes."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, 16)  # from 16 rows on the layout is one for all numbers
    product = torch.ops.mkldnn._linear_pointwise
    return lambda x: product(x, laid_out, None, "none", [], "")


@contextmanager
def _called(layer: nn.Linear, forward: Forward) -> Iterator[None]:
    """Inside, `layer` is computed by `forward`, whatever computed it before."""
    before = layer.__dict__.get("forward")
    layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        layer.__dict__.pop("forward")
        if before is not None:
            layer.__dict__["forward"] = before
