"""Answers lists of requests about one variant, batch by batch; must agree with `reference.py`.

``Engine(variant, batch_tokens=None).plan(requests)`` says which requests belong together, `answer` computes one such
batch. A resumed run repeats a batch whole, so the same arithmetic is done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tiltmeter.messages import Text
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import plan as planning
from tiltmeter.scoring import reference
from tiltmeter.scoring.budget import auto_batch_tokens, decode_rows
from tiltmeter.scoring.device import give_back, is_out_of_memory, prepare
from tiltmeter.scoring.methods import Method
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.reference import text_of
from tiltmeter.scoring.remembered import Outcome, Remembered, as_outcome, restored
from tiltmeter.scoring.requests import (
    NOT_FINITE,
    Answer,
    Generation,
    GenerationAnswer,
    OptionProbs,
    Request,
    SequenceLogprob,
    failed,
)
from tiltmeter.scoring.selftest import Choice, choose_scorer, choose_writer
from tiltmeter.scoring.vocabulary import Forms
from tiltmeter.scoring.writing import Writing

__all__ = ["Engine", "Stats", "auto_batch_tokens", "is_out_of_memory"]


@dataclass
class Stats:
    """What the engine has done so far.

    Attributes:
        tokens_asked: tokens of all requests, prompts and new ones, as if each were computed alone.
        tokens_computed: tokens that went through the model.
        seconds: time inside `answer`, without self-tests.
        test_seconds: time in self-tests, which belongs to no benchmark.
    """

    tokens_asked: int = 0
    tokens_computed: int = 0
    seconds: float = 0.0
    test_seconds: float = 0.0


class Engine:
    """The fast path for one loaded variant.

    Args:
        variant: model, tokenizer and what its strategy needs.
        batch_tokens: tokens in one forward; None: `auto_batch_tokens(variant)`. Fix it once per run.
        remembered: what earlier self-tests of this model on this machine found; None: it is tested here.
        say: gets a line before what may take long.

    Attributes:
        stats: what has been done so far.
        notes: sentences the run must show: fallbacks, numerics that depend on batch composition.
        outcomes: of the self-tests, by kind of request; those put here before the first answer are taken as they are,
            so that a run that goes on computes as it began.
    """

    def __init__(
        self,
        variant: LoadedVariant,
        *,
        batch_tokens: int | None = None,
        remembered: Remembered | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        prepare(variant.device)
        self.variant = variant
        self.batch_tokens = batch_tokens or auto_batch_tokens(variant)
        self.stats = Stats()
        self.outcomes: dict[str, Outcome] = {}
        self._remembered, self._say = remembered, say or (lambda line: None)
        self.notes: list[Text] = []
        self._forms = Forms(variant.tokenizer.get_vocab())
        self._scorer: Choice | None = None
        self._writer: Choice | None = None
        self._used: list[Choice] = []  # by the last batch

    @property
    def said(self) -> list[Text]:
        """The notes about the last batch: without those of a method that only others used."""
        used = {note for choice in self._used for note in choice.notes}
        others = {note for choice in (self._scorer, self._writer) if choice for note in choice.notes} - used
        return [note for note in self.notes if note not in others]

    @property
    def rows(self) -> int:
        """Sequences decoded side by side."""
        if self.variant.model is None and self.variant.device.partition(":")[0] != "cpu":
            return planning.widths(self.batch_tokens).rows  # planned where the card is not, or computed by a server
        return decode_rows(self.variant, self.batch_tokens)

    def plan(self, requests: Iterable[Request], salt: str = "") -> list[list[int]]:
        """Batches of numbers of `requests`, which are read once: a pure function of them, token budget and `salt`."""
        kinds: list[type] = []

        def ids() -> Iterator[list[int]]:
            for request in requests:
                kinds.append(type(request))
                yield encode(self.variant.tokenizer, text_of(request))

        with planning.tokens_on_disk(ids()) as tokens:
            return planning.plan(kinds, tokens, self.batch_tokens, salt, self.rows)

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to one batch, in its order. Any list will do; one of `plan`'s batches is computed fastest."""
        started, tests_before = time.perf_counter(), self.stats.test_seconds
        self._used = []
        tokens = [encode(self.variant.tokenizer, text_of(request)) for request in requests]
        answers: dict[int, Answer] = {}
        for index, request in enumerate(requests):
            reason = reference.obstacle(self.variant.max_length, self._forms, request, len(tokens[index]))
            if reason:
                answers[index] = failed(request, reason, len(tokens[index]))
        kinds: tuple[tuple[type, Callable[[list[Any], list[list[int]]], list[Answer]]], ...] = (
            (SequenceLogprob, self._sequences),
            (OptionProbs, self._options),
            (Generation, self._generations),
        )
        for kind, answer_kind in kinds:
            chosen = [i for i, request in enumerate(requests) if isinstance(request, kind) and i not in answers]
            chosen.sort(key=lambda index: tokens[index])
            if chosen:
                found = answer_kind([requests[i] for i in chosen], [tokens[i] for i in chosen])
                answers.update(zip(chosen, found, strict=True))
                self.stats.tokens_asked += sum(len(tokens[i]) for i in chosen)
        self.stats.tokens_asked += sum(a.n_tokens for a in answers.values() if isinstance(a, GenerationAnswer))
        give_back(self.variant.device)
        self.stats.seconds += time.perf_counter() - started - (self.stats.test_seconds - tests_before)
        return [answers[index] for index in range(len(requests))]

    def _sequences(self, requests: list[SequenceLogprob], tokens: list[list[int]]) -> list[Answer]:
        method = self._scores()
        with self._counting(method):
            found = method.sequence_logprobs(tokens, self.batch_tokens)
        return self._settled(
            requests, [reference.sequence_answer(*each) for each in zip(requests, map(len, tokens), found, strict=True)]
        )

    def _options(self, requests: list[OptionProbs], tokens: list[list[int]]) -> list[Answer]:
        method = self._scores()
        asked = [[i for ids in self._forms.ids(request) for i in ids if i is not None] for request in requests]
        with self._counting(method):
            found = method.option_logprobs(tokens, asked, self.batch_tokens)
        return self._settled(
            requests,
            [
                reference.option_answer(request, self._forms, len(ids), logprobs)
                for request, ids, logprobs in zip(requests, tokens, found, strict=True)
            ],
        )

    def _generations(self, requests: list[Generation], tokens: list[list[int]]) -> list[Answer]:
        """Samples of one prompt share its prefill; greedy requests go to the variant's own `generate` if it has one."""
        own = self.variant.generate
        rows = self.rows
        writings = [Writing(request, self.variant.eos_ids) for request in requests]
        prompts: list[list[int]] = []
        groups: list[list[Writing]] = []
        for writing, ids in zip(writings, tokens, strict=True):
            if own and writing.request.temperature == 0:
                writing.ids, writing.guesses = own(ids, writing.request.max_new_tokens)
                self.stats.tokens_computed += len(ids) + len(writing.ids)
            elif prompts and prompts[-1] == ids and len(groups[-1]) < rows:
                groups[-1].append(writing)
            else:
                prompts.append(ids)
                groups.append([writing])
        if prompts:
            method = self._writes()
            with self._counting(method):
                method.write(prompts, groups, rows=rows, budget=self.batch_tokens)
        return self._settled(
            requests,
            [
                reference.generation_answer(
                    self.variant, writing.request, None if writing.broken else writing.ids, writing.guesses
                )
                for writing in writings
            ],
        )

    def _settled(self, requests: Sequence[Request], answers: list[Answer]) -> list[Answer]:
        """`answers`, with the broken ones asked again alone: NaN and infinity spread to whatever shares their batch."""
        return [
            reference.answer(self.variant, request) if answer.error == NOT_FINITE else answer
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _scores(self) -> Method:
        if self._scorer is None:
            self._scorer = self._choice("scores", choose_scorer)
        self._used.append(self._scorer)
        return self._scorer.method

    def _writes(self) -> Method:
        if self._writer is None:
            self._writer = self._choice("generation", choose_writer)
        self._used.append(self._writer)
        return self._writer.method

    def _choice(self, what: str, choose: Callable[[LoadedVariant], Choice]) -> Choice:
        """The method that the run began with, or that an earlier self-test chose; else what one chooses now."""
        known = self.outcomes.get(what) or (self._remembered.get(what) if self._remembered else None)
        choice = restored(self.variant, known) if known else None
        if choice is None:
            started = time.perf_counter()
            self._say(f"{self.variant.strategy}: testing how {what} may be computed (once per model and machine)")
            choice = choose(self.variant)
            self.stats.test_seconds += time.perf_counter() - started
            if self._remembered:
                self._remembered.keep(what, as_outcome(choice))
        self.outcomes[what] = as_outcome(choice)
        self.notes += choice.notes
        return choice

    @contextmanager
    def _counting(self, method: Method) -> Iterator[None]:
        before = method.tokens_computed
        yield
        self.stats.tokens_computed += method.tokens_computed - before
        self.notes += [note for note in method.notes if note not in self.notes]
