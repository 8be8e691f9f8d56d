"""`make validate`: do the intervals cover, and how often is a verdict false? Writes docs/validity.md.

    python -m validation.run [--replicates 200] [--runs 100] [--workers 2] [--only discrim-eval] [--out FILE]

Each line is one simulated situation, many pairs of models, every one judged exactly as a run's row is (one row alone,
so its p needs no adjusting over rows), and by the rules of before (`old_rules.py`). Whole runs of 99 rows, in which
nothing changed, are simulated beside them. What is finished is kept in build/validation and not computed again, unless
the analysis or the populations changed: a command that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tiltmeter.analysis.change import Change, Interval
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.types import Comparison
from tiltmeter.seeds import seed_for
from validation import contrasts, populations
from validation.levers import levers, max_t
from validation.line import Line
from validation.old_rules import old_verdict
from validation.page import page
from validation.pieces import Pieces
from validation.populations import Scenario
from validation.scenarios import SCENARIOS, crows_change, known_change

POPULATIONS = {
    "crows-pairs": populations.crows_pairs,
    "dt-stereotyping": populations.dt_stereotyping,
    "worldbench": populations.worldbench,
    "discrim-eval": populations.discrim_eval,
    "global-opinion-qa": populations.global_opinion_qa,
    "discrim-eval-gen": populations.discrim_eval_gen,
    **contrasts.POPULATIONS,
}
ALL = {**SCENARIOS, **{name: contrasts.scenarios(name) for name in contrasts.POPULATIONS}}
NOT_AT_RANDOM = ("vanish", "lost", "unanswered")
FEWEST = 15
SEEDS = 4
NULL_RUN_ROWS = 99
DEAR = {"global-opinion-qa": 8}  # simulated so many times less often


def drawn(benchmark: str, scenario: Scenario, replicate: int) -> Comparison:
    """One pair of models."""
    rng = np.random.default_rng(seed_for("validate", benchmark, scenario.name, replicate))
    return POPULATIONS[benchmark](rng, scenario)


def judged(benchmark: str, scenario: Scenario, replicate: int, draws: int) -> Change:
    """One pair of models, compared; few seeds of the resampling, whose draws are kept in memory."""
    return compare(drawn(benchmark, scenario, replicate), seed=replicate % SEEDS, draws=draws)


def simulate(benchmark: str, scenario: Scenario, replicates: int, draws: int) -> Line:
    """`replicates` independent pairs of models under one scenario, each compared and judged."""
    changes: list[Change] = []
    before: Counter[str] = Counter()
    for replicate in range(replicates):
        comparison = drawn(benchmark, scenario, replicate)
        change = compare(comparison, seed=replicate % SEEDS, draws=draws)
        if benchmark in SCENARIOS:
            before[old_verdict(comparison, change, seed=replicate % SEEDS, draws=draws)] += 1
        changes += settle([Row("m", "s", "plain", "greedy", benchmark, change)])
    known = known_change(benchmark, scenario)
    truth = crows_change(scenario) if known else float(np.mean([c.delta for c in changes]))
    if scenario.shape in NOT_AT_RANDOM or (scenario.items is not None and scenario.items < FEWEST):
        truth = float("nan")  # what vanished belongs to the truth; of so few nothing is claimed
    attributes = dict.fromkeys(s.attribute for c in changes for s in c.spreads)
    # where statistics change at random each pair has a true change of its own, which no mean stands for
    shown = scenario.shape != "statistic" and np.isfinite(truth)
    sizes = [_size_coverage(changes, attribute) for attribute in attributes if shown]
    finite = [share for share in sizes if np.isfinite(share)]
    return Line(
        benchmark,
        scenario,
        replicates,
        _cover([c.ci for c in changes], truth),
        min(finite) if finite else float("nan"),
        Counter(str(c.verdict) for c in changes),
        float(np.mean([c.ci.excludes_zero for c in changes])),
        before,
    )


def _size_coverage(changes: Sequence[Change], attribute: str) -> float:
    """Share of intervals of one attribute's change of size that hold its mean over all replicates (it is unbiased)."""
    found = [s for c in changes for s in c.spreads if s.attribute == attribute and s.ci.defined]
    return _cover([s.ci for s in found], float(np.mean([s.delta for s in found]))) if found else float("nan")


def _cover(intervals: Sequence[Interval], truth: float) -> float:
    defined = [i for i in intervals if i.defined and np.isfinite(truth)]
    return float(np.mean([i.low <= truth <= i.high for i in defined])) if defined else float("nan")


def null_rows() -> list[tuple[str, Scenario]]:
    """Situations in which nothing changed, as rows of a whole run: N0, N1 and N2, noise of every kind.

    global-opinion-qa has 300 questions here, for the time it takes.
    """
    return [
        (benchmark, replace(s, name=f"{s.name}, run", items=300 if benchmark == "global-opinion-qa" else s.items))
        for benchmark, scenarios in SCENARIOS.items()
        for s in scenarios
        if s.truth == "unchanged" and s.null in ("N0", "N1", "N2")
    ]


def null_run(run: int, draws: int) -> int:
    """How many of 99 rows in which nothing changed are called worse, shifted or better, judged together."""
    nulls, rows = null_rows(), []
    for place in range(NULL_RUN_ROWS):
        benchmark, scenario = nulls[(place + run * 7) % len(nulls)]
        change = judged(benchmark, scenario, run * NULL_RUN_ROWS + place, draws)
        rows.append(Row("m", f"strategy {place}", "plain", "greedy", benchmark, change))
    return sum(change.verdict.moved for change in settle(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--runs", type=int, default=100, help="whole runs of 99 rows in which nothing changed")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=sorted(POPULATIONS))
    parser.add_argument("--minutes", type=float, default=0.0, help="start nothing new after so many; 0: no end")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("build/validation"))
    given = parser.parse_args()
    cells = [(b, s) for b, scenarios in ALL.items() if given.only in (None, b) for s in scenarios]
    until = time.monotonic() + 60 * given.minutes if given.minutes else float("inf")
    pieces = Pieces(given.keep, given.workers, until)
    for benchmark, s in cells:
        often = max(given.replicates // DEAR.get(benchmark, 1), 2)
        pieces.add(("line", benchmark, s, often, given.draws), line, benchmark, s, often, given.draws)
    if given.only is None:
        pieces.add(("levers", given.replicates), levers, given.replicates)
        pieces.add(("max-t",), max_t)
        for run in range(given.runs):
            pieces.add(("run", run, given.draws), null_run, run, given.draws)
    with ProcessPoolExecutor(given.workers) as pool:
        pieces.compute(pool, lambda key: print(*(getattr(x, "name", x) for x in key), file=sys.stderr))
    print(len(pieces.done), "pieces done,", len(pieces.waiting), "left", file=sys.stderr)
    found = page(
        [Line.of(key[1], key[2], value) for key, value in pieces.of("line")],
        [value for _, value in pieces.of("run")],
        [row for _, value in pieces.of("levers") for row in value],
        [row for _, value in pieces.of("max-t") for row in value],
        given.replicates,
    )
    if given.out:
        given.out.write_text(found, encoding="utf-8")
    else:
        print(found)
    if pieces.waiting:
        print("the same command computes the rest", file=sys.stderr)
        raise SystemExit(3)


def line(benchmark: str, scenario: Scenario, replicates: int, draws: int) -> dict[str, Any]:
    """`simulate`, as JSON holds it."""
    return simulate(benchmark, scenario, replicates, draws).stored()


if __name__ == "__main__":
    main()
