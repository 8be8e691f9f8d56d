"""The fallback for models that cannot take a tree: batches sorted by length, padded on the right.

A causal model's real tokens never see what stands to their right, so right padding changes nothing but the speed.
Prompts to be continued are batched with others of exactly their length, so nothing is padded there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.logprobs import logprobs_of
from tiltmeter.scoring.writing import Writing, extend


class PaddedModel:
    """A variant's model, asked for padded batches with its own attention and cache."""

    def __init__(self, variant: LoadedVariant) -> None:
        self.variant = variant
        self.tokens_computed = 0
        self._keeps_logits = "logits_to_keep" in inspect.signature(variant.model.forward).parameters

    def sequence_logprobs(self, sequences: Sequence[Sequence[int]], budget: int) -> list[float]:
        """Like `tree_scoring.sequence_logprobs`, in any order."""
        found = [0.0] * len(sequences)
        for batch in _by_length(sequences, budget):
            logits = self._forward([sequences[index] for index in batch], None)
            for row, index in enumerate(batch):
                ids = torch.tensor(sequences[index], device=logits.device)
                found[index] = float(logprobs_of(logits[row, : len(ids) - 1], ids[1:]).sum())
        return found

    def option_logprobs(
        self, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], budget: int
    ) -> list[list[float]]:
        """Like `tree_scoring.option_logprobs`, in any order."""
        found: list[list[float]] = [[] for _ in prompts]
        for batch in _by_length(prompts, budget):
            last = sorted({len(prompts[index]) - 1 for index in batch})
            logits = self._forward([prompts[index] for index in batch], torch.tensor(last, device=self.variant.device))
            for row, index in enumerate(batch):
                ids = torch.tensor(options[index], dtype=torch.long, device=logits.device)
                own = logits[row, last.index(len(prompts[index]) - 1)].expand(len(ids), -1)
                found[index] = logprobs_of(own, ids).tolist()
        return found

    def write(
        self, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], *, rows: int, budget: int
    ) -> None:
        """Like `tree_generation.write`, in any order."""
        tasks = [(prompt, writing) for prompt, group in zip(prompts, writings, strict=True) for writing in group]
        tasks.sort(key=lambda task: len(task[0]))
        first = 0
        while first < len(tasks):
            length = len(tasks[first][0])
            width = max(1, min(rows, budget // length))
            group = [task for task in tasks[first : first + width] if len(task[0]) == length]
            self._write_together(group)
            first += len(group)

    def _write_together(self, tasks: Sequence[tuple[Sequence[int], Writing]]) -> None:
        """Prompts of one length; finished rows run along until the last is done."""
        variant = self.variant
        cache = variant.new_cache() if variant.new_cache else None
        ids = torch.tensor([list(prompt) for prompt, _ in tasks], device=variant.device)
        self.tokens_computed += ids.numel()
        arguments: dict[str, object] = {"logits_to_keep": 1} if self._keeps_logits else {}
        output = variant.model(ids, past_key_values=cache, use_cache=True, **arguments)
        while True:
            logits = output.logits[:, -1].float()
            rows = [row for row, (_, writing) in enumerate(tasks) if not writing.done]
            extend([tasks[row][1] for row in rows], logits[rows])
            if all(writing.done for _, writing in tasks):
                return
            last = [[writing.ids[-1] if writing.ids else 0] for _, writing in tasks]
            self.tokens_computed += sum(not writing.done for _, writing in tasks)
            output = variant.model(
                torch.tensor(last, device=variant.device), past_key_values=output.past_key_values, use_cache=True
            )

    def _forward(self, sequences: Sequence[Sequence[int]], positions: Tensor | None) -> Tensor:
        """Float32 logits (batch, positions or all, V) of the right-padded `sequences`."""
        variant = self.variant
        longest = max(map(len, sequences))
        padded = [[*sequence, *[sequence[-1]] * (longest - len(sequence))] for sequence in sequences]
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        mask = (torch.arange(longest) < lengths[:, None]).long().to(variant.device)
        self.tokens_computed += mask.numel()
        cache = {"past_key_values": variant.new_cache()} if variant.new_cache else {}
        keep = {"logits_to_keep": positions} if self._keeps_logits and positions is not None else {}
        output = variant.model(
            torch.tensor(padded, device=variant.device), attention_mask=mask, use_cache=bool(cache), **cache, **keep
        )
        logits = output.logits if keep or positions is None else output.logits[:, positions]
        return logits.float()


def _by_length(sequences: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Indices in batches whose padded size is at most `budget` tokens (a longer sequence alone)."""
    order = sorted(range(len(sequences)), key=lambda index: (len(sequences[index]), index))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(sequences[index]) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
