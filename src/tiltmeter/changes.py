"""Every variant row against its base row: paired, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiltmeter.benchmarks.base import Outcome
from tiltmeter.study import Study

RowKey = tuple[str, str, str, str, str]


def add_changes(rows: list[dict[str, Any]], behind: dict[RowKey, list[Outcome]], variants: Sequence[dict[str, Any]],
                study: Study) -> None:
    """Fill `change` (and the groups' changes) of every row that has a base row, in place."""
