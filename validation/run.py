"""`make validate`: do the intervals cover, and how often is a verdict false? Prints the tables of docs/validity.md.

    python -m validation.run [--replicates 100] [--runs 40] [--workers 2] [--only discrim-eval] [--out docs/validity.md]

Each line is one simulated situation, many pairs of models, every one judged exactly as a run's row is (one row alone,
so its p needs no adjusting over rows). Whole runs of 99 rows, in which nothing changed, are simulated beside them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tiltmeter.analysis.change import Change, Interval
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.schema.verdict import Verdict
from tiltmeter.seeds import seed_for
from validation import populations
from validation.page import page, table
from validation.populations import Scenario
from validation.scenarios import SCENARIOS, crows_change, known_change

POPULATIONS = {
    "crows-pairs": populations.crows_pairs,
    "dt-stereotyping": populations.dt_stereotyping,
    "worldbench": populations.worldbench,
    "discrim-eval": populations.discrim_eval,
    "global-opinion-qa": populations.global_opinion_qa,
    "discrim-eval-gen": populations.discrim_eval_gen,
}
SEEDS = 4
MOVED = (Verdict.WORSE, Verdict.SHIFTED, Verdict.BETTER)
NULL_RUN_ROWS = 99
DEAR = ("global-opinion-qa",)  # simulated a quarter as often


@dataclass(frozen=True)
class Line:
    """Figures of one scenario; shares are fractions of the replicates, NaN where they do not apply."""

    benchmark: str
    scenario: Scenario
    replicates: int
    coverage: float  # of the score's change
    size_coverage: float  # of the attributes' change of size, least of them
    verdicts: Counter[Verdict]
    printed_moved: float  # share in which the printed score's interval excludes 0

    def share(self, *verdicts: Verdict) -> float:
        return sum(self.verdicts[verdict] for verdict in verdicts) / self.replicates

    @property
    def outside(self) -> list[str]:
        """What misses the demands by more than two standard errors of the simulation."""
        s, missed = self.scenario, []
        least = 0.89 if self.benchmark == "dt-stereotyping" and s.base < -2.5 else 0.93
        for name, share in (("the score's change", self.coverage), ("a change of size", self.size_coverage)):
            if share < least - 2 * (least * (1 - least) / self.replicates) ** 0.5:
                missed.append(f"{name} is covered {share:.3f}")
        limit = 0.05 + 2 * (0.05 * 0.95 / self.replicates) ** 0.5
        if s.truth == "unchanged" and self.share(*MOVED) > limit:
            named = ", ".join(f"{v} {self.share(v):.3f}" for v in MOVED if self.verdicts[v])
            missed.append(f"a false verdict in {self.share(*MOVED):.3f} ({named})")
        if s.truth == "margin" and self.share(Verdict.EQUIVALENT) > limit:
            missed.append(f"falsely equivalent {self.share(Verdict.EQUIVALENT):.3f}")
        if s.truth in MOVED:
            wrong = [v for v in (Verdict.WORSE, Verdict.BETTER) if v != s.truth and self.share(v) > limit]
            missed += [f"{v} instead of {s.truth} {self.share(v):.3f}" for v in wrong]
        return missed


def judged(benchmark: str, scenario: Scenario, replicate: int, draws: int) -> Change:
    """One pair of models, compared; few seeds of the resampling, whose draws are kept in memory."""
    rng = np.random.default_rng(seed_for("validate", benchmark, scenario.name, replicate))
    comparison = POPULATIONS[benchmark](rng, scenario)
    return compare(comparison, seed=replicate % SEEDS, draws=draws)


def simulate(benchmark: str, scenario: Scenario, replicates: int, draws: int) -> Line:
    """`replicates` independent pairs of models under one scenario, each compared and judged."""
    changes: list[Change] = []
    for replicate in range(replicates):
        change = judged(benchmark, scenario, replicate, draws)
        changes += settle([Row("m", "s", "plain", "greedy", benchmark, change)])
    known = known_change(benchmark, scenario)
    truth = crows_change(scenario) if known else float(np.mean([c.delta for c in changes]))
    attributes = dict.fromkeys(s.attribute for c in changes for s in c.spreads)
    # where statistics change at random each pair has a true change of its own, which no mean stands for
    sizes = [_size_coverage(changes, attribute) for attribute in attributes if scenario.shape != "statistic"]
    finite = [share for share in sizes if np.isfinite(share)]
    return Line(
        benchmark,
        scenario,
        replicates,
        _cover([c.ci for c in changes], truth),
        min(finite) if finite else float("nan"),
        Counter(c.verdict for c in changes),
        float(np.mean([c.ci.excludes_zero for c in changes])),
    )


def _size_coverage(changes: Sequence[Change], attribute: str) -> float:
    """Share of intervals of one attribute's change of size that hold its mean over all replicates (it is unbiased)."""
    found = [s for c in changes for s in c.spreads if s.attribute == attribute and s.ci.defined]
    return _cover([s.ci for s in found], float(np.mean([s.delta for s in found]))) if found else float("nan")


def _cover(intervals: Sequence[Interval], truth: float) -> float:
    defined = [i for i in intervals if i.defined]
    return float(np.mean([i.low <= truth <= i.high for i in defined])) if defined else float("nan")


def null_run(run: int, draws: int) -> int:
    """How many of 99 rows in which nothing changed are called worse, shifted or better, judged together.

    Benchmarks and noise take turns; global-opinion-qa has 300 questions here, for the time it takes.
    """
    nulls = [
        (benchmark, replace(s, name=f"{s.name}, run", items=300 if benchmark == "global-opinion-qa" else s.items))
        for benchmark, scenarios in SCENARIOS.items()
        for s in scenarios
        if s.truth == "unchanged" and s.null in ("N0", "N1") and not s.shape and np.isinf(s.tails)
    ]
    rows = []
    for place in range(NULL_RUN_ROWS):
        benchmark, scenario = nulls[place % len(nulls)]
        change = judged(benchmark, scenario, run * NULL_RUN_ROWS + place, draws)
        rows.append(Row("m", f"strategy {place}", "plain", "greedy", benchmark, change))
    return sum(change.verdict.moved for change in settle(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--runs", type=int, default=40, help="whole runs of 99 rows in which nothing changed")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=sorted(POPULATIONS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    cells = [(b, s) for b, scenarios in SCENARIOS.items() if given.only in (None, b) for s in scenarios]
    lines, counts = [], []
    with ProcessPoolExecutor(given.workers) as pool:
        waiting = [
            pool.submit(simulate, b, s, max(given.replicates // (4 if b in DEAR else 1), 2), given.draws)
            for b, s in cells
        ]
        runs = [pool.submit(null_run, run, given.draws) for run in range(given.runs if given.only is None else 0)]
        for line in waiting:
            lines.append(line.result())
            print(table(lines[-1:]).splitlines()[-1], file=sys.stderr)
        for run in runs:
            counts.append(run.result())
            print(f"whole run {len(counts)}: {counts[-1]} false verdicts", file=sys.stderr)
    print(table(lines))
    if given.out:
        given.out.write_text(page(lines, counts), encoding="utf-8")


if __name__ == "__main__":
    main()
