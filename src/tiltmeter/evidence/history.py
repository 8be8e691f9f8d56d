"""The same variant over releases: what each run found of it, and how it moved since the release before.

Two questions, each with its interval. How far is the variant from its base in this release (the run's own rows, taken
as they are)? How far is it from itself in the release before? The second is answered as every change is: the two
runs' answers paired item by item, the earlier release in the place of the base, judged over all steps shown.

Which rows are one line   Those asked the same way of the same variant: one model per run, or models of the same name;
                          a strategy by its name, the only ready-made checkpoint of each run as one.
Comparable                Same data files, same items and prompts (one digest holds items, prompts, samples and seeds),
                          same unit and ideal. Where runs differ in any, `history` refuses and names what differs;
                          versions, hardware, dtype and the base's weights may differ and are noted.
Departure                 Whether two releases have the same tokenizer is not seen here; a run of `tiltmeter compare`
                          between them says it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tiltmeter import schema
from tiltmeter.analysis import judge_all
from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.registry import build
from tiltmeter.results.changes import noise_of, paired_change, protocol, stored_change
from tiltmeter.results.document import read_document
from tiltmeter.results.items import cells_of, outcomes
from tiltmeter.runs.record import run_record, study_of
from tiltmeter.runs.store import Cell
from tiltmeter.schema import Document, Place, Row, RunRecord, Verdict
from tiltmeter.schema.place import CHECKPOINT, is_base, kind_of

ONE = ""  # stands for the only model, or the only checkpoint, of each run


@dataclass(frozen=True)
class Release:
    """One run, as it is listed.

    Attributes:
        name: of its folder; with its parents where two would be the same.
        models: as the run names them.
    """

    name: str
    path: Path
    started: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One line in one release.

    Attributes:
        row, base: the variant's row and its base's; None where the run has none.
        since: the change from the release before, item by item; None at the first, and where one of the two is absent.
    """

    release: Release
    row: Row | None
    base: Row | None
    since: schema.Change | None


@dataclass(frozen=True)
class Line:
    """One variant on one benchmark, asked one way, over all releases. `place` is as the last release names it."""

    place: Place
    steps: tuple[Step, ...]

    @property
    def rows(self) -> list[Row]:
        return [step.row for step in self.steps if step.row]


@dataclass(frozen=True)
class History:
    releases: tuple[Release, ...]
    lines: tuple[Line, ...]
    notes: tuple[Text, ...]


@dataclass(frozen=True)
class _Run:
    release: Release
    document: Document
    record: RunRecord
    cells: dict[Place, Cell]


def history(folders: Sequence[Path], *, strategies: Sequence[str] = (), benchmarks: Sequence[str] = ()) -> History:
    """The lines of two or more runs, oldest first as given; `strategies`, `benchmarks`: these alone.

    Raises UserError for fewer than two runs, where nothing is in common, and where rows are not comparable.
    """
    if len(folders) < 2:
        raise UserError("a trend needs two runs or more", fix="tiltmeter trend runs/v1 runs/v2 …, oldest first")
    runs = [_read(path, name) for path, name in zip(folders, _names(folders))]
    keys = [dict(_keyed(run, strategies, benchmarks)) for run in runs]
    shared = [key for key in dict.fromkeys(key for found in keys for key in found) if sum(key in f for f in keys) > 1]
    if not shared:
        raise UserError(
            f"these runs have no row in common: {_what_there_is(runs, keys)}", fix="measure each release alike"
        )
    differ = [line for key in shared for line in _differ(runs, keys, key)]
    if differ:
        raise UserError(
            "these runs are not comparable:\n" + "\n".join(f"  - {line}" for line in dict.fromkeys(differ)),
            fix="measure the releases alike, or leave a benchmark out: -b NAME keeps those named",
        )
    since = _since(runs, keys, shared)
    lines = [
        Line(
            next(found[key] for found in reversed(keys) if key in found),
            tuple(
                _step(run, found.get(key), since.get((place, key)))
                for place, (run, found) in enumerate(zip(runs, keys))
            ),
        )
        for key in shared
    ]
    return History(tuple(run.release for run in runs), tuple(lines), tuple(_notes(runs)))


def _read(path: Path, name: str) -> _Run:
    record = run_record(path)
    document = read_document(path)
    models = tuple(dict.fromkeys(model for model, _ in document.asked))
    cells = {place: cell for place, cell in cells_of(path).items() if cell.done is not None}
    return _Run(Release(name, path, record.started, models), document, record, cells)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' last parts; whole paths where two would be the same."""
    last = [path.resolve().name for path in folders]
    return last if len(set(last)) == len(last) else [str(path) for path in folders]


def _keyed(run: _Run, strategies: Sequence[str], benchmarks: Sequence[str]) -> Iterator[tuple[Place, Place]]:
    """(the row's place under names that all releases share, its place in this run), of every variant's row."""
    checkpoints = {row.strategy for row in run.document.rows if kind_of(row.strategy) == "checkpoint"}
    one_model, one_checkpoint = len(run.release.models) == 1, len(checkpoints) == 1
    for row in run.document.rows:
        ready_made = row.strategy in checkpoints
        if row.place.is_base or (strategies and row.strategy not in strategies):
            continue
        if benchmarks and row.benchmark not in benchmarks:
            continue
        strategy = CHECKPOINT if ready_made and one_checkpoint else row.strategy
        yield replace(row.place, model=ONE if one_model else row.model, strategy=strategy), row.place


def _what_there_is(runs: Sequence[_Run], keys: Sequence[dict[Place, Place]]) -> str:
    found = []
    for run, places in zip(runs, keys):
        names = [f"{place.strategy} · {place.benchmark}, {place.format}, {place.decoding}" for place in places.values()]
        found.append(f"{run.release.name} has {', '.join(names) or 'no variant'}")
    return "; ".join(found)


def _differ(runs: Sequence[_Run], keys: Sequence[dict[Place, Place]], key: Place) -> Iterator[str]:
    """What makes the rows of one line incomparable, one line of text each, against the first run that has it."""
    having = [(run, found[key]) for run, found in zip(runs, keys) if key in found]
    (first, place), others = having[0], having[1:]
    for other, there in others:
        names = f"{first.release.name} and {other.release.name}"
        rows = [next(row for row in run.document.rows if row.place == p) for run, p in ((first, place), (other, there))]
        if (rows[0].unit, rows[0].ideal) != (rows[1].unit, rows[1].ideal):
            yield f"{key.benchmark}: {names} have other units or ideals (another version of the benchmark)"
            continue
        files = [
            run.record.data[key.benchmark].files if key.benchmark in run.record.data else {} for run in (first, other)
        ]
        if files[0] != files[1]:
            yield f"{key.benchmark}: {names} were asked from other data files (SHA-256 differ)"
            continue
        cells = [run.cells.get(p) for run, p in ((first, place), (other, there))]
        if any(cell is None for cell in cells):
            continue  # the document names an unfinished row; it has nothing to compare
        if cells[0].id.inputs != cells[1].id.inputs:  # type: ignore[union-attr]
            yield f"{key.benchmark}, {key.format}, {key.decoding}: {names} were asked other prompts{_why(first, other)}"


def _why(one: _Run, two: _Run) -> str:
    """The settings of the study that prompts follow from, where they differ."""
    named = ("limit", "limits", "seed", "samples", "robust", "orders")
    found = [
        f"{name} {one.record.study.get(name)} and {two.record.study.get(name)}"
        for name in named
        if one.record.study.get(name) != two.record.study.get(name)
    ]
    return f" ({', '.join(found)})" if found else " (another chat template, or another version of the benchmark)"


def _since(
    runs: Sequence[_Run], keys: Sequence[dict[Place, Place]], shared: Sequence[Place]
) -> dict[tuple[int, Place], schema.Change]:
    """(number of the later run, line) -> the change since the run before, judged over all of them."""
    rows: list[judge_all.Row] = []
    where: list[tuple[int, Place]] = []
    study = study_of(runs[-1].record, runs[-1].release.path)
    for number, ((one, before), (two, after)) in enumerate(pairwise(zip(runs, keys)), 1):
        for key in shared:
            cells = [
                run.cells.get(found[key]) if key in found else None for run, found in ((one, before), (two, after))
            ]
            if cells[0] is None or cells[1] is None:
                continue
            benchmark = build("benchmark", key.benchmark)
            was, now = (protocol(outcomes(cell, benchmark)) for cell in cells if cell)
            found = judge_all.Row(
                model=f"{number}",  # a step is a hypothesis of its own, no replicate of another
                strategy=key.strategy if key.model == ONE else f"{key.model} {key.strategy}",
                format=key.format,
                decoding=key.decoding,
                benchmark=key.benchmark,
                change=paired_change(benchmark, was, now, study),
                unusable=_unusable(one, before[key]) or _unusable(two, after[key]),
                **(noise_of(key.strategy) if key.model == ONE else {}),
            )
            rows.append(found)
            where.append((number, key))
    settled = judge_all.settle(rows, method=study.correction)
    return {place: stored_change(change, {}) for place, change in zip(where, settled, strict=True)}


def _unusable(run: _Run, place: Place) -> Text | None:
    """Why a release's answers mean nothing, where its own run said so."""
    row = next(row for row in run.document.rows if row.place == place)
    if row.verdict is Verdict.NO_USABLE_SIGNAL and row.change:
        return say("trend.unusable", release=run.release.name, why=row.change.reason)
    return None


def _step(run: _Run, place: Place | None, since: schema.Change | None) -> Step:
    rows = {row.place: row for row in run.document.rows}
    row = rows.get(place) if place else None
    return Step(run.release, row, rows.get(row.place.base) if row else None, since)


def _notes(runs: Sequence[_Run]) -> Iterator[Text]:
    """What differs between releases and does not make them incomparable."""
    for one, two in pairwise(runs):
        names = {"one": one.release.name, "two": two.release.name}
        versions = [
            f"{name} {a or '–'} → {b or '–'}"
            for name in sorted({*one.record.versions, *two.record.versions})
            if (a := one.record.versions.get(name)) != (b := two.record.versions.get(name))
        ]
        if versions:
            yield say("trend.versions", **names, what=", ".join(versions))
        if one.record.hardware != two.record.hardware:
            yield say("trend.hardware", **names)
        for what in ("margins", "correction", "draws", "dtype", "backend"):
            if one.record.study.get(what) != two.record.study.get(what):
                yield say("trend.setting", **names, what=what)
        hashes = [{v.weight_hash for v in run.document.variants if is_base(v.strategy)} for run in (one, two)]
        if hashes[0] != hashes[1]:
            yield say("trend.other_base", **names)
    for run in runs:
        if run.document.run.missing or run.document.run.failures:
            yield say("trend.incomplete", name=run.release.name, n=len(run.document.run.missing))
