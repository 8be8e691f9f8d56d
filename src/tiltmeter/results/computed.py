"""From stored answers to the results document. No model is needed: answers in, numbers out.

`write_results` reads every finished cell, scores it, compares each variant with its base item by
item, and writes RUN/results.json (`tiltmeter.schema.Document`, NaN as null).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from tiltmeter.benchmarks.base import Benchmark, Outcome
from tiltmeter.decisions import choose
from tiltmeter.decisions.controls import controls_of
from tiltmeter.decisions.findings import findings
from tiltmeter.decisions.policy import Policy
from tiltmeter.messages import Text, join, say
from tiltmeter.printed import null
from tiltmeter.registry import build
from tiltmeter.results.changes import Changes, no_signal
from tiltmeter.results.items import cells_of, outcomes
from tiltmeter.results.published import published_value
from tiltmeter.runs import environments
from tiltmeter.runs.plan import command, missing, planned
from tiltmeter.runs.record import made_from, run_record, study_of
from tiltmeter.runs.store import (
    Cell,
    Store,
    stored_failures,
    stored_variants,
    write_json,
)
from tiltmeter.schema import Document, Group, Place, Row, RunFacts, RunRecord


def compared(places: Iterable[Place]) -> list[list[Place]]:
    """The rows that are compared with one another, the base's row first in each list."""
    found: dict[Place, list[Place]] = {}
    for place in places:
        found.setdefault(place.base, []).append(place)
    return [sorted(members, key=lambda place: not place.is_base) for members in found.values()]


def row_of(cell: Cell, benchmark: Benchmark, genuine: bool = True) -> tuple[Row, list[Outcome]]:
    """A result row without its change, and the outcomes behind it. Only whole, genuine data (`genuine`: the
    published files) may stand beside a published number."""
    everything = outcomes(cell, benchmark)
    score = benchmark.score([outcome for outcome in everything if not outcome.variation])
    extra = dict(score.extra)
    for variation in dict.fromkeys(outcome.variation for outcome in everything if outcome.variation):
        varied = benchmark.score([outcome for outcome in everything if outcome.variation == variation])
        extra[f"robust:{variation}"] = varied.value
    comparable = genuine and not cell.id.partial
    done = cell.done
    row = Row(
        model=cell.id.model,
        strategy=cell.id.strategy,
        settings=cell.id.settings,
        format=cell.id.format,
        decoding=cell.id.decoding,
        benchmark=cell.id.benchmark,
        score=score.value,
        reason=score.reason,
        unit=benchmark.unit,
        ideal=benchmark.ideal,
        n_items=score.n_items,
        n_scored=score.n_scored,
        n_samples=cell.id.n_samples,
        unscored={str(reason): count for reason, count in score.unscored.items()},
        unscored_messages=tuple(score.unscored),
        extra=extra,
        partial=cell.id.partial,
        complete=done is not None,
        groups=tuple(Group(attribute=g.attribute, group=g.group, score=g.score, n=g.n) for g in score.groups),
        published=published_value(cell.id) if comparable else math.nan,
        published_change=published_value(cell.id, change=True) if comparable else math.nan,
        signal=no_signal(everything, cell.id.format),
        notes=tuple(score.notes),
        seconds=done.seconds if done else 0.0,
        tokens=done.tokens if done else 0,
    )
    return row, everything


def document(run: Path, margins: Mapping[str, float] | None = None) -> Document:
    """The results document of a run, computed from its answers; `margins` override the study's for this once."""
    record = run_record(run)
    study = study_of(record, run)
    if margins:
        study = study.model_copy(update={"margins": {**study.margins, **margins}})
    cells = {place: cell for place, cell in cells_of(run).items() if cell.done is not None}
    variants = stored_variants(run)
    changes, found = Changes(variants, study), {}
    for members in compared(cells):
        base: list[Outcome] | None = None
        for place in members:
            data = record.data.get(place.benchmark)
            found[place], items = row_of(
                cells[place], build("benchmark", place.benchmark), data is not None and data.published
            )
            if note := _environment(record, cells, place):
                found[place] = found[place].but(notes=(*found[place].notes, note))
            changes.add(found[place], items, base)
            base = items if place.is_base else base
    asked = set(planned(study))
    rows = [row.but(earlier=row.place not in asked) for row in changes.settle([found[place] for place in cells])]
    order = {(row.model, row.strategy): place for place, row in enumerate(rows)}
    variants.sort(key=lambda variant: order.get((variant.model, variant.strategy), len(order)))
    run_facts = _run_facts(run, record, cells)
    by: choose.By = "speed" if any(v.speed and v.speed.decode_tokens_per_s > 0 for v in variants) else "size"
    judged = Document(run=run_facts, rows=tuple(rows), variants=tuple(variants))
    found_there = findings(rows, seed=study.seed, controls=controls_of(variants))
    return judged.but(findings=tuple(found_there), choice=choose.choose(judged, Policy(), by))


def _run_facts(run: Path, record: RunRecord, cells: Mapping[Place, Cell]) -> RunFacts:
    said = _engine_notes(cells) | _environment_notes(record, cells)
    facts = RunFacts(
        path=run.name,
        versions=record.versions,
        hardware=record.hardware,
        data=record.data,
        study=record.study,
        started=record.started,
        batch_tokens=record.batch_tokens,
        notes=tuple(sorted(said | {n for given in record.notes.values() for n in given}, key=str)),
        failures=stored_failures(run),
        made_from=made_from(run),
    )
    return held_to_plan(facts, run, record, set(cells))


def held_to_plan(facts: RunFacts, run: Path, record: RunRecord, finished: set[Place]) -> RunFacts:
    """With what the study asks for and the run does not hold, and the command that completes it."""
    study = study_of(record, run)
    whole = study.model_copy(update={"limit": None, "limits": {}})
    return facts.but(
        missing=tuple(missing(study, finished, set(cells_of(run)), facts.failures)),
        command=command(study, run),
        command_for_all="" if whole == study else command(whole, run),
    )


def _engine_notes(cells: Mapping[Place, Cell]) -> set[Text]:
    """What the engine noted, with the strategies it holds for."""
    of_strategies: dict[Text, dict[str, None]] = {}
    for place, cell in cells.items():
        for note in cell.done.notes if cell.done else ():
            of_strategies.setdefault(note, {})[place.strategy] = None
    return {
        say("note.of_strategies", names=join("join.names", strategies), clause=note)
        for note, strategies in of_strategies.items()
    }


def _environment(record: RunRecord, cells: Mapping[Place, Cell], place: Place) -> Text | None:
    """What a row says where its own and its base's answers do not all come of the same versions and hardware."""
    base = cells.get(place.base)
    return environments.told(record, cells[place].id.folder, base.id.folder if base else None)


def _environment_notes(record: RunRecord, cells: Mapping[Place, Cell]) -> set[Text]:
    """The same for the run, with the rows it holds for."""
    of_rows: dict[Text, list[str]] = {}
    for place in cells:
        if note := _environment(record, cells, place):
            of_rows.setdefault(note, []).append(f"{place.strategy} · {place.benchmark}")
    return {
        say("note.of_strategies", names=join("join.names", dict.fromkeys(rows)), clause=note)
        for note, rows in of_rows.items()
    }


def write_results(run: Path) -> Document:
    """Compute the document and write RUN/results.json."""
    result = document(run)
    write_json(run / "results.json", null(result.as_document()))
    return result


def recomputed(run: Path) -> Document:
    """The document made anew from the stored answers, and stored. Raises UserError while another process writes."""
    with Store(run):
        return write_results(run)
