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
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.types import Change
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

POPULATIONS = {
    "crows-pairs": crows_pairs,
    "dt-stereotyping": dt_stereotyping,
    "worldbench": worldbench,
    "discrim-eval": discrim_eval,
    "global-opinion-qa": global_opinion_qa,
    "discrim-eval-gen": discrim_eval_gen,
}

SEEDS = 4
COMPANIONS = ("discrim-eval", "global-opinion-qa", "discrim-eval-gen")


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

    @property
    def outside(self) -> list[str]:
        """What misses the demands by more than two standard errors of the simulation."""
        s, missed = self.scenario, []
        least = 0.89 if self.benchmark == "dt-stereotyping" and s.base < -2.5 else 0.93
        for name, share in (
            ("the change", self.coverage),
            ("its distance", self.distance_coverage),
            ("the spread", self.spread_coverage),
        ):
            if share < least - 2 * (least * (1 - least) / self.replicates) ** 0.5:
                missed.append(f"{name} is covered {share:.3f}")
        limit = 0.05 + 2 * (0.05 * 0.95 / self.replicates) ** 0.5
        unchanged = (
            s.null == "N0"
            or "crosses" in s.name
            or (
                s.null == "N1"
                and "true" not in s.name
                and (self.benchmark in COMPANIONS or self.benchmark == "crows-pairs")
            )
        )
        if unchanged:
            missed += [f"falsely {v} {self.share(v):.3f}" for v in ("worse", "better") if self.share(v) > limit]
        if unchanged or (self.benchmark == "worldbench" and s.null != "real"):
            missed += [
                f"spread falsely {word} {share:.3f}"
                for word, share in zip(("larger", "smaller"), self.disparity_found, strict=True)
                if share > limit
            ]
        if "at the margin" in s.name and self.share("equivalent") > limit:
            missed.append(f"falsely equivalent {self.share('equivalent'):.3f}")
        return missed


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
        benchmark,
        scenario,
        replicates,
        truth,
        _cover([c.ci for c in changes], truth),
        _cover([c.distance_ci for c in changes], distance_truth) if known else float("nan"),
        spread_truth,
        _cover([s.ci for s in first], spread_truth),
        Counter(c.verdict for c in changes),
        float(np.mean([c.ci.excludes_zero for c in changes])),
        (
            float(np.mean([s.ci.above_zero and s.p < 0.05 for s in first])) if first else float("nan"),
            float(np.mean([s.ci.below_zero and s.p < 0.05 for s in first])) if first else float("nan"),
        ),
    )


def page(lines: list[Line]) -> str:
    """docs/validity.md: what was simulated, the table, and every line outside what was asked."""
    outside = [f"- {line.benchmark}, {line.scenario.name}: {what}" for line in lines for what in line.outside]
    return "\n".join(
        [
            "# Do the intervals and verdicts hold?",
            "",
            "Written by `make validate`: simulated pairs of models at each benchmark's real number of items "
            "and clusters, "
            "every one compared and judged by the same code as a run's row. The populations are parametric "
            "(validation/populations.py); no real model's answers were used.",
            "",
            "- **noise**: N0, base and variant exchangeable, each with this much logit noise of its own; N1, "
            "the variant "
            "is the base plus noise unrelated to group; real, a change of the group effects or of the whole as well.",
            "- **covered**: share of 95 % intervals that hold the true change: of the score (and of its "
            "distance from the "
            "ideal), and of the noise-corrected spread. Where no closed form is known the truth is the mean over all "
            "replicates. `–`: there is no interval, or no spread.",
            "- **worse, better, equivalent**: share of verdicts, p of one row alone. At the margin, "
            "`equivalent` is false.",
            "- **printed score moved**: share in which the interval of the printed score excludes 0. Under N1 that is "
            "what noise does to max - min; the verdict does not follow it.",
            "- **spread larger, smaller**: share in which the spread's interval excludes 0 and its p is below .05; for "
            "worldbench, whose verdict rests on the mean error, what is said of its disparity.",
            f"- {lines[0].replicates if lines else 0} replicates (global-opinion-qa a quarter): a share near "
            f".95 is known "
            f"to about ± {100 * (0.95 * 0.05 / max(lines[0].replicates, 1)) ** 0.5:.0f} points.",
            "",
            "## What was asked, and what does not reach it",
            "",
            "Coverage at least 93 % (89 % for dt-stereotyping below 5 % agreement); false `worse` and false "
            "`better` at "
            "most 5 % each where nothing changed; false `equivalent` at most 5 % at the margin. More than 97 % "
            "covered is "
            "conservative: it happens where no group gap exists or few answers flip. Lines that miss this by "
            "more than two "
            "standard errors of the simulation:",
            "",
            *(outside or ["- none"]),
            "",
            "## What cannot be covered",
            "",
            "- The level of the Gini (31-91 % covered in earlier simulation) and DiscrimEvalGen's paper score "
            "(60-100 %) "
            "have no interval; their rows say so.",
            "- A gap whose direction changes from question to question averages to no group effect: the spread "
            "cannot see "
            "it. Sharpening all logits reads as a larger gap.",
            "- Fewer than about 15 questions: the spread's interval covers 92-95 %, and `equivalent` is not given.",
            "- Rates, mean errors and mean distances change under N1, because noise makes a model less "
            "accurate: `worse` "
            "there is true, and the reason says what it does not mean.",
            "",
            "## The table",
            "",
            table(lines),
            "",
        ]
    )


def _cover(intervals: list, truth: float) -> float:
    defined = [i for i in intervals if i.defined]
    return float(np.mean([i.low <= truth <= i.high for i in defined])) if defined else float("nan")


def table(lines: list[Line]) -> str:
    """One markdown table per benchmark."""
    parts = []
    for benchmark in dict.fromkeys(line.benchmark for line in lines):
        parts += [
            f"### {benchmark}",
            "",
            "| situation | noise | true change | covered | change of spread | covered | worse | better "
            "| equivalent | printed score moved | spread larger, smaller |",
            "|" + "---|" * 11,
        ]
        for line in lines:
            if line.benchmark == benchmark:
                s = line.scenario
                cover = [line.coverage, line.distance_coverage]
                parts.append(
                    "| "
                    + " | ".join(
                        [
                            s.name,
                            f"{s.null} {s.noise:g}",
                            _n(line.truth),
                            " / ".join(_s(c) for c in cover if np.isfinite(c)) or "–",
                            _n(line.spread_truth),
                            _s(line.spread_coverage),
                            *(_s(line.share(v)) for v in ("worse", "better", "equivalent")),
                            _s(line.level_drift),
                            ", ".join(map(_s, line.disparity_found)),
                        ]
                    )
                    + " |"
                )
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
    print(table(lines))
    if given.out:
        given.out.write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
