"""Ways to compute the same numbers, from the fastest to the definition. `selftest.py` chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch

from tiltmeter.messages import Message, Text
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import reference
from tiltmeter.scoring.device import captures
from tiltmeter.scoring.kernels.decode_attention import kernel_fits
from tiltmeter.scoring.padded import PaddedModel
from tiltmeter.scoring.trees import tree_generation, tree_scoring
from tiltmeter.scoring.trees.captured import CapturedSteps
from tiltmeter.scoring.trees.steps import Steps
from tiltmeter.scoring.trees.tree_model import TreeModel
from tiltmeter.scoring.writing import Writing


class Method(Protocol):
    """Answers about token ids. Log-probabilities in nats; prompts and sequences come sorted.

    Attributes:
        name: what the run calls it.
        tokens_computed: tokens that went through the model so far.
        notes: what it could not do as it should, since it was made.
    """

    name: Text

    @property
    def notes(self) -> Sequence[Text]: ...

    @property
    def tokens_computed(self) -> int: ...

    def sequence_logprobs(self, sequences: Sequence[Sequence[int]], budget: int) -> list[float]:
        """Summed log-probability of each sequence."""

    def option_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], budget: int
    ) -> list[list[float]]:
        """Log-probability of each prompt's option ids after it."""

    def write(
        self, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], *, rows: int, budget: int
    ) -> None:
        """Finish the writings of each prompt."""


Decoding = Literal["parts", "kernel", "captured"]
NAMES: dict[Decoding, Text] = {
    "parts": Message("note.trees"),
    "kernel": Message("note.trees_kernel"),
    "captured": Message("note.trees_captured"),
}


def decodings(variant: LoadedVariant) -> list[Decoding]:
    """How `Trees` may decode there, the fastest first."""
    device = torch.device(variant.device).type
    if device != "cuda":
        return ["parts"]
    config = variant.model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None) or 1
    if not kernel_fits(device, variant.model.dtype, getattr(config, "head_dim", None) or config.hidden_size // heads):
        return ["parts"]
    return ["captured", "kernel", "parts"] if captures() else ["kernel", "parts"]


class Trees:
    """Prefix trees.

    Args:
        sparse: with attention that skips what the mask hides.
        decoding: attention of decoding rows part by part, by one kernel, or by that in captured steps.
    """

    def __init__(self, variant: LoadedVariant, *, sparse: bool, decoding: Decoding = "parts") -> None:
        self.name: Text = NAMES[decoding] if sparse else Message("note.trees_own")
        self._model = TreeModel(variant, sparse=sparse)
        self._steps = (
            CapturedSteps(self._model)
            if decoding == "captured"
            else Steps(self._model, one_kernel=decoding == "kernel")
        )

    @property
    def notes(self) -> Sequence[Text]:
        return self._steps.notes

    @property
    def tokens_computed(self) -> int:
        return self._model.tokens_computed

    def sequence_logprobs(self, sequences: Sequence[Sequence[int]], budget: int) -> list[float]:
        return tree_scoring.sequence_logprobs(self._model, sequences, budget)

    def option_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], budget: int
    ) -> list[list[float]]:
        return tree_scoring.option_logprobs(self._model, prompts, options, budget)

    def write(
        self, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], *, rows: int, budget: int
    ) -> None:
        try:
            tree_generation.write(self._steps, prompts, writings, rows=rows, budget=budget)
        except BaseException:
            self._steps.drop()
            raise


class Padded(PaddedModel):
    """Sorted, padded batches."""

    name: Text = Message("note.padded")
    notes: Sequence[Text] = ()


class OneByOne:
    """The reference itself."""

    name: Text = Message("note.one_by_one")
    notes: Sequence[Text] = ()

    def __init__(self, variant: LoadedVariant) -> None:
        self._variant = variant
        self.tokens_computed = 0

    def sequence_logprobs(self, sequences: Sequence[Sequence[int]], budget: int) -> list[float]:
        self.tokens_computed += sum(map(len, sequences))
        return [reference.sequence_logprob(self._variant, sequence) for sequence in sequences]

    def option_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], budget: int
    ) -> list[list[float]]:
        self.tokens_computed += sum(map(len, prompts))
        return [reference.option_logprobs(self._variant, p, ids) for p, ids in zip(prompts, options, strict=True)]

    def write(
        self, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], *, rows: int, budget: int
    ) -> None:
        for prompt, group in zip(prompts, writings, strict=True):
            for writing in group:
                ids = reference.new_ids(self._variant, prompt, writing.request)
                writing.broken = ids is None
                writing.ids = ids or []
                self.tokens_computed += len(prompt) + len(writing.ids)
