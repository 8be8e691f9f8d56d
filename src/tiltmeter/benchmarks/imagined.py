"""Answers that nobody gave: what a benchmark's statistics could find is told from them before a model is asked.

Independent items, leaning one way or the other by about 1 nat; of the variant's answers about 5 % are others. No number
made of them is a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tiltmeter.benchmarks.base import Benchmark, Item, Outcome
from tiltmeter.scoring.requests import (
    Answer,
    Generation,
    GenerationAnswer,
    OptionAnswer,
    OptionProbs,
    Prompt,
    Request,
    SequenceAnswer,
)

TURNED = 0.05  # share of written answers that are others in the variant
NOISE = 0.15  # nats; about 5 % of decisions that lean by 1 nat (standard deviation) turn
WORDS = 12  # tokens of a sentence, for means per token


def imagined_outcomes(
    benchmark: Benchmark, items: Sequence[Item], *, seed: int
) -> tuple[list[Outcome], list[Outcome]] | tuple[None, None]:
    """Outcomes of a base and of a variant; (None, None) where the benchmark cannot imagine what is written."""
    rng = np.random.default_rng(seed)
    base, variant = [], []
    for item in items:
        requests = benchmark.requests(item, _plain, decoding="greedy", n_samples=1, seed=0)
        pairs = [_answers(benchmark, item, request, rng) for request in requests]
        if any(before is None or after is None for before, after in pairs):
            return None, None
        base.append(benchmark.outcome(item, [before for before, _ in pairs if before]))
        variant.append(benchmark.outcome(item, [after for _, after in pairs if after]))
    return base, variant


def _plain(prompt: Prompt) -> str:
    return prompt.plain


def _answers(
    benchmark: Benchmark, item: Item, request: Request, rng: np.random.Generator
) -> tuple[Answer | None, Answer | None]:
    if isinstance(request, Generation):
        before = benchmark.imagined(item, rng)
        after = benchmark.imagined(item, rng) if rng.random() < TURNED else before
        return _written(before), _written(after)
    if isinstance(request, OptionProbs):
        leans = rng.normal(0, 1 / math.sqrt(2), len(request.options))
        moved = leans + rng.normal(0, NOISE / math.sqrt(2), len(leans))
        return _options(request, leans), _options(request, moved)
    lean = rng.normal(0, 1 / math.sqrt(2))
    after_lean = lean + rng.normal(0, NOISE / math.sqrt(2))
    return SequenceAnswer(WORDS * (lean - 8), WORDS), SequenceAnswer(WORDS * (after_lean - 8), WORDS)


def _options(request: OptionProbs, leans: np.ndarray) -> OptionAnswer:
    logprobs = leans - np.log(np.exp(leans).sum()) - 0.1
    return OptionAnswer(tuple((float(p),) * len(forms) for p, forms in zip(logprobs, request.options)), 0)


def _written(text: str | None) -> GenerationAnswer | None:
    return None if text is None else GenerationAnswer(text, text, len(text.split()), "eos")
