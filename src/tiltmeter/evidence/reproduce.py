"""Does a second run reproduce the first, and within what noise?

Every row that both runs have is compared item by item, the first run in the place of the base and the second in that
of the variant, by the statistics that judge a strategy. "Reproduced" means what `equivalent` means: the interval of
the difference lies inside the smallest change that matters. Bases are compared too: what the machine alone brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.benchmarks.base import Outcome
from tiltmeter.errors import UserError
from tiltmeter.registry import build
from tiltmeter.results.changes import paired_change, protocol
from tiltmeter.results.items import cells_of, outcomes
from tiltmeter.runs.record import run_record, study_of
from tiltmeter.runs.store import Cell
from tiltmeter.schema import Place, Verdict

Answer = Literal["identical", "reproduced", "not reproduced", "cannot tell", "only in one run"]


@dataclass(frozen=True)
class Again:
    """One row of two runs.

    Attributes:
        place: where it stands in both.
        answer: identical (every item's value is the same), reproduced, not reproduced, cannot tell, only in one run.
        n_changed, n_items: items whose value differs, of those in both.
        why: one sentence.
    """

    place: Place
    answer: Answer
    n_changed: int
    n_items: int
    why: str


def reproduce(first: Path, second: Path) -> tuple[list[Again], list[str]]:
    """Every row of two runs, and what differs between the runs themselves. Raises UserError where they share no row."""
    runs = [cells_of(first), cells_of(second)]
    shared = [place for place in runs[0] if place in runs[1]]
    if not shared:
        raise UserError(
            f"{first} and {second} have no row in common (model, strategy, format, decoding, benchmark)",
            fix="compare two runs of the same study",
        )
    study = study_of(run_record(first), first)
    found: list[Again] = []
    rows: list[Row] = []
    unsettled: list[Again] = []
    for place in shared:
        again = _exactly(place, runs[0][place], runs[1][place])
        if again.answer == "cannot tell" and again.n_items:
            benchmark = build("benchmark", place.benchmark)
            base, variant = (protocol(outcomes(cells[place], benchmark)) for cells in runs)
            change = paired_change(benchmark, base, variant, study)
            rows.append(Row(place.model, place.strategy, place.format, place.decoding, place.benchmark, change))
            unsettled.append(again)
        else:
            found.append(again)
    for again, change in zip(unsettled, settle(rows)):
        found.append(_judged(again, change.verdict, str(change.reason)))
    found += [
        Again(place, "only in one run", 0, 0, f"not in {other}")
        for cells, others, other in ((runs[0], runs[1], second), (runs[1], runs[0], first))
        for place in cells
        if place not in others
    ]
    order = {place: number for number, place in enumerate([*runs[0], *runs[1]])}
    return sorted(found, key=lambda again: order[again.place]), _differences(first, second)


def exit_status(found: list[Again]) -> int:
    """0 all rows are identical or reproduced, 1 a row is not, 3 a row cannot be told or is missing; 1 beats 3."""
    answers = {again.answer for again in found}
    return 1 if "not reproduced" in answers else 3 if answers & {"cannot tell", "only in one run"} else 0


def _exactly(place: Place, one: Cell, two: Cell) -> Again:
    """Whether all items' values are the same; otherwise open, with the count."""
    if one.done is None or two.done is None:
        return Again(place, "cannot tell", 0, 0, "the row is not finished in both runs")
    benchmark = build("benchmark", place.benchmark)
    values = [{o.item: _values(o) for o in outcomes(cell, benchmark)} for cell in (one, two)]
    both = [item for item in values[0] if item in values[1]]
    changed = sum(values[0][item] != values[1][item] for item in both)
    if both and not changed and len(both) == len(values[0]) == len(values[1]):
        return Again(place, "identical", 0, len(both), f"all {len(both)} items have the same values")
    return Again(place, "cannot tell", changed, len(both), "")


def _values(outcome: Outcome) -> str:
    """All of an item's numbers and reasons, NaN equal to itself."""
    return repr(outcome)


def _judged(again: Again, verdict: str, reason: str) -> Again:
    answer: Answer = "cannot tell"
    if verdict == Verdict.EQUIVALENT:
        answer = "reproduced"
    elif verdict in (Verdict.WORSE, Verdict.BETTER, Verdict.SHIFTED):
        answer = "not reproduced"
    return Again(again.place, answer, again.n_changed, again.n_items, reason)


def _differences(first: Path, second: Path) -> list[str]:
    """Versions, hardware and settings in which two runs differ, one line each."""
    records = run_record(first), run_record(second)
    lines = []
    for name, one, two in (
        *(
            (f"version of {n}", records[0].versions.get(n), records[1].versions.get(n))
            for n in sorted({*records[0].versions, *records[1].versions})
        ),
        *(
            (f"hardware, {n}", records[0].hardware.get(n), records[1].hardware.get(n))
            for n in sorted({*records[0].hardware, *records[1].hardware})
        ),
        *(
            (f"study, {n}", records[0].study.get(n), records[1].study.get(n))
            for n in sorted({*records[0].study, *records[1].study})
        ),
    ):
        if one != two:
            lines.append(f"{name}: {one} in the first, {two} in the second")
    return lines
