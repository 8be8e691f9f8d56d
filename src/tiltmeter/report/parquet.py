"""Every item, sample and variant as one Parquet file, streamed: memory stays that of one block of rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tiltmeter.errors import UserError
from tiltmeter.results.items import item_rows

BLOCK = 20_000  # rows a row group


def write_items(run: Path, path: Path) -> Path:
    """Write `item_rows(run)` to `path` by rename; returns it. Raises UserError when it cannot be written."""
    return write_rows(item_rows(run), path)


def write_rows(rows: Iterable[dict[str, object]], path: Path) -> Path:
    """Item rows as Parquet (zstd). Text stays exactly as it was answered: a column is data, not markup."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        [(name, text) for name in ("model", "strategy", "format", "decoding", "benchmark", "item")]
        + [
            ("sample", pa.int32()),
            ("cluster", text),
            ("variation", text),
            ("groups", pa.map_(text, text)),
            ("prompt", text),
            ("answer", text),
            ("label", text),
            ("score", number),
            ("reason", text),
            ("uncertainty", number),
        ]
    )
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
            for block in _blocks(iter(rows)):
                writer.write_table(pa.Table.from_pylist([_plain(row) for row in block], schema=schema))
        os.replace(draft, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}", fix="give a writable place with --parquet"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return path


def _blocks(rows: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    while block := list(islice(rows, BLOCK)):
        yield block


def _plain(row: dict[str, object]) -> dict[str, object]:
    """Parquet text is UTF-8: a lone surrogate becomes U+FFFD. Groups become (name, value) pairs."""
    return {
        name: value.encode("utf-8", "replace").decode()
        if isinstance(value, str)
        else [(str(k), str(v)) for k, v in value.items()]
        if isinstance(value, dict)
        else value
        for name, value in row.items()
    }
