"""From stored answers to the results document. No model is needed: answers in, numbers out.

`write_results` reads every finished cell, scores it, compares each variant with its base item by
item, and writes RUN/results.json (`tiltmeter.schema.Document`, NaN as null). `load` gives the same as
data frames.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from tiltmeter.benchmarks.base import Benchmark, Outcome
from tiltmeter.decisions import choose
from tiltmeter.decisions.controls import controls_of
from tiltmeter.decisions.findings import findings
from tiltmeter.decisions.policy import Policy
from tiltmeter.messages import Text, join, say
from tiltmeter.registry import build, known
from tiltmeter.results.changes import Changes, no_signal
from tiltmeter.results.published import published_value
from tiltmeter.runs import environments
from tiltmeter.runs.plan import command, missing, planned
from tiltmeter.runs.record import run_record, study_of
from tiltmeter.runs.store import (
    Cell,
    Store,
    digest,
    read_json,
    started_cells,
    stored_failures,
    stored_variants,
    write_json,
)
from tiltmeter.schema import Document, Group, Place, Row, RunFacts, RunRecord
from tiltmeter.schema.reading import read
from tiltmeter.schema.results import SCHEMA as RESULTS
from tiltmeter.scoring.requests import GenerationAnswer, OptionAnswer

FIX = "make it anew from the stored answers: tiltmeter results {run} --recompute"


def null(value: Any) -> Any:
    """JSON form of a value: NaN and infinity become None, tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): null(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [null(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value


def cells_of(run: Path) -> dict[Place, Cell]:
    """Newest cell of every row, in the order the study asked: model, then base first, then strategies."""
    order = {folder: place for place, folder in enumerate(run_record(run).cells)}
    cells = [cell for cell in started_cells(run) if cell.id.folder in order]
    return {cell.id.place: cell for cell in sorted(cells, key=lambda cell: order[cell.id.folder])}


def outcomes(cell: Cell, benchmark: Benchmark) -> list[Outcome]:
    """One outcome per item of a finished cell, in item order. Raises ValueError when it is not finished.

    What many items have in common (their groups, their cluster) is held once.
    """
    groups: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
    found: dict[int, Outcome] = {}
    for place, item, _, answers in cell.answered_items():
        outcome = benchmark.outcome(item, answers)
        shared = groups.setdefault(tuple(outcome.groups.items()), outcome.groups)
        found[place] = replace(outcome, cluster=sys.intern(outcome.cluster), groups=shared)
    return [found[place] for place in range(len(found))]


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
        made_from=_made_from(run),
    )
    return _held_to_plan(facts, run, record, set(cells))


def _held_to_plan(facts: RunFacts, run: Path, record: RunRecord, finished: set[Place]) -> RunFacts:
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


def _made_from(run: Path) -> str:
    """Digest of what a document is made from: clocks may be set back, contents cannot."""
    record = run_record(run)
    finished = sorted(path.parent.name for path in (run / "cells").glob("*/done.json"))
    return digest(
        [
            record.cells,
            record.study,
            finished,
            [variant.as_json() for variant in stored_variants(run)],
            [failure.as_json() for failure in stored_failures(run)],
        ]
    )


def write_results(run: Path) -> Document:
    """Compute the document and write RUN/results.json."""
    result = document(run)
    write_json(run / "results.json", null(result.as_document()))
    return result


def recomputed(run: Path) -> Document:
    """The document made anew from the stored answers, and stored. Raises UserError while another process writes."""
    with Store(run):
        return write_results(run)


def read_document(run: Path) -> Document:
    """The stored document; computed when a run was interrupted before its end, or gained answers since.

    Raises UserError when the folder is no run, or the document is damaged or of another version.
    """
    run_record(run)
    stored = run / "results.json"
    content = read_json(stored, fix=FIX.format(run=quote(str(run))))
    if content is None:
        return document(run)
    found = read(Document, content, where=str(stored), fix=FIX.format(run=quote(str(run))), schema=RESULTS)
    if found.run.made_from:
        return found if found.run.made_from == _made_from(run) else document(run)
    if _newer_answers(run):
        return document(run)
    held = _held_to_plan(found.run, run, run_record(run), {row.place for row in found.rows})
    return found.but(run=held)


def _newer_answers(run: Path) -> bool:
    """For documents written before they said what they were made from: whether an answer or a fact is younger."""
    written = (run / "results.json").stat().st_mtime_ns
    patterns = ("cells/*/done.json", "variants/*.json")
    return any(path.stat().st_mtime_ns > written for pattern in patterns for path in run.glob(pattern))


def read_results(run: Path) -> dict[str, Any]:
    """The document as JSON, as `tiltmeter results RUN --json` prints it."""
    return null(read_document(run).as_document())  # type: ignore[no-any-return]


def item_rows(run: Path) -> Iterator[dict[str, Any]]:
    """One row per item, sample and variant: prompt, answer, label, score, reason."""
    names = known("benchmark")
    for place, cell in cells_of(run).items():
        if cell.done is None or cell.id.benchmark not in names:
            continue
        benchmark = build("benchmark", cell.id.benchmark)
        answers = cell.answers()
        start = 0
        for item, requests in cell.inputs:
            given = answers[start : start + len(requests)]
            start += len(requests)
            outcome = benchmark.outcome(item, given)
            per_sample = max(len(requests) // max(len(outcome.samples), 1), 1)
            for index, sample in enumerate(outcome.samples):
                mine = slice(index * per_sample, (index + 1) * per_sample)
                yield {
                    "model": place.model,
                    "strategy": place.strategy,
                    "format": place.format,
                    "decoding": place.decoding,
                    "benchmark": place.benchmark,
                    "item": item.id,
                    "sample": index,
                    "cluster": item.cluster,
                    "variation": item.variation,
                    "groups": dict(item.groups),
                    "prompt": "\n---\n".join(map(prompt_of, requests[mine])),
                    "answer": "\n---\n".join(answer_text(r, a) for r, a in zip(requests[mine], given[mine])),
                    "label": sample.label,
                    "score": null(sample.score),
                    "reason": None if sample.reason is None else str(sample.reason),
                    "parsed": null(sample.values.get("parsed", math.nan)),
                    "truth": null(sample.values.get("truth", math.nan)),
                    "uncertainty": null(outcome.uncertainty),
                }


def prompt_of(request: Any) -> str:
    """The text a request sends."""
    return str(getattr(request, "prompt", None) or getattr(request, "text", ""))


def answer_text(request: Any, answer: Any) -> str:
    """An answer as a person reads it; numbers with four digits."""
    if answer.error:
        return f"({answer.error})"
    if isinstance(answer, GenerationAnswer):
        return str(answer.clean)
    if isinstance(answer, OptionAnswer):
        probs = [
            (forms[0], math.exp(logs[0]))
            for forms, logs in zip(request.options, answer.logprobs or ())
            if logs and logs[0] is not None
        ]
        return ", ".join(f"{form}: {prob:.4f}" for form, prob in probs)
    return f"{answer.logprob:.4f} nats over {answer.n_tokens} tokens"


class Results:
    """A run as data frames: `rows` (one per cell), `items` (one per item, sample, variant), `document` (JSON)."""

    def __init__(self, run: Path) -> None:
        self.path = run
        self.document = read_results(run)

    @property
    def rows(self) -> Any:
        """pandas.DataFrame: one row per cell; the change's fields are columns named change.*"""
        import pandas as pd

        return pd.json_normalize(self.document["rows"], max_level=1)

    @property
    def items(self) -> Any:
        """pandas.DataFrame: one row per item, sample and variant."""
        import pandas as pd

        return pd.DataFrame(item_rows(self.path))


def load(run: str | Path) -> Results:
    """A run folder as data frames. Raises UserError when the folder is no run."""
    return Results(Path(run))
