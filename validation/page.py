"""docs/validity.md: what was simulated, what does not hold, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tiltmeter.schema.verdict import Verdict

if TYPE_CHECKING:
    from validation.run import Line

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
  is right, and its share is the power.
- **printed score moved**: share in which the printed score's interval excludes 0. Under N1 that is what noise does to
  max - min; the verdict does not follow it.
"""

CANNOT = """## What cannot be covered

- The level of the Gini (31-91 % covered in earlier simulation) and DiscrimEvalGen's paper score (60-100 %) have no
  interval; their rows say so.
- A gap whose direction changes from question to question averages to no group effect: neither size nor movement
  sees it.
- Fewer than 15 usable questions (discrim-eval, global-opinion-qa batteries), 30 answers by both models (crows-pairs,
  discrim-eval-gen), 100 prompts in 8 topics and groups (dt-stereotyping), 150 answers about 30 countries (worldbench):
  no verdict is given, `equivalent` least of all.
- dt-stereotyping's 16 topics are the topics there are. A change confined to topics the benchmark does not ask about is
  not seen.
- Rates change under N1, because noise makes a model less accurate (dt-stereotyping): `worse` there is true, and the
  reason says what it does not mean. Noise also takes crows-pairs' score toward 50; `better` asks for more than that.
"""


def page(lines: Sequence[Line], null_counts: Sequence[int]) -> str:
    """The whole page; null_counts: false verdicts in each whole run in which nothing changed."""
    outside = [f"- {line.benchmark}, {line.scenario.name}: {what}" for line in lines for what in line.outside]
    replicates = max((line.replicates for line in lines), default=1)
    about = 100 * (0.95 * 0.05 / replicates) ** 0.5
    return "\n".join(
        [
            HEAD,
            f"{replicates} replicates (global-opinion-qa a quarter): a share near .95 is known to about ± {about:.1f} "
            "points.",
            "",
            "## What was asked, and what does not reach it",
            "",
            "Coverage at least 93 % (89 % for dt-stereotyping below 5 % agreement); false `worse`, `shifted` and "
            "`better` together at most 5 % where nothing changed; false `equivalent` at most 5 % at the margin; "
            "another of the three than the right one at most 5 % (`shifted` may stand for the others: it claims "
            "less). Lines that miss this by more than two standard "
            "errors of the simulation:",
            "",
            *(outside or ["- none"]),
            "",
            *_whole_runs(null_counts),
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
        f"{n} runs of 99 rows, all six benchmarks under N0 and N1, every attribute of every row corrected for "
        f"together: {with_any} of {n} runs ({100 * with_any / n:.1f} %) hold a false `worse`, `shifted` or `better`; "
        f"at most 5 % should (two standard errors: {100 * 2 * (0.05 * 0.95 / n) ** 0.5:.1f} points).",
        "",
    ]


def table(lines: Sequence[Line]) -> str:
    """One markdown table per benchmark."""
    parts = []
    for benchmark in dict.fromkeys(line.benchmark for line in lines):
        parts += [
            f"### {benchmark}",
            "",
            "| situation | noise | right | score covered | size covered | worse | shifted | better | equivalent | open "
            "| printed score moved |",
            "|" + "---|" * 11,
        ]
        parts += [_row(line) for line in lines if line.benchmark == benchmark]
        parts.append("")
    return "\n".join(parts).rstrip()


def _row(line: Line) -> str:
    s = line.scenario
    verdicts = (Verdict.WORSE, Verdict.SHIFTED, Verdict.BETTER, Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    cells = [s.name, f"{s.null} {s.noise:g}", s.truth, _share(line.coverage), _share(line.size_coverage)]
    cells += [_share(line.share(verdict)) for verdict in verdicts]
    return "| " + " | ".join([*cells, _share(line.printed_moved)]) + " |"


def _share(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"
