"""Rows and documents made from the typed schema: a test that invents a field fails where it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tiltmeter.schema import Document, Row, Variant

FLIPS = {"n": 50, "of": 1000, "toward_bias": 30, "away_from_bias": 20}
CHANGE = {
    "reason": "because",
    "delta": 1.0,
    "ci": [0.5, 1.5],
    "distance_delta": 1.0,
    "distance_ci": [0.5, 1.5],
    "margin": 2.0,
    "flips": FLIPS,
}
ROW = {
    "model": "m",
    "benchmark": "crows-pairs",
    "format": "plain",
    "decoding": "greedy",
    "score": 60.0,
    "unit": "percent",
    "ideal": 50.0,
    "n_items": 1000,
    "n_scored": 900,
    "groups": [{"attribute": "bias_type", "group": "age", "delta": 6.0, "ci": [2.0, 10.0]}],
}


def checked(kind: Any, given: dict[str, Any]) -> Any:
    """The model, every given field known to it."""
    unknown = given.keys() - {field.alias or name for name, field in kind.model_fields.items()}
    assert not unknown, f"{kind.__name__} has no field {sorted(unknown)}"
    return kind.model_validate(given)


def row(verdict: str | None = "equivalent", strategy: str = "int8", change: Any = (), **more: Any) -> Row:
    """A row; the base's (or `change=None`) without a change. `change`: fields of it."""
    found = None if change is None or strategy == "none" else {**CHANGE, "verdict": verdict, **dict(change)}
    return checked(Row, {**ROW, "strategy": strategy, **more, "change": found})


def revised(original: Row, change: Any = (), **more: Any) -> Row:
    """The row with other fields; `change`: fields of its change."""
    stored = original.as_json()
    found = None if stored["change"] is None else {**stored["change"], **dict(change)}
    return checked(Row, {**stored, **more, "change": found})


def document(rows: Iterable[Row], variants: Iterable[Variant] = (), **run: Any) -> Document:
    return Document.model_validate(
        {
            "run": run,
            "rows": [each.as_json() for each in rows],
            "variants": [each.as_json() for each in variants],
        }
    )


def with_rows(original: Document, edit: Callable[[int, Row], Row]) -> Document:
    """The document with `edit(number, row)` in place of each row."""
    return original.model_copy(update={"rows": tuple(edit(number, each) for number, each in enumerate(original.rows))})


def judged(
    original: Document, *verdicts: str, pick: Callable[[Row], bool] = lambda row: True, **change: Any
) -> Document:
    """The document whose compared rows (that `pick` takes) have these verdicts, in order, and these fields."""
    waiting = iter(verdicts)

    def edit(_: int, each: Row) -> Row:
        if each.change is None or not pick(each):
            return each
        verdict = next(waiting, None)
        return each if verdict is None else revised(each, {"verdict": verdict, **change})

    return with_rows(original, edit)
