"""Our three request kinds in llama.cpp's own kernels: kept prefixes, rows decoded side by side with refill.

    SequenceLogprob   sorted texts one after another; what a text shares with the one before stays, with its scores
    OptionProbs       the same, logits of the last token
    Generation        prompts likewise; each row takes its prompt over without a copy and writes on beside the others;
                      finished rows make room for the next prompt

Why scored texts do not share a batch: most files are multiplied with activations rounded to 8 bits (F16 ones to 11), so
that the last bit of a sum, which depends on where in the cache a text lies, grows to 0.1 nats (SmolLM2, Q8_0, a text
before it in the batch). A text alone over a kept prefix gives the bits of a text alone, if the prefix ends where the
kernels' blocks of rows do (`BLOCK`) and at least two tokens follow (one token takes another kernel).

Sequence 0 is the trunk, the others are rows. Sampling is ours (`scoring.writing`, seeded per request).
`scoring.reference` over `OneAtATime` is the definition; tests hold this to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from tiltmeter.models.formats.gguf.library import SEQUENCES, Context
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import plan as planning
from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.logprobs import logprobs_of
from tiltmeter.scoring.requests import Answer, Generation, OptionProbs, SequenceLogprob
from tiltmeter.scoring.trees.prefix_tree import common_prefix
from tiltmeter.scoring.writing import Writing, extend

TRUNK = 0
BLOCK = 8  # a multiple of the rows that a kernel multiplies together
BESIDE = (
    "llama.cpp writes several texts side by side here; where it rounds activations, a text may depend in its last "
    "digits on its neighbours: `rerun` measures how much"
)


class LlamaEngine(Engine):
    """The engine of one context. `batch_tokens`: the width of decoding follows from it, as everywhere."""

    def __init__(self, variant: LoadedVariant, context: Context, *, batch_tokens: int) -> None:
        super().__init__(variant, batch_tokens=batch_tokens)
        self.context = context
        self.trunk: list[int] = []  # ids that lie in sequence 0

    def _sequences(self, requests: list[SequenceLogprob], tokens: list[list[int]]) -> list[Answer]:
        answers, scores = [], np.zeros(0)  # scores[i]: log p(trunk[i + 1] | all before), nats
        self._forget()
        for request, ids in zip(requests, tokens, strict=True):
            kept = self._kept(ids)
            found = [scores[:kept]]
            for start, logits in self._read(ids, kept, every=True):
                following = torch.tensor(ids[start + 1 : start + 1 + len(logits)])
                found.append(logprobs_of(logits[: len(following)], following).numpy())
            scores = np.concatenate(found)
            answers.append(reference.sequence_answer(request, len(ids), float(scores.sum())))
        self._forget()  # texts that others do not begin with
        return self._settled(requests, answers)

    def _options(self, requests: list[OptionProbs], tokens: list[list[int]]) -> list[Answer]:
        answers = []
        for request, ids in zip(requests, tokens, strict=True):
            asked = torch.tensor([i for forms in self._forms.ids(request) for i in forms if i is not None])
            logits = self._after(ids).expand(len(asked), -1)
            found = logprobs_of(logits, asked).tolist()
            answers.append(reference.option_answer(request, self._forms, len(ids), found))
        return self._settled(requests, answers)

    def _generations(self, requests: list[Generation], tokens: list[list[int]]) -> list[Answer]:
        if len(requests) > 1 and BESIDE not in self.notes:
            self.notes.append(BESIDE)
        writings = [Writing(request, self.variant.eos_ids) for request in requests]
        waiting = list(zip(tokens, writings, strict=True))[::-1]
        free = list(range(min(planning.widths(self.batch_tokens).rows, SEQUENCES - 1), 0, -1))
        rows: dict[int, tuple[list[int], Writing]] = {}  # sequence -> prompt, what it writes
        first: torch.Tensor | None = None  # logits after the trunk, (1, vocabulary)
        while waiting or rows:
            while waiting and free and (not rows or self._fits([*rows.values(), waiting[-1]])):
                prompt, writing = waiting.pop()
                if first is None or self.trunk != prompt:
                    first = self._after(prompt)
                extend([writing], first)
                if not writing.done:
                    rows[free[-1]] = prompt, writing
                    self.context.share(TRUNK, free.pop())
            if rows:
                self._step(rows)
            for row in [row for row, (_, writing) in rows.items() if writing.done]:
                self.context.cut(row)
                del rows[row]
                free.append(row)
        return self._settled(
            requests,
            [
                reference.generation_answer(self.variant, writing.request, None if writing.broken else writing.ids)
                for writing in writings
            ],
        )

    def _step(self, rows: dict[int, tuple[list[int], Writing]]) -> None:
        """One more token for every row."""
        active = sorted(rows.items())
        logits = self.context.decode(
            [writing.ids[-1] for _, (_, writing) in active],
            [len(prompt) + len(writing.ids) - 1 for _, (prompt, writing) in active],
            [(row,) for row, _ in active],
            np.ones(len(active), bool),
        )
        self.stats.tokens_computed += len(active)
        extend([writing for _, (_, writing) in active], torch.from_numpy(logits))

    def _fits(self, rows: list[tuple[list[int], Writing]]) -> bool:
        """Whether there are cells for all that `rows` may come to hold: prompts, shared or not, and every new token."""
        prompts = sorted(prompt for prompt, _ in rows)
        kept = [common_prefix(before, ids) // BLOCK * BLOCK for before, ids in zip([[], *prompts], prompts)]
        unshared = sum(len(ids) - least for ids, least in zip(prompts, kept)) + 2 * BLOCK * len(prompts)
        new = sum(writing.request.max_new_tokens for _, writing in rows)
        return unshared + new + len(self.trunk) <= self.context.cells

    def _after(self, ids: list[int]) -> torch.Tensor:
        """The trunk becomes `ids`; the logits after it, (1, vocabulary), a copy."""
        return list(self._read(ids, self._kept(ids), every=False))[-1][1].clone()

    def _kept(self, ids: list[int]) -> int:
        """How much of the trunk `ids` may begin with; the token after it is the same too: its score is known."""
        if not self.variant.share_prefixes:
            return 0
        return max(0, min(common_prefix(self.trunk, ids) - 1, len(ids) - 2)) // BLOCK * BLOCK

    def _read(self, ids: list[int], kept: int, *, every: bool) -> Iterator[tuple[int, torch.Tensor]]:
        """The trunk becomes `ids`, of which the first `kept` are there: (place, logits from that place on) of every
        call, of `every` token or of the last alone. The logits hold until the next call."""
        self.context.cut(TRUNK, kept)
        self.trunk = list(ids)
        self.stats.tokens_computed += len(ids) - kept
        for start in range(kept, len(ids), self.context.per_call):
            part = ids[start : start + self.context.per_call]
            places = np.arange(start, start + len(part))
            wanted = np.full(len(part), every) | (places == len(ids) - 1)
            yield start, torch.from_numpy(self.context.decode(part, places, [(TRUNK,)] * len(part), wanted))

    def _forget(self) -> None:
        self.context.clear()
        self.trunk = []
