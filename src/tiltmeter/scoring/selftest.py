"""Which method a loaded variant can take: each is held to the reference on a few forked prompts before its first use.

Some architectures ignore a tree's mask or positions without a word (ALiBi added per column, learned positions counted
from the mask), so no list of names can decide this; the numbers do.

Tolerance: 1e-4 nats in float32. In lower precision, or where a strategy rounds (INT8, quantized caches), ordinary
padded batches differ from single requests too: then up to four times their difference passes, and the run
says how much answers depend on batch composition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tiltmeter.scoring import reference
from tiltmeter.scoring.attention import replaceable
from tiltmeter.scoring.methods import Method, OneByOne, Padded, Trees
from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.tree_model import layer_kinds
from tiltmeter.scoring.variant import LoadedVariant
from tiltmeter.scoring.writing import Writing

TOLERANCE_NATS = 1e-4
TRUSTED_NOISE_NATS = 0.25  # a larger difference of padded batches is an error of theirs, not rounding
NEW_TOKENS = 10


@dataclass(frozen=True)
class Choice:
    """The chosen method, and sentences the run must show (none when the fastest one holds)."""

    method: Method
    notes: tuple[str, ...] = ()


@torch.inference_mode()
def choose_scorer(variant: LoadedVariant) -> Choice:
    """The fastest method whose sequence and option log-probabilities agree with the reference."""
    candidates: list[Callable[[], Method]] = [
        *([lambda: Trees(variant, sparse=True)] if replaceable(variant.model) else []),
        lambda: Trees(variant, sparse=False),
    ]
    return _choose(variant, "scores", candidates, _score_difference)


@torch.inference_mode()
def choose_writer(variant: LoadedVariant) -> Choice:
    """The fastest method whose generations agree with the reference, token by token."""
    candidates: list[Callable[[], Method]] = []
    if replaceable(variant.model) and variant.new_cache is None and variant.share_prefixes:
        candidates.append(lambda: Trees(variant, sparse=True))
    return _choose(variant, "generation", candidates, _writing_difference)


def _choose(
    variant: LoadedVariant, what: str, candidates: Sequence[Callable[[], Method]],
    difference: Callable[[LoadedVariant, Method], float],
) -> Choice:
    failures: list[str] = []
    measured: list[tuple[Method, float]] = []
    tolerance = max(TOLERANCE_NATS, 8 * torch.finfo(variant.model.dtype).eps)
    for make in [*candidates, lambda: Padded(variant)]:
        try:
            method = make()
            found = difference(variant, method)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # whatever a model raises on what it cannot take
            failures.append(f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}")
            continue
        if found <= tolerance:
            return Choice(method, _notes(what, method, failures, found))
        measured.append((method, found))
        failures.append(f"{method.name} differ by {found:.2g} nats")
    noise = next((found for method, found in measured if isinstance(method, Padded)), 0.0)
    if noise <= TRUSTED_NOISE_NATS:
        for method, found in measured:
            if found <= 4 * noise:
                return Choice(method, _notes(what, method, [], noise))
    return Choice(method := OneByOne(variant), _notes(what, method, failures, 0.0))


def _notes(what: str, method: Method, failures: Sequence[str], noise: float) -> tuple[str, ...]:
    notes = [f"{what}: {method.name}, because of the faster ways: {'; '.join(failures)}"] if failures else []
    if noise > TOLERANCE_NATS:
        notes.append(f"{what}: answers depend on batch composition, up to {noise:.2g} nats in a self-test (see rerun)")
    return tuple(notes)


def forked_prompts(variant: LoadedVariant) -> list[list[int]]:
    """Sorted prompts that share a trunk, fork from it at several depths, or stand alone; longer than a small window."""
    rng = np.random.Generator(np.random.PCG64(0))
    text = variant.model.config.get_text_config(decoder=True)
    try:
        windows = [window for window in layer_kinds(text).values() if window and window < 256]
    except NotImplementedError:
        windows = []
    room = variant.max_length - NEW_TOKENS - 20
    trunk = rng.integers(0, text.vocab_size, max(4, min(max([*windows, 68]) + 4, room))).tolist()
    forks = [(len(trunk), 3), (len(trunk), 7), (len(trunk) - 3, 9), (len(trunk) // 2, 5), (0, 6), (len(trunk), 0)]
    return sorted(trunk[:depth] + rng.integers(0, text.vocab_size, extra).tolist() for depth, extra in forks)


def _score_difference(variant: LoadedVariant, method: Method) -> float:
    """Largest difference to the reference, in nats (sums of long texts: per 32 tokens); small budgets make packs."""
    prompts = forked_prompts(variant)
    options = [prompt[:3] for prompt in prompts]
    budget = max(16, len(prompts[0]) // 2)
    expected = [reference.option_logprobs(variant, prompt, ids) for prompt, ids in zip(prompts, options, strict=True)]
    gaps = [np.subtract(method.option_logprobs(prompts, options, size), expected) for size in (budget, 10 * budget)]
    sums = [reference.sequence_logprob(variant, prompt) for prompt in prompts]
    scale = np.array([max(1.0, len(prompt) / 32) for prompt in prompts])
    gaps.append(np.subtract(method.sequence_logprobs(prompts, 10 * budget), sums) / scale)
    return _largest(gaps)


def _writing_difference(variant: LoadedVariant, method: Method) -> float:
    """Largest difference of a chosen token's log-probability (nats) when the reference is fed the same tokens.

    Few rows make the method refill; one prompt has two samples, one more a limit of its own.
    """
    prompts = forked_prompts(variant)
    requests = [[Generation("", NEW_TOKENS - 3 * (index % 2))] for index in range(len(prompts))]
    several = [list(group) for group in requests]
    several[1] = [Generation("", NEW_TOKENS, 1.0, 1.0, seed) for seed in (1, 2)]
    gaps = []
    for groups in (requests, several):
        writings = [[Writing(request, frozenset(), recorded=True) for request in group] for group in groups]
        method.write(prompts, writings, rows=4, budget=max(map(len, prompts)))
        for prompt, group in zip(prompts, writings, strict=True):
            for writing in group:
                step = reference.next_logits(variant, prompt)
                fed: list[int | None] = [None, *writing.ids[:-1]]
                expected = [_logprob(step(token), chosen) for token, chosen in zip(fed, writing.ids, strict=True)]
                gaps.append(np.subtract(writing.logprobs, expected))
    return _largest(gaps)


def _logprob(logits: np.ndarray, chosen: int) -> float:
    return float(torch.from_numpy(logits).log_softmax(-1)[chosen])


def _largest(gaps: Sequence[np.ndarray]) -> float:
    """Largest absolute value; infinite when anything is NaN, so that it never passes."""
    worst = max(float(np.abs(gap).max(initial=0)) for gap in gaps)
    return worst if all(np.isfinite(gap).all() for gap in gaps) else float("inf")
