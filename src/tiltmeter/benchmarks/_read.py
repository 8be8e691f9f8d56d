"""Strict reading of data files: a malformed row is named by file, row and column. Cells are never evaluated.

Rows are counted from 1 after the header (in a .jsonl file: from 1).
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError

HALF = re.compile("[\ud800-\udfff]")
LARGEST = 1e150  # so that sums and products of cells stay finite


@dataclass(frozen=True)
class Row:
    """One row of a data file: where it stands and its cells by column name."""

    path: Path
    number: int
    cells: Mapping[str, Any]

    def wrong(self, column: str, why: str) -> UserError:
        """The error that names this row's cell."""
        return UserError(
            f"{self.path}, row {self.number}, column {column!r}: {why}",
            fix="restore the file with `tiltmeter data fetch`, or correct that row",
        )

    def text(self, column: str) -> str:
        """A cell that must hold some text, kept to the character."""
        value = self.cells.get(column)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(column, f"expected text, found {_short(value)}")
        self._checked(column, value)
        return value

    def number_in(self, column: str) -> float:
        """A cell that must hold a finite number."""
        value = self.cells.get(column)
        try:
            number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not abs(number) < LARGEST:
            raise self.wrong(column, f"expected a number, found {_short(value)}")
        return number

    def literal(self, column: str, *, inside: tuple[str, str] = ("", "")) -> Any:
        """A cell that holds a Python literal (list, dict, number, text), perhaps wrapped in the two texts `inside`."""
        value = self.text(column)
        start, end = inside
        if not (value.startswith(start) and value.endswith(end) and len(value) >= len(start) + len(end)):
            raise self.wrong(column, f"expected {start}…{end}, found {_short(value)}")
        try:
            return self._checked(column, ast.literal_eval(value[len(start) : len(value) - len(end)]))
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            raise self.wrong(column, f"not a Python literal ({_short(value)})") from error

    def _checked(self, column: str, value: Any) -> Any:
        """The value; raises UserError where it holds what no file and no sum can: half a character, an infinity."""
        if isinstance(value, str) and HALF.search(value):
            raise self.wrong(column, f"holds half of a surrogate pair, which is no character ({_short(value)})")
        if isinstance(value, (int, float)) and not abs(value) < LARGEST:
            raise self.wrong(column, f"a number beyond {LARGEST:g} ({_short(value)})")
        for inner in (*value.keys(), *value.values()) if isinstance(value, dict) else value if _many(value) else ():
            self._checked(column, inner)
        return value


def _many(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def read_tsv(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """`read_csv` of a file whose cells are separated by tabs and never quoted."""
    return read_csv(path, columns, delimiter="\t", quoting=csv.QUOTE_NONE)


def read_csv(path: Path, columns: tuple[str, ...], **dialect: Any) -> list[Row]:
    """All rows of a comma-separated file whose header has `columns`. Raises UserError when missing or malformed."""
    rows = []
    try:
        with _open(path) as file:
            reader = csv.DictReader(file, strict=True, **dialect)
            _check_columns(path, columns, reader.fieldnames or ())
            for number, cells in enumerate(reader, start=1):
                row = Row(path, number, cells)
                if None in cells:
                    raise row.wrong(columns[-1], "the row has more cells than the header")
                missing = next((name for name, value in cells.items() if value is None), None)
                if missing is not None:
                    raise row.wrong(missing, "the row ends before this column")
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}, row {len(rows) + 1}, column {columns[0]!r} or after: {error}",
            fix="the file must be UTF-8, comma-separated; run `tiltmeter data fetch` again",
        ) from error
    return _some(path, rows)


def read_jsonl(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """All rows of a file with one JSON object a line that has `columns`. Raises UserError as `read_csv` does."""
    rows = []
    with _open(path) as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = Row(path, number, {})
                try:
                    cells = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise row.wrong(columns[0], f"the line is not valid JSON ({_short(str(error))})") from error
                if not isinstance(cells, dict):
                    raise row.wrong(columns[0], "the line is not a JSON object")
                missing = next((name for name in columns if name not in cells), None)
                if missing is not None:
                    raise row.wrong(missing, "missing")
                rows.append(Row(path, number, cells))
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, row {len(rows) + 1}, column {columns[0]!r} or after: {error}",
                fix="the file must be UTF-8; fetch it again with `tiltmeter data fetch`",
            ) from error
    return _some(path, rows)


def unique(row: Row, column: str, identity: str, seen: set[str]) -> str:
    """`identity`, remembered in `seen`; raises UserError when it came before (items are paired by it)."""
    if identity in seen:
        raise row.wrong(column, f"{identity!r} occurs twice; items must be unique to be paired")
    seen.add(identity)
    return identity


def _open(path: Path) -> Any:
    try:
        return open(path, encoding="utf-8-sig")  # a Windows file's line ends, inside cells too, become "\n"
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist", fix="run `tiltmeter data fetch`, or point --data to the folder that has it"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", fix="check its permissions") from error


def _check_columns(path: Path, wanted: tuple[str, ...], found: Any) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"{path}, header: column {missing[0]!r} is missing (found: {', '.join(map(repr, found))})",
            fix="the file must have the published columns; fetch it again with `tiltmeter data fetch`",
        )


def _some(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise UserError(f"{path} has no rows", fix="fetch it again with `tiltmeter data fetch`")
    return rows


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a very large number"
    return text if len(text) <= 60 else text[:57] + "…"


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold text, outer blanks off. Raises UserError when missing, empty or not UTF-8."""
    try:
        with _open(path) as file:
            lines = [line.strip() for line in file]
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: {error}", fix="the file must be UTF-8; fetch it again with `tiltmeter data fetch`"
        ) from error
    if not any(lines):
        raise UserError(f"{path} has no lines", fix="fetch it again with `tiltmeter data fetch`")
    return [line for line in lines if line]
