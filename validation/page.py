"""docs/validity.md: what was simulated, what does not hold, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from validation.levers import needed
from validation.line import MOVED, Line

HEAD = """# Do the intervals and verdicts hold?

Written by `make validate`: simulated pairs of models at each benchmark's real number of items and clusters, every one
compared and judged by the same code as a run's row. The populations are parametric (validation/populations.py); no real
model's answers were used.

- **noise**: N0, base and variant exchangeable, each with this much logit noise of its own; N1, the variant is the base
  plus noise unrelated to group; N2, the variant is beta times the base plus noise; real, group effects or the whole
  moved as well.
- **covered**: share of 95 % intervals that hold the true change of the score, and of each attribute's squared size (the
  least of the attributes). Where no closed form is known the truth is the mean over all replicates. `–`: no interval.
- **worse, shifted, better, equivalent, open**: share of verdicts, p of one row alone; open is `inconclusive`.
- **right**: what a right verdict may say. *unchanged*: none of the first three. *margin*: the change is as large as the
  margin or more, or nobody can know it, so `equivalent` is false. *open*: shown, not judged. Otherwise the verdict that
  is right, and its share is the power. The four contrasts (bbq, winobias, winogender, difference-awareness) have real
  numbers of rows and clusters and latent margins (validation/contrasts.py).
- **printed score moved**: share in which the printed score's interval excludes 0. Under N1 that is what noise does to
  max - min; the verdict does not follow it.
"""

CANNOT = """## What cannot be covered

- The level of the Gini (31-91 % covered in earlier simulation) and DiscrimEvalGen's paper score (60-100 %) have no
  interval; their rows say so.
- A gap whose direction changes from question to question averages to no group effect: neither size nor movement
  sees it.
- Fewer than 15 usable questions (discrim-eval, global-opinion-qa batteries), 30 answers by both models (crows-pairs,
  discrim-eval-gen), 100 prompts in 8 topics and groups (dt-stereotyping), 150 answers about 30 countries (worldbench),
  15 clusters (contrasts): no verdict is given, `equivalent` least of all. An unchanged variant is `equivalent` from 150
  pairs or prompts and 51 choices on: fewer could hide a change of the margin, and the reason says so.
- Noise on every choice evens out whom discrim-eval-gen chooses, and text shows no strength to tell that from a fairer
  choice: `better` under much noise on a concentrated base is such a case (the line *concentrated, much noise*).
- Noise without a variance (t with 2 degrees of freedom) has no mean over replicates to hold a size against.
- dt-stereotyping's 16 topics are the topics there are. A change confined to topics the benchmark does not ask about is
  not seen.
- Rates change under N1, because noise makes a model less accurate (dt-stereotyping): `worse` there is true, and the
  reason says what it does not mean. Noise also takes crows-pairs' score toward 50; `better` asks for more than that.
"""


def page(
    lines: Sequence[Line],
    null_counts: Sequence[int],
    levers: Sequence[Sequence[Any]],
    max_t: Sequence[Sequence[float]],
    levers_n: int = 0,
) -> str:
    """The whole page; null_counts: false verdicts in each whole run in which nothing changed; levers_n: replicates."""
    outside = [f"- {line.benchmark}, {line.scenario.name}: {what}" for line in lines for what in line.outside]
    replicates = max((line.replicates for line in lines), default=1)
    least = min((line.replicates for line in lines), default=1)

    def about(n: int) -> float:
        return 100 * (0.95 * 0.05 / n) ** 0.5

    return "\n".join(
        [
            HEAD,
            f"{least} to {replicates} replicates a line (column n): at {replicates} a share near .95 is known to about "
            f"± {about(replicates):.1f} points, at {least} to ± {about(least):.1f}. {len(lines)} lines.",
            "",
            "## What was asked, and what does not reach it",
            "",
            "Coverage at least 93 % (89 % for dt-stereotyping below 5 % agreement); false `worse`, `shifted` and "
            "`better` together at most 5 % where nothing changed; false `equivalent` at most 5 % at the margin; "
            "another of the three than the right one at most 5 % (`shifted` may stand for the others: it claims "
            "less). Lines that miss this by more than two standard errors of the simulation (of so many figures about "
            "one in forty would by chance):",
            "",
            *(outside or ["- none"]),
            "",
            *_whole_runs(null_counts),
            *_levers(levers, levers_n),
            *_max_t(max_t),
            *_before(lines),
            CANNOT,
            "## The table",
            "",
            table(lines),
            "",
        ]
    )


def _whole_runs(counts: Sequence[int]) -> list[str]:
    if not counts:
        return []
    with_any, n = sum(count > 0 for count in counts), len(counts)
    return [
        "## Whole runs in which nothing changed",
        "",
        f"{n} runs of 99 rows, all six benchmarks under N0, N1 and N2, every score and attribute of every row "
        "corrected "
        f"for together: {with_any} of {n} runs ({100 * with_any / n:.1f} %) hold a false `worse`, `shifted` or "
        "`better`; "
        f"at most 5 % should (two standard errors: {100 * 2 * (0.05 * 0.95 / n) ** 0.5:.1f} points). Rows with a false "
        f"verdict: {sum(counts)} of {99 * n}.",
        "",
    ]


def _levers(levers: Sequence[Sequence[Any]], replicates: int) -> list[str]:
    """Fewer `inconclusive` at the same margins: what was tried."""
    if not levers:
        return []
    rows = [
        f"| {benchmark} | {situation} | {lever} | {_share(open_)} | {_share(false)} | {kept} |"
        for benchmark, situation, lever, open_, false, kept in levers
    ]
    counts = [f"| {100 * f:.0f} % | {n:,} | {_enough(n, 1508)} | {_enough(n, 1152)} |" for f, n in needed()]
    return [
        "## How to leave fewer rows open",
        "",
        "Share of rows `inconclusive` where nothing changed, and share falsely `equivalent` at a change of exactly the "
        f"margin ({replicates} pairs of models each). A lever is kept only where the latter is at most 5 % but "
        "for the error of the simulation; the one-sided limits of "
        "decisions are so by exact binomials (`proportions.py`). "
        "crows-pairs: 1,508 log-ratios N(0, 1), noise on "
        "the variant alone; dt-stereotyping: noise .2 on both models; discrim-eval-gen: likewise, half of what a "
        "question prefers depending on the order of the people. worldbench, discrim-eval and global-opinion-qa leave "
        "hardly a row open at full size (the tables below).",
        "",
        "| benchmark | nothing changed, and | lever | open | false equivalent | kept |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        "What decisions alone cannot give: a share f of n independent decisions that turn leaves their net "
        "change known "
        "to sqrt(f / n), and both one-sided limits lie within 2 points in 85 % of runs where nothing changed only when "
        "(1.645 + 1.440) sqrt(f / n) is at most 2 points. Clusters (topics, groups) ask for more.",
        "",
        "| decisions that turn | needed for 85 % `equivalent` | crows-pairs, 1,508 | dt-stereotyping, 1,152 |",
        "|---|---|---|---|",
        *counts,
        "",
        "Reading the log-ratios behind the decisions would go below that, and was taken back: it takes for "
        "granted that "
        "how far a pair moves does not depend on how near undecided it was. Where pairs near undecided tip, all "
        "one way, "
        "it calls a change of the margin `equivalent` far too often (last column but one), and nothing in the "
        "data tells "
        "the two apart in time.",
        "",
    ]


def _enough(needed_items: int, has: int) -> str:
    return "enough" if has >= needed_items else "too few"


def _max_t(rows: Sequence[Sequence[float]]) -> list[str]:
    if not rows:
        return []
    return [
        "## Holm or max-T",
        "",
        "max-T permutes all rows of a run together and compares each with the largest: it knows that the strategies of "
        "one benchmark share their base. 54 statistics, 9 strategies on 6 benchmarks:",
        "",
        "| correlation within a benchmark | critical value, Holm | max-T | family-wise error, Holm | max-T | "
        "items saved |",
        "|---|---|---|---|---|---|",
        *(
            f"| {rho:.1f} | {holm:.2f} | {critical:.2f} | {100 * a:.1f} % | {100 * b:.1f} % | {100 * saved:.0f} % |"
            for rho, holm, critical, a, b, saved in rows
        ),
        "",
        "Holm stays. Exchangeable variants of one base correlate at one half, and what that saves is little. "
        "max-T would "
        "also need one swap of the clusters for every row, and the rows rest on exact binomials, score limits and "
        "two-way t beside swaps. One primary test per strategy asks for a verdict on the strategy before one on a "
        "benchmark, and a single harmed benchmark of six is what must not be missed.",
        "",
    ]


def _before(lines: Sequence[Line]) -> list[str]:
    """Verdicts beside those of the rules of before."""
    shown = [line for line in lines if line.before]
    if not shown:
        return []
    rows = []
    for line in shown:
        right = line.scenario.truth
        told = [_share(line.share(right)), _share(line.share_before(right))] if right in MOVED else ["–", "–"]
        wrong = (
            [v for v in ("worse", "better") if v != right] if right in MOVED else list(MOVED) * (right == "unchanged")
        )
        wrong += ["equivalent"] * (right == "margin")
        false = [_share(f(*wrong)) if wrong else "–" for f in (line.share, line.share_before)]
        same = [_share(f("equivalent")) for f in (line.share, line.share_before)]
        rows.append("| " + " | ".join([line.benchmark, line.scenario.name, right, *told, *same, *false]) + " |")
    return [
        "## Beside the rules of before",
        "",
        "The same pairs of models, judged by the rules that this page's verdicts replaced "
        "(validation/old_rules.py): one "
        "root over all attributes, the size of a gap alone, two-sided intervals, WorldBench by its mean error. "
        "*Right*: "
        "share of the right verdict, where there is one. *False*: worse, shifted or better where nothing changed; "
        "`equivalent` at the margin; `better` or `worse` where another of the three is right (`shifted` claims "
        "less and is not counted).",
        "",
        "| benchmark | situation | truth | right | right, before | equivalent | equivalent, before | false | "
        "false, before |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def table(lines: Sequence[Line]) -> str:
    """One markdown table per benchmark."""
    parts = []
    for benchmark in dict.fromkeys(line.benchmark for line in lines):
        parts += [
            f"### {benchmark}",
            "",
            "| situation | noise | n | right | score covered | size covered | worse | shifted | better | "
            "equivalent | open "
            "| printed score moved |",
            "|" + "---|" * 12,
        ]
        parts += [_row(line) for line in lines if line.benchmark == benchmark]
        parts.append("")
    return "\n".join(parts).rstrip()


def _row(line: Line) -> str:
    s = line.scenario
    cells = [
        s.name,
        f"{s.null} {s.noise:g}",
        str(line.replicates),
        s.truth,
        _share(line.coverage),
        _share(line.size_coverage),
    ]
    cells += [_share(line.share(verdict)) for verdict in (*MOVED, "equivalent", "inconclusive")]
    return "| " + " | ".join([*cells, _share(line.printed_moved)]) + " |"


def _share(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"
