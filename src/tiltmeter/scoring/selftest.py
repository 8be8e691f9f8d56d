"""Which method a loaded variant can take: each is held to the reference on a few forked prompts before its first use.

Some architectures ignore a tree's mask or positions without a word (ALiBi added per column, learned positions counted
from the mask), so no list of names can decide this; the numbers do.

Tolerance: 1e-4 nats. In lower precision, or where a strategy rounds (INT8, quantized activations or caches), single
requests already change by more when their embeddings change by one unit of rounding, or when they stand in an
ordinary padded batch: then up to four times that passes, and the run says how much answers depend on batch
composition. How coarse a variant rounds on its own never forbids a batch: bfloat16 logits near 32 are 0.25 nats apart.
A batch that moves answers by more than 0.25 nats and by more than four times that rounding mixes its requests (one
activation scale for all of them, say): then they go one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from tiltmeter.messages import Text, join, say
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import reference
from tiltmeter.scoring.device import is_lost, is_out_of_memory, strict
from tiltmeter.scoring.kernels.attention import replaceable
from tiltmeter.scoring.logprobs import logprobs_of
from tiltmeter.scoring.methods import Method, OneByOne, Padded, Trees, decodings
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.trees.tree_model import layer_kinds
from tiltmeter.scoring.writing import Writing

TOLERANCE_NATS = 1e-4
TRUSTED_NOISE_NATS = 0.25  # beyond this, batches would measure themselves instead of the variant
NEW_TOKENS = 10
TEXT = (
    "The nurse asked the doctor whether the patient who came in yesterday should be given the bed next to the window. "
    "Nobody had an answer, because 3 of the 12 rooms were closed, and the others (all of them small) were full at noon."
    " In the village on the other side of the river, a farmer sold apples, bread and a little honey to whoever passed."
)


@dataclass(frozen=True)
class Choice:
    """The chosen method, and sentences the run must show (none when the fastest one holds)."""

    method: Method
    notes: tuple[Text, ...] = ()


@torch.inference_mode()
def choose_scorer(variant: LoadedVariant) -> Choice:
    """The fastest method whose sequence and option log-probabilities agree with the reference."""
    candidates: list[Callable[[], Method]] = [
        *([lambda: Trees(variant, sparse=True)] if replaceable(variant.model) else []),
        lambda: Trees(variant, sparse=False),
    ]
    return _choose(Forked(variant), say("note.scores"), candidates, _score_difference)


@torch.inference_mode()
def choose_writer(variant: LoadedVariant) -> Choice:
    """The fastest method whose generations agree with the reference, token by token."""
    candidates: list[Callable[[], Method]] = []
    if replaceable(variant.model) and variant.new_cache is None and variant.share_prefixes:
        for decoding in decodings(variant):
            candidates.append(partial(Trees, variant, sparse=True, decoding=decoding))
    return _choose(Forked(variant), say("note.generation"), candidates, _writing_difference)


def _choose(
    forked: Forked,
    what: Text,
    candidates: Sequence[Callable[[], Method]],
    difference: Callable[[Forked, Method], float],
) -> Choice:
    """The first candidate within 1e-4 nats; else the first within four times the variant's own noise, where that is
    believable; else one request at a time."""
    variant = forked.variant
    measured: list[tuple[Method, float]] = []
    failures: list[Text] = []
    for make in [*candidates, lambda: Padded(variant)]:
        try:
            method = make()
            found = difference(forked, method)
        except Exception as error:  # whatever a model raises on what it cannot take
            if is_out_of_memory(error) or is_lost(error) or strict():
                raise
            lines = str(error).splitlines() or [""]
            failures.append(f"{type(error).__name__}: {lines[0][:120]}")
            continue
        if method.notes:  # it did not do what its name says
            failures += method.notes
            continue
        if found <= TOLERANCE_NATS and not measured:
            return Choice(method, _notes(what, method, failures, found))
        measured.append((method, found))
        failures.append(say("note.differ", method=method.name, nats=f"{found:.2g}"))
    padded = next((found for method, found in measured if isinstance(method, Padded)), 0.0)
    own = rounding_noise(forked)
    # a cache that quantizes what it is given may mix rows for good: rounding is no excuse there
    believable = padded <= max(TRUSTED_NOISE_NATS, 4 * own) and variant.share_prefixes
    limit = max(TOLERANCE_NATS, 4 * max(padded, own) if believable else 0.0)
    for place, (method, found) in enumerate(measured):
        if found <= limit:
            notes = _notes(what, method, failures[: place + len(failures) - len(measured)], found)
            return _strictly(Choice(method, notes), fast=place == 0 and len(failures) == len(measured))
    return _strictly(Choice(method := OneByOne(variant), _notes(what, method, failures, 0.0)))


def _strictly(choice: Choice, fast: bool = False) -> Choice:
    if strict() and not fast:
        raise RuntimeError("; ".join(map(str, choice.notes)))
    return choice


def _notes(what: Text, method: Method, failures: Sequence[Text], noise: float) -> tuple[Text, ...]:
    notes: list[Text] = []
    if failures:
        notes.append(say("note.selftest", what=what, method=method.name, clause=join("join.clauses", failures)))
    if noise > TOLERANCE_NATS:
        notes.append(say("note.selftest_noise", what=what, nats=f"{noise:.2g}"))
    return tuple(notes)


def forked_prompts(variant: LoadedVariant) -> list[list[int]]:
    """Sorted prompts that share a trunk and fork from it at several depths, one that is a beginning of others, two of
    one length, one that shares nothing; some longer than a small attention window."""
    model = variant.model.config.get_text_config(decoder=True)
    ids = [i for i in encode(variant.tokenizer, TEXT) if i < model.vocab_size]
    try:
        windows = [window for window in layer_kinds(model).values() if window and window < 256]
    except NotImplementedError:
        windows = []
    room = variant.max_length - NEW_TOKENS - 10
    trunk = (ids * 9)[: max(4, min(max([*windows, 68]) + 4, room))]
    tail = ids[len(ids) // 2 :]
    long = len(trunk)
    forks = [
        (long, tail[:3]),
        (long, tail[3:6]),
        (long, tail[1:8]),
        (long - 3, tail[2:9]),
        (long // 2, tail[:5]),
        (1, tail[:6]),
        (long, []),
    ]
    return sorted(trunk[:depth] + rest for depth, rest in forks)


class Forked:
    """The prompts of one self-test and what the reference says of them, asked once for all candidates."""

    def __init__(self, variant: LoadedVariant) -> None:
        self.variant = variant
        self.prompts = forked_prompts(variant)
        self.options = [prompt[:3] for prompt in self.prompts]

    @cached_property
    def option_logprobs(self) -> list[list[float]]:
        """Of each prompt's options, in nats."""
        return self.ask_options()

    @cached_property
    def sequence_logprobs(self) -> list[float]:
        """Of each prompt as a text, in nats."""
        return [reference.sequence_logprob(self.variant, prompt) for prompt in self.prompts]

    def ask_options(self) -> list[list[float]]:
        """The same as `option_logprobs`, asked anew."""
        return [
            reference.option_logprobs(self.variant, prompt, ids)
            for prompt, ids in zip(self.prompts, self.options, strict=True)
        ]


def rounding_noise(forked: Forked) -> float:
    """Largest change of an option's log-probability (nats) when every embedding is moved by about one unit of rounding,
    up or down at random, in four draws. No batch and no mask is involved: this is the variant's own sensitivity."""
    generator = torch.Generator().manual_seed(0)

    def move(_module: Any, _inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        signs = torch.randint(0, 2, embedded.shape, generator=generator).to(embedded) * 2 - 1
        return embedded * (1 + torch.finfo(embedded.dtype).eps * signs)

    expected = forked.option_logprobs
    hook = forked.variant.model.get_input_embeddings().register_forward_hook(move)
    try:
        return _largest([np.subtract(forked.ask_options(), expected) for _ in range(4)])
    finally:
        hook.remove()


def _score_difference(forked: Forked, method: Method) -> float:
    """Largest difference to the reference, in nats (sums: per 32 tokens). A small budget makes several pieces."""
    prompts = forked.prompts
    budget = max(16, max(map(len, prompts)) // 2)
    gaps = [
        np.subtract(method.option_logprobs(prompts, forked.options, size), forked.option_logprobs)
        for size in (budget, 20 * budget)
    ]
    scale = np.array([max(1.0, len(prompt) / 32) for prompt in prompts])
    gaps.append(np.subtract(method.sequence_logprobs(prompts, 10 * budget), forked.sequence_logprobs) / scale)
    return _largest(gaps)


def _writing_difference(forked: Forked, method: Method) -> float:
    """Largest difference of a chosen token's log-probability (nats) when the reference is fed the same tokens.

    Few rows make the method refill; one prompt has two samples, every other one a limit of its own. Where requests
    are batched by length, many of one length are what could go wrong.
    """
    variant, prompts = forked.variant, forked.prompts
    if variant.new_cache is not None:
        text = encode(variant.tokenizer, TEXT)
        size = min(40, len(text) // 2, max(map(len, prompts)))
        prompts = sorted([*prompts, *(text[start : start + size] for start in range(0, len(text) - size, 6))])
    requests = [[Generation("", NEW_TOKENS - 3 * (index % 2))] for index in range(len(prompts))]
    several = [list(group) for group in requests]
    several[1] = [Generation("", NEW_TOKENS, 1.0, 1.0, seed) for seed in (1, 2)]
    gaps = []
    longest = max(map(len, prompts))
    for groups, rows, budget in ((requests, 4, longest), (several, 64, 64 * longest)):
        writings = [[Writing(request, frozenset(), recorded=True) for request in group] for group in groups]
        method.write(prompts, writings, rows=rows, budget=budget)
        for prompt, group in zip(prompts, writings, strict=True):
            for writing in group:
                step = reference.next_logits(variant, prompt)
                fed: list[int | None] = [None, *writing.ids[:-1]]
                expected = [_logprob(step(token), chosen) for token, chosen in zip(fed, writing.ids, strict=True)]
                gaps.append(np.subtract(writing.logprobs, expected))
    return _largest(gaps)


def _logprob(logits: np.ndarray, chosen: int) -> float:
    return float(logprobs_of(torch.from_numpy(logits)[None], torch.tensor([chosen])))


def _largest(gaps: Sequence[np.ndarray]) -> float:
    """Largest absolute value; infinite when anything is NaN, so that it never passes."""
    worst = max(float(np.abs(gap).max(initial=0)) for gap in gaps)
    return worst if all(np.isfinite(gap).all() for gap in gaps) else float("inf")
