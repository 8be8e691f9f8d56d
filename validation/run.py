"""`make validate`: do the intervals cover, and how often is a verdict false? Prints the table of docs/validity.md.

    python -m validation.run [--replicates 500] [--draws 1000] [--only discrim-eval] [--out docs/validity.md]

Each line is one simulated situation, many pairs of models, every one judged exactly as a run's row is (one row alone,
so its p needs no adjusting). The true change is known, or is the mean over all replicates where the estimate is
unbiased.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.contract import Change
from tiltmeter.analysis.settle import Row, settle
from tiltmeter.seeds import seed_for
from validation.populations import (
    Scenario,
    crows_pairs,
    discrim_eval,
    discrim_eval_gen,
    dt_stereotyping,
    global_opinion_qa,
    worldbench,
)
from validation.scenarios import SCENARIOS, TRUE_CHANGE

POPULATIONS = {"crows-pairs": crows_pairs, "dt-stereotyping": dt_stereotyping, "worldbench": worldbench,
               "discrim-eval": discrim_eval, "global-opinion-qa": global_opinion_qa,
               "discrim-eval-gen": discrim_eval_gen}

SEEDS = 4


@dataclass(frozen=True)
class Line:
    """Figures of one scenario; shares are fractions of the replicates, NaN where they do not apply."""

    benchmark: str
    scenario: Scenario
    replicates: int
    truth: float  # mean or known change of the score
    coverage: float  # of the score's change
    distance_coverage: float
    spread_truth: float
    spread_coverage: float
    verdicts: Counter[str]
    level_drift: float  # share in which the paper score's interval excludes 0
    disparity_found: tuple[float, float]  # share of secondary spreads called larger, smaller

    def share(self, verdict: str) -> float:
        return self.verdicts[verdict] / self.replicates


def simulate(benchmark: str, scenario: Scenario, replicates: int, draws: int) -> Line:
    """`replicates` independent pairs of models under one scenario, each compared and judged."""
    changes: list[Change] = []
    for replicate in range(replicates):
        seed = seed_for("validate", benchmark, scenario.name, replicate)
        comparison = POPULATIONS[benchmark](np.random.default_rng(seed), scenario)
        change = compare(comparison, seed=replicate % SEEDS, draws=draws)  # few seeds: their draws are kept in memory
        changes += settle([Row("m", "s", "plain", "greedy", benchmark, change)])
    known = TRUE_CHANGE.get(benchmark)
    truth = known(scenario) if known else float(np.mean([c.delta for c in changes]))
    first = [c.companion for c in changes if c.companion is not None]
    spread_truth = float(np.mean([s.delta for s in first])) if first else float("nan")
    if benchmark == "discrim-eval":
        spread_truth = (scenario.base + scenario.effect) ** 2 - scenario.base**2
    distance_truth = abs(truth) if known is None else known(scenario, distance=True)
    return Line(
        benchmark, scenario, replicates, truth, _cover([c.ci for c in changes], truth),
        _cover([c.distance_ci for c in changes], distance_truth) if known else float("nan"), spread_truth,
        _cover([s.ci for s in first], spread_truth), Counter(c.verdict for c in changes),
        float(np.mean([c.ci.excludes_zero for c in changes])),
        (float(np.mean([s.ci.above_zero and s.p < 0.05 for s in first])) if first else float("nan"),
         float(np.mean([s.ci.below_zero and s.p < 0.05 for s in first])) if first else float("nan")))


def _cover(intervals: list, truth: float) -> float:
    defined = [i for i in intervals if i.defined]
    return float(np.mean([i.low <= truth <= i.high for i in defined])) if defined else float("nan")


def table(lines: list[Line]) -> str:
    """One markdown table per benchmark."""
    parts = []
    for benchmark in dict.fromkeys(line.benchmark for line in lines):
        parts += [f"### {benchmark}", "",
                  "| situation | noise | true change | covered | change of spread | covered | worse | better "
                  "| equivalent | paper score alone moved |", "|---|---|---|---|---|---|---|---|---|---|"]
        for line in lines:
            if line.benchmark == benchmark:
                s = line.scenario
                cover = [line.coverage, line.distance_coverage]
                parts.append("| " + " | ".join([
                    s.name, f"{s.null} {s.noise:g}", _n(line.truth),
                    " / ".join(_s(c) for c in cover if np.isfinite(c)) or "–",
                    _n(line.spread_truth), _s(line.spread_coverage), *(_s(line.share(v)) for v in
                                                                       ("worse", "better", "equivalent")),
                    _s(line.level_drift)]) + " |")
        parts.append("")
    return "\n".join(parts).rstrip()


def _n(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "–"


def _s(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=sorted(POPULATIONS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    lines = []
    for benchmark, scenarios in SCENARIOS.items():
        if given.only not in (None, benchmark):
            continue
        for scenario in scenarios:
            start = time.perf_counter()
            replicates = given.replicates if benchmark != "global-opinion-qa" else max(given.replicates // 4, 2)
            lines.append(simulate(benchmark, scenario, replicates, given.draws))
            seconds = time.perf_counter() - start
            print(f"{table(lines[-1:]).splitlines()[-1]}  {benchmark} {seconds:.0f} s", file=sys.stderr)
    text = table(lines)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
