"""The results document as a run folder holds it: read without the statistics that made it.

Where there is none, or answers came since, it is computed (`tiltmeter.results.computed`), which imports what statistics
need; a reader of a finished run waits for none of that. `load` gives the same as data frames.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

from tiltmeter.printed import null
from tiltmeter.runs.record import made_from, run_record
from tiltmeter.runs.store import read_json
from tiltmeter.schema import Document
from tiltmeter.schema.reading import read
from tiltmeter.schema.results import SCHEMA

FIX = "make it anew from the stored answers: tiltmeter results {run} --recompute"


def read_document(run: Path) -> Document:
    """The stored document; computed when a run was interrupted before its end, or gained answers since.

    Raises UserError when the folder is no run, or the document is damaged or of another version.
    """
    run_record(run)
    stored, fix = run / "results.json", FIX.format(run=quote(str(run)))
    content = read_json(stored, fix=fix)
    if content is None:
        return _computed(run)
    found = read(Document, content, where=str(stored), fix=fix, schema=SCHEMA)
    if found.run.made_from:
        return found if found.run.made_from == made_from(run) else _computed(run)
    if _newer_answers(run):
        return _computed(run)
    from tiltmeter.results.computed import held_to_plan

    held = held_to_plan(found.run, run, run_record(run), {row.place for row in found.rows})
    return found.but(run=held)


def _computed(run: Path) -> Document:
    from tiltmeter.results.computed import document  # with all that statistics need

    return document(run)


def _newer_answers(run: Path) -> bool:
    """For documents written before they said what they were made from: whether an answer or a fact is younger."""
    written = (run / "results.json").stat().st_mtime_ns
    patterns = ("cells/*/done.json", "variants/*.json")
    return any(path.stat().st_mtime_ns > written for pattern in patterns for path in run.glob(pattern))


def read_results(run: Path) -> dict[str, Any]:
    """The document as JSON, as `tiltmeter results RUN --json` prints it."""
    return null(read_document(run).as_document())  # type: ignore[no-any-return]


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

        from tiltmeter.results.items import item_rows

        return pd.DataFrame(item_rows(self.path))


def load(run: str | Path) -> Results:
    """A run folder as data frames. Raises UserError when the folder is no run."""
    return Results(Path(run))
