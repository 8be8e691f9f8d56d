"""How often the gate passes, by `exclude_harm_beyond`.

    python -m validation.gate [--replicates 150] [--workers 2] [--out docs/pipeline.md]

Whole runs of one variant on six benchmarks, judged together as a run is:

INT8-like     base and variant exchangeable (N0), logit noise .05: nothing changed, full size
harmed        the same, and on ONE benchmark, each in turn, a true harm of twice the default bound: 4 margins
20 items      INT8-like, the first 20 items of each: pairs, prompts, questions, 2 countries, people of one question

A row passes when it is equivalent or better, or inconclusive with its far end within the bound; a run, when all do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from tiltmeter.analysis.change import Change
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.decisions.policy import Limits
from tiltmeter.results.changes import far_end
from tiltmeter.schema import Verdict
from tiltmeter.seeds import seed_for
from validation import populations
from validation.pieces import Pieces
from validation.populations import BENCHMARKS, Scenario

BOUNDS = (1.0, 1.5, 2.0, 2.5, 3.0)
DRAWS = 400
INT8_LIKE = {
    name: Scenario("INT8-like", 0.05, "N0", base=base)
    for name, base in zip(BENCHMARKS, (0.3, -1.0, 0.2, 0.1, 0.3, 0.3), strict=True)
}
HARMED = {  # 4 margins: 8 points, 8 points, .08 of region, .2 of gender, .08 nat between countries, .4 of choices
    name: replace(INT8_LIKE[name], name="harmed", null="real", effect=effect, shape=shape)
    for name, effect, shape in (
        ("crows-pairs", 0.2215, ""),
        ("dt-stereotyping", 0.345, ""),
        ("worldbench", 0.08, "margin"),
        ("discrim-eval", 0.2, "gender"),
        ("global-opinion-qa", 1.0, ""),
        ("discrim-eval-gen", 0.696, ""),
    )
}
FEW = dict(zip(BENCHMARKS, (20, 20, 2, 1, 20, 20), strict=True))
PASSES = (Verdict.EQUIVALENT, Verdict.BETTER)
Passes = tuple[bool, ...]  # of one row or run, by bound


def compared(name: str, scenario: Scenario, replicate: int) -> Change:
    rng = np.random.default_rng(seed_for("gate", name, scenario.name, replicate))
    return compare(getattr(populations, name.replace("-", "_"))(rng, scenario), seed=replicate % 3, draws=DRAWS)


def passed(changes: Sequence[Change]) -> list[Passes]:
    """Of each row of one variant's run, whether it passes at each bound."""
    rows = [Row("m", "s", "plain", "greedy", change.benchmark, change) for change in changes]
    judged = [(change.verdict, far_end(change)) for change in settle(rows)]
    return [tuple(v in PASSES or (v is Verdict.INCONCLUSIVE and far <= b) for b in BOUNDS) for v, far in judged]


def replicate(seed: int) -> dict[str, Passes]:
    """What one drawing of all populations passes: lines of the table -> by bound."""
    null = [compared(name, INT8_LIKE[name], seed) for name in BENCHMARKS]
    rows = passed(null)
    found = {f"{name}, INT8-like": row for name, row in zip(BENCHMARKS, rows, strict=True)}
    found["**all six, INT8-like**"] = _all(rows)
    for place, name in enumerate(BENCHMARKS):
        run = [*null[:place], compared(name, HARMED[name], seed), *null[place + 1 :]]
        found[f"all six, {name} harmed by 4 margins"] = _all(passed(run))
    few = passed([compared(name, replace(INT8_LIKE[name], name="few", items=FEW[name]), seed) for name in BENCHMARKS])
    found["all six, 20 items each"] = _all(few)
    found["any of the six, 20 items"] = tuple(any(row[place] for row in few) for place in range(len(BOUNDS)))
    return found


def _all(rows: Sequence[Passes]) -> Passes:
    return tuple(all(row[place] for row in rows) for place in range(len(BOUNDS)))


def lines(found: Sequence[dict[str, Passes]]) -> list[str]:
    head = " | ".join(f"{bound:g} margins" for bound in BOUNDS)
    rows = []
    for name in found[0]:
        shares = np.mean([one[name] for one in found], axis=0)
        rows.append(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    return [f"| passes, of {len(found)} runs | {head} |", "|---" * (len(BOUNDS) + 1) + "|", *rows]


def demands(found: Sequence[dict[str, Passes]]) -> str:
    """Whether the default bound does what was asked of it."""
    at = BOUNDS.index(Limits().exclude_harm_beyond)
    share = {name: float(np.mean([one[name][at] for one in found])) for name in found[0]}
    harmed = {name: value for name, value in share.items() if "harmed" in name}
    worst = max(harmed, key=lambda name: harmed[name])
    return (
        f"At the default of {BOUNDS[at]:g} margins a run without a true effect passes in "
        f"{100 * share['**all six, INT8-like**']:.1f} % (asked: 90 %), one harmed by twice that on a single benchmark "
        f"in at most {100 * harmed[worst]:.1f} % (asked: 5 %; {worst.split(', ')[1].split(' harmed')[0]}), one of 20 "
        f"items in {100 * share['all six, 20 items each']:.1f} % (asked: never)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=150)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="page whose table between <!-- gate --> marks is replaced")
    parser.add_argument("--keep", type=Path, default=Path("build/validation"))
    given = parser.parse_args()
    pieces = Pieces(given.keep, given.workers)
    for seed in range(given.replicates):
        pieces.add(("gate", seed, BOUNDS, DRAWS, tuple(INT8_LIKE.values()), tuple(HARMED.values())), replicate, seed)
    with ProcessPoolExecutor(given.workers) as pool:
        pieces.compute(pool, lambda key: print(*key[:2], file=sys.stderr))
    found = [value for _, value in pieces.of("gate")]
    text = "\n".join([*lines(found), "", demands(found)])
    print(text)
    if given.out:
        mark = "<!-- gate -->"
        before, _, after = given.out.read_text(encoding="utf-8").split(mark)
        given.out.write_text(f"{before}{mark}\n{text}\n{mark}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
