"""The output layer's logits, written where the piece before had its own.

The logits of a piece of whole texts are the largest tensor there is: 1,024 rows of 32,000 are 131 MB. An allocator
gives that much back to the system at once, which clears every page before it hands it out again. Whoever reads logits
before asking for the next ones can have them in one buffer instead. Same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tiltmeter.scoring.kernels.packed_linear import called, packable

LARGE = 2**25  # bytes; the largest piece that glibc's allocator keeps for itself


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

        with called(layer, forward):
            yield
