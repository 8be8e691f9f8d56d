"""The one door to the faster arithmetic of a loaded model: whoever runs trees asks here, and for nothing else.

What each file buys (`benchmarks.breakdown`, `benchmarks/results/breakdown-llama-135m.json`: one thread, a random Llama
of 135M parameters): packed_linear 4 to 21 % of the matrix products, most with few rows; few_rows what
`benchmarks.linear_kernels` prints; elementwise 4 % of a forward of 1,024 tokens; output_layer no pages to clear for the
logits of a piece of whole texts; last_layer all of the last layer but one row per prompt, a thirtieth of that model
and a sixth of one with six layers. All but the last act on plain float32 on a CPU only; elsewhere they are not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor
from transformers import PreTrainedModel

from tiltmeter.scoring.kernels.attention import Handler, chosen
from tiltmeter.scoring.kernels.blockwise import Blockwise
from tiltmeter.scoring.kernels.elementwise import Elementwise
from tiltmeter.scoring.kernels.few_rows import FewRows
from tiltmeter.scoring.kernels.last_layer import last_layer, only_rows
from tiltmeter.scoring.kernels.output_layer import OutputLayer
from tiltmeter.scoring.kernels.packed_linear import packed_linears


class Accelerated:
    """What of one model can be replaced; found once, on a model that is not changed any more."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._linears = packed_linears(model)
        self._few_rows = FewRows(model)
        self._elementwise = Elementwise(model)
        self.last = last_layer(model)
        self._output = OutputLayer(model)

    @contextmanager
    def step(self, rows: int, attend: Handler) -> Iterator[None]:
        """Inside, a forward of one new token for each of `rows` rows attends through `attend`."""
        with ExitStack() as stack:
            stack.enter_context(chosen(self._model, attend))
            stack.enter_context(self._elementwise.replaced())
            if not self._few_rows.takes_all(rows):
                stack.enter_context(self._linears.expecting(rows))
            stack.enter_context(self._few_rows.at(rows))
            yield

    @contextmanager
    def piece(self, size: int, wanted: Tensor, attend: Blockwise | None, buffer: list[Tensor] | None) -> Iterator[None]:
        """Inside, a forward of `size` tokens of which the `wanted` logits are read.

        Args:
            attend: None: the model's own attention, over its mask.
            buffer: where large logits may stand, see `OutputLayer`; None: in a tensor of their own.
        """
        with ExitStack() as stack:
            if attend is not None:
                stack.enter_context(chosen(self._model, attend))
            stack.enter_context(self._linears.expecting(size))
            stack.enter_context(self._elementwise.replaced())
            stack.enter_context(only_rows(self.last, wanted, size, attend))
            if buffer is not None:
                stack.enter_context(self._output.writing_into(buffer, len(wanted)))
            yield


def accelerated(model: PreTrainedModel) -> Accelerated:
    """The faster ways of `model`."""
    return Accelerated(model)
