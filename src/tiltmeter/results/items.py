"""The items of a run: the finished cells, each item's outcome, and one row per item, sample and variant."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiltmeter.benchmarks.base import Benchmark, Outcome
from tiltmeter.printed import null
from tiltmeter.registry import build, known
from tiltmeter.runs.record import run_record
from tiltmeter.runs.store import Cell, started_cells
from tiltmeter.schema import Place
from tiltmeter.scoring.requests import GenerationAnswer, OptionAnswer


def cells_of(run: Path) -> dict[Place, Cell]:
    """Newest cell of every row, in the order the study asked: model, then base first, then strategies."""
    order = {folder: place for place, folder in enumerate(run_record(run).cells)}
    cells = [cell for cell in started_cells(run) if cell.id.folder in order]
    return {cell.id.place: cell for cell in sorted(cells, key=lambda cell: order[cell.id.folder])}


def outcomes(cell: Cell, benchmark: Benchmark) -> list[Outcome]:
    """One outcome per item of a finished cell, in item order. Raises ValueError when it is not finished.

    What many items have in common (their groups, their cluster) is held once.
    """
    groups: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
    found: dict[int, Outcome] = {}
    for place, item, _, answers in cell.answered_items():
        outcome = benchmark.outcome(item, answers)
        shared = groups.setdefault(tuple(outcome.groups.items()), outcome.groups)
        found[place] = replace(outcome, cluster=sys.intern(outcome.cluster), groups=shared)
    return [found[place] for place in range(len(found))]


def item_rows(run: Path) -> Iterator[dict[str, Any]]:
    """One row per item, sample and variant: prompt, answer, label, score, reason."""
    names = known("benchmark")
    for place, cell in cells_of(run).items():
        if cell.done is None or cell.id.benchmark not in names:
            continue
        benchmark = build("benchmark", cell.id.benchmark)
        answers = cell.answers()
        start = 0
        for item, requests in cell.inputs:
            given = answers[start : start + len(requests)]
            start += len(requests)
            outcome = benchmark.outcome(item, given)
            per_sample = max(len(requests) // max(len(outcome.samples), 1), 1)
            for index, sample in enumerate(outcome.samples):
                mine = slice(index * per_sample, (index + 1) * per_sample)
                yield {
                    "model": place.model,
                    "strategy": place.strategy,
                    "format": place.format,
                    "decoding": place.decoding,
                    "benchmark": place.benchmark,
                    "item": item.id,
                    "sample": index,
                    "cluster": item.cluster,
                    "variation": item.variation,
                    "groups": dict(item.groups),
                    "prompt": "\n---\n".join(map(prompt_of, requests[mine])),
                    "answer": "\n---\n".join(answer_text(r, a) for r, a in zip(requests[mine], given[mine])),
                    "label": sample.label,
                    "score": null(sample.score),
                    "reason": None if sample.reason is None else str(sample.reason),
                    "parsed": null(sample.values.get("parsed", math.nan)),
                    "truth": null(sample.values.get("truth", math.nan)),
                    "uncertainty": null(outcome.uncertainty),
                }


def prompt_of(request: Any) -> str:
    """The text a request sends."""
    return str(getattr(request, "prompt", None) or getattr(request, "text", ""))


def answer_text(request: Any, answer: Any) -> str:
    """An answer as a person reads it; numbers with four digits."""
    if answer.error:
        return f"({answer.error})"
    if isinstance(answer, GenerationAnswer):
        return str(answer.clean)
    if isinstance(answer, OptionAnswer):
        probs = [
            (forms[0], math.exp(logs[0]))
            for forms, logs in zip(request.options, answer.logprobs or ())
            if logs and logs[0] is not None
        ]
        return ", ".join(f"{form}: {prob:.4f}" for form, prob in probs)
    return f"{answer.logprob:.4f} nats over {answer.n_tokens} tokens"
