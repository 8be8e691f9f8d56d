"""Two engines, one model: how far apart are their numbers on the benchmarks' own questions?

    python -m benchmarks.engines A B [--backend NAME] [--dtype A [B]] [--format plain|chat] [--limit 12] [--most 24]
    python -m benchmarks.engines FILE.gguf --alone        B is A, one request at a time in the same library

A and B are a folder (in transformers; B in --backend), a GGUF file (in llama.cpp) or an address, whose prompts are made
by A's tokenizer unless --tokenizer names another. Both are asked the same, at most --most requests of a benchmark. Per
benchmark the table shows the largest and the mean difference of a log-probability (of a whole sentence; of a surface
form of an option, among those with a probability above 0.0001 in A) and the share of greedy texts that are equal. What
one of them refuses is counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tiltmeter.backends.base import Backend
from tiltmeter.registry import build
from tiltmeter.runs.loading import backend_name
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import (
    Answer,
    GenerationAnswer,
    OptionAnswer,
    Request,
    SequenceAnswer,
)
from tiltmeter.study import Study, make_study

SIX = ("crows-pairs", "global-opinion-qa", "discrim-eval", "discrim-eval-gen", "dt-stereotyping", "worldbench")
SEEN = math.log(1e-4)  # nats; forms below it are of no weight in any score


@dataclass
class Row:
    """One benchmark, asked of both.

    Attributes:
        requests: how many. answered: by both.
        worst, mean: difference of a log-probability, nats; NaN where none was compared.
        equal: share of greedy texts that are the same, NaN where none is written.
        first: mean share of a text's characters before the first that differs.
        refused: reason -> how often, of either.
        seconds: of A, of B.
    """

    benchmark: str
    requests: int = 0
    answered: int = 0
    worst: float = math.nan
    mean: float = math.nan
    equal: float = math.nan
    first: float = math.nan
    refused: dict[str, int] = field(default_factory=dict)
    seconds: tuple[float, float] = (math.nan, math.nan)


class Asked:
    """A study's one model, ready to be asked; `alone`: one request at a time."""

    def __init__(self, study: Study, alone: bool = False) -> None:
        [spec] = study.variants()
        self.study = study
        name = backend_name(study, spec.source)
        self.backend: Backend = build("backend", name, study=study, probed=lambda base: None, say=print)
        self.backend.check()
        self.identity = self.backend.identity(spec.source)
        self.variant = self.backend.load(spec)
        budget = self.backend.auto_batch_tokens(self.variant)
        self.engine: Any = None if alone else self.backend.engine(self.variant, budget)

    def answers(self, requests: Sequence[Request]) -> tuple[list[Answer], float]:
        """In the order of `requests`, and the seconds they took."""
        started = time.perf_counter()
        if self.engine is None:
            return [reference.answer(self.variant, request) for request in requests], time.perf_counter() - started
        found: dict[int, Answer] = {}
        for batch in self.engine.plan(requests):
            found |= zip(batch, self.engine.answer([requests[place] for place in batch]), strict=True)
        return [found[place] for place in range(len(requests))], time.perf_counter() - started

    def requests(self, name: str, most: int) -> list[Request]:
        benchmark, study = build("benchmark", name), self.study
        if study.format not in benchmark.formats:
            return []
        items = benchmark.subset(benchmark.load(Path(study.data)), study.limit, study.seed)
        render, _ = self.identity.renderer(study.format)
        return [
            request
            for item in items
            for request in benchmark.requests(item, render, decoding="greedy", n_samples=1, seed=study.seed)
        ][:most]


def compared(name: str, ours: Sequence[Answer], theirs: Sequence[Answer]) -> Row:
    """The row of one benchmark from the answers of both, in the same order."""
    row = Row(name, len(ours))
    gaps: list[float] = []
    texts: list[tuple[str, str]] = []
    refused: Counter[str] = Counter()
    for a, b in zip(ours, theirs, strict=True):
        reasons = {str(answer.error) for answer in (a, b) if answer.error}
        refused.update(reasons)
        row.answered += not reasons
        if reasons:
            continue
        if isinstance(a, GenerationAnswer) and isinstance(b, GenerationAnswer):
            texts.append((a.clean or "", b.clean or ""))
        elif isinstance(a, SequenceAnswer) and isinstance(b, SequenceAnswer):
            gaps.append(abs((a.logprob or 0.0) - (b.logprob or 0.0)))
        elif isinstance(a, OptionAnswer) and isinstance(b, OptionAnswer):
            pairs = zip(sum(a.logprobs or (), ()), sum(b.logprobs or (), ()), strict=True)
            gaps += [abs(x - y) for x, y in pairs if x is not None and y is not None and x > SEEN]
    if gaps:
        row.worst, row.mean = max(gaps), math.fsum(gaps) / len(gaps)
    if texts:
        row.equal = sum(a == b for a, b in texts) / len(texts)
        row.first = math.fsum(_common(a, b) / max(len(a), len(b), 1) if a != b else 1.0 for a, b in texts) / len(texts)
    row.refused = dict(refused)
    return row


def _common(a: str, b: str) -> int:
    return next((place for place, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def measure(a: Study, b: Study, benchmarks: Sequence[str] = SIX, alone: bool = False, most: int = 24) -> list[Row]:
    """One row per benchmark. A is asked everything, then B: two models need not fit into memory together."""
    answers: dict[str, list[tuple[list[Answer], float]]] = {name: [] for name in benchmarks}
    for study in (a, b):
        asked = Asked(study, alone=alone and study is b)
        for name in benchmarks:
            requests = asked.requests(name, most)
            answers[name].append(asked.answers(requests) if requests else ([], 0.0))
        asked.backend.release(asked.variant)
    rows = []
    for name, ((ours, first), (theirs, second)) in answers.items():
        row = compared(name, ours, theirs)
        row.seconds = (round(first, 1), round(second, 1))
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| benchmark | requests | answered | largest difference, nats | mean | equal greedy texts | seconds, A and B |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = [f"{value:.2g}" if value == value else "–" for value in (row.worst, row.mean)]
        equal = f"{row.equal:.0%}" if row.equal == row.equal else "–"
        took = " and ".join(f"{value:.0f}" for value in row.seconds)
        lines.append(
            f"| {row.benchmark} | {row.requests} | {row.answered} | {' | '.join(numbers)} | {equal} | {took} |"
        )
        lines += [f"|  | {n} | refused: {reason} | | | | |" for reason, n in row.refused.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a")
    parser.add_argument("b", nargs="?")
    parser.add_argument("--alone", action="store_true", help="B is A, one request at a time")
    parser.add_argument("--format", default="plain")
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--most", type=int, default=24, help="requests of one benchmark")
    parser.add_argument("--benchmark", nargs="+", default=list(SIX))
    parser.add_argument("--tokenizer")
    parser.add_argument("--backend")
    parser.add_argument("--dtype", nargs="+", default=["auto"], metavar="DTYPE", help="of both, or of A and of B")
    parser.add_argument("--data", default=str(Path(os.environ.get("TILTMETER_SHARED", "../shared")) / "data"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = {"format": options.format, "limit": options.limit, "data": options.data}
    a = make_study(models=[options.a], tokenizer=options.tokenizer, dtype=options.dtype[0], **asked)
    tokenizer = options.tokenizer or (options.a if Path(options.a).is_dir() else None)
    theirs = {"tokenizer": tokenizer, "backend": options.backend, "dtype": options.dtype[-1]}
    b = make_study(models=[options.b or options.a], **theirs, **asked)
    rows = measure(a, b, options.benchmark, options.alone, options.most)
    print(table(rows))
    if options.out:
        options.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
