"""A run folder: what was asked, every answer, the results. Append-only while work goes on.

    RUN/run.json                     study, versions, hardware, data and weight hashes; written first
    RUN/inputs/<hash>.jsonl          items with their requests, shared by the cells that ask the same
    RUN/cells/<cell>/cell.json       what this cell is
    RUN/cells/<cell>/answers.jsonl   one line per finished batch, flushed to disk before the next begins
    RUN/cells/<cell>/done.json       counts and times; written last, by rename: the cell is finished
    RUN/variants/<name>.json         proof of action, notes, text quality, speed
    RUN/failures.json                cells that could not be computed, with their reasons
    RUN/results.json                 the document `tiltmeter results --json` prints

A batch is the unit of commit: its line is complete or it is repeated whole. Cells are keyed by weight
hash, strategy settings, prompts, decoding and seeds, never by a model's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from tiltmeter.errors import UserError
from tiltmeter.files.whole import refuse_links, remove_unfinished, write_whole
from tiltmeter.messages import Text, from_json, json_default
from tiltmeter.runs.answer_lines import Batch, Unfinished, check_answers, read_batch
from tiltmeter.runs.inputs import Asked, Inputs, write_inputs
from tiltmeter.schema import Done, Failure, Place, Variant
from tiltmeter.schema.item import Item
from tiltmeter.schema.reading import load_json, read
from tiltmeter.scoring.requests import Answer, Request, answer_from_dict, answer_to_dict


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Write by rename, so that a reader sees the old file or the new one, never half of it."""
    write_whole(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False, default=json_default))


REPAIR = "delete {path} and run the same command with the same --out again: only what is missing is computed"


def read_json(path: Path, default: Any = None, *, fix: str | None = None) -> Any:
    """The file's content; `default` when there is none. Raises UserError, with `fix`, when it is damaged."""
    found = load_json(path, fix=fix or REPAIR.format(path=path))
    return default if found is None else found


@dataclass(frozen=True)
class CellId:
    """What makes a cell's answers what they are. `model` is for people and is not part of the key."""

    model: str
    strategy: str
    settings: Mapping[str, object]
    format: str
    decoding: str
    benchmark: str
    weight_hash: str
    inputs: str  # hash of items and requests: prompts, limit, seeds and samples are in it
    dtype: str
    n_samples: int
    partial: bool

    @property
    def place(self) -> Place:
        """Where the cell's row stands."""
        return Place(self.model, self.strategy, self.format, self.decoding, self.benchmark)

    @property
    def key(self) -> str:
        return digest(
            [
                self.weight_hash,
                self.strategy,
                self.settings,
                self.format,
                self.decoding,
                self.benchmark,
                self.inputs,
                self.dtype,
            ]
        )

    @property
    def folder(self) -> str:
        parts = (self.benchmark, self.format, self.decoding, self.strategy, Path(self.model).name)
        return re.sub(r"[^A-Za-z0-9=.,+_-]", "-", "~".join(parts))[:120] + "~" + self.key[:10]


class Cell:
    """One cell's files: what it asks (`inputs`), what is finished (`batches`), and `commit`, which adds a batch."""

    def __init__(self, run: Path, cell_id: CellId) -> None:
        self.id = cell_id
        self.run = run
        self.path = run / "cells" / cell_id.folder
        self.answers_path = self.path / "answers.jsonl"

    @property
    def done(self) -> Done | None:
        """What its end wrote; None while it is not finished. Raises UserError when that is damaged."""
        path = self.path / "done.json"
        content = read_json(path)
        return None if content is None else read(Done, content, where=str(path), fix=REPAIR.format(path=path))

    def start(self) -> None:
        write_json(self.path / "cell.json", {**self.id.__dict__, "key": self.id.key})
        self._drop_torn_line()

    def _drop_torn_line(self) -> None:
        """A kill may leave half a line at the end: cut it off, so that appending stays well-formed."""
        if not self.answers_path.exists():
            return
        keep = size = 0
        with self.answers_path.open("r+b") as file:
            for line in file:
                size += len(line)
                keep = size if line.endswith(b"\n") else keep
            if keep != size:
                file.truncate(keep)

    def batches(self) -> Iterator[Batch]:
        """Finished batches."""
        if self.answers_path.is_file():
            with self.answers_path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.endswith(b"\n"):
                        yield read_batch(line, self.answers_path, number)

    def commit(self, rows: list[tuple[int, Answer]], *, seconds: float, tokens: int, notes: list[Text]) -> None:
        """Append one finished batch and force it to disk."""
        line = json.dumps(
            {
                "rows": [[index, answer_to_dict(answer)] for index, answer in rows],
                "seconds": round(seconds, 4),
                "tokens": tokens,
                "notes": notes,
            },
            ensure_ascii=False,
            allow_nan=False,
            default=json_default,
        )
        with self.answers_path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
            out.flush()
            os.fsync(out.fileno())

    def finish(self) -> None:
        seconds, tokens, n = 0.0, 0, 0
        notes: dict[Text, None] = {}
        for batch in self.batches():
            seconds, tokens, n = seconds + batch["seconds"], tokens + batch["tokens"], n + len(batch["rows"])
            notes.update(dict.fromkeys(map(from_json, batch["notes"])))
        done = Done(seconds=round(seconds, 3), tokens=tokens, n_answers=n, notes=tuple(sorted(notes, key=str)))
        write_json(self.path / "done.json", done.as_json())

    @cached_property
    def inputs(self) -> Inputs:
        """Items with their requests, read from disk as they are asked for."""
        return Inputs(self.run / "inputs" / f"{self.id.inputs}.jsonl")

    def answered_items(self) -> Iterator[tuple[int, Item, tuple[Request, ...], list[Answer]]]:
        """(place, item, requests, answers) of every item, in the order in which their last answers came.

        One batch is in memory at a time, and the answers of items that other batches will complete. Raises
        ValueError when the cell is not finished.
        """
        waiting: dict[int, dict[int, Answer]] = {}
        yielded = bytearray(self.inputs.n_items)
        for batch in self.batches():
            complete = []
            for index, data in batch["rows"]:
                place = self.inputs.item_of(index)
                given = waiting.setdefault(place, {})
                given[index] = answer_from_dict(data)
                if len(given) == len(self.inputs.span(place)):
                    complete.append(place)
            yield from self._complete(complete, waiting, yielded)
        yield from self._complete([p for p in range(len(yielded)) if not self.inputs.span(p)], waiting, yielded)
        if not all(yielded):
            raise Unfinished(f"{self.path} is not finished", fix=REPAIR.format(path=self.path))

    def _complete(
        self, places: list[int], waiting: dict[int, dict[int, Answer]], yielded: bytearray
    ) -> Iterator[tuple[int, Item, tuple[Request, ...], list[Answer]]]:
        """The items at `places` with the answers that waited for them; each item once, whatever was repeated."""
        fresh = [place for place in dict.fromkeys(places) if not yielded[place]]
        for place, (item, requests) in zip(fresh, self.inputs.items_at(fresh), strict=True):
            yielded[place] = True
            answers = [waiting[place][index] for index in self.inputs.span(place)]
            check_answers(self.answers_path, requests, answers)
            yield place, item, requests, answers
        for place in places:
            waiting.pop(place, None)

    def answers(self) -> list[Answer]:
        """All answers in request order. Raises ValueError when the cell is not finished."""
        found: dict[int, Answer] = {}
        for batch in self.batches():
            for index, data in batch["rows"]:
                found[index] = answer_from_dict(data)
        if sorted(found) != list(range(len(found))):
            raise Unfinished(f"{self.path} is not finished", fix=REPAIR.format(path=self.path))
        answers = [found[index] for index in range(len(found))]
        if self.inputs.path.exists():
            requests = list(self.inputs.requests())
            if len(requests) != len(answers):
                raise Unfinished(f"{self.path} is not finished", fix=REPAIR.format(path=self.path))
            check_answers(self.answers_path, requests, answers)
        return answers


class Store:
    """A run folder open for writing. One process at a time; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")

    def __enter__(self) -> Store:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            refuse_links(self.path)  # before the lock file is opened
            self._lock.acquire(timeout=0)
            remove_unfinished(self.path)
        except Timeout:
            raise UserError(
                f"another tiltmeter process is writing {self.path}", fix="wait for it, or give this run another --out"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write the run folder {self.path}: {error.strerror or error}",
                fix="give a writable folder with --out",
            ) from None
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.release()

    def write_inputs(self, rows: Iterable[Asked]) -> str:
        """Store items and requests, streamed, under the hash of their content; returns the hash."""
        return write_inputs(self.path / "inputs", rows)


def variant_file(run: Path, model: str, strategy: str) -> Path:
    """Where a variant's proof, text quality and speed are kept."""
    slug = re.sub(r"[^A-Za-z0-9=.,+_-]", "-", f"{Path(model).name}~{strategy}")[:100]
    return run / "variants" / f"{slug}~{digest([model, strategy])[:8]}.json"


def stored_variant(run: Path, model: str, strategy: str) -> Variant | None:
    """What is known of a variant; None where nothing was stored yet. Raises UserError when the file is damaged."""
    return _variant(variant_file(run, model, strategy))


def stored_variants(run: Path) -> list[Variant]:
    """The facts of every variant of a run, in name order. Raises UserError when a file is damaged."""
    return [found for path in sorted((run / "variants").glob("*.json")) if (found := _variant(path)) is not None]


def _variant(path: Path) -> Variant | None:
    content = read_json(path)
    return None if content is None else read(Variant, content, where=str(path), fix=REPAIR.format(path=path))


def write_variant(run: Path, facts: Variant) -> None:
    """Store what is known of a variant."""
    write_json(variant_file(run, facts.model, facts.strategy), facts.as_json())


def stored_failures(run: Path) -> tuple[Failure, ...]:
    """What the last call could not compute. Raises UserError when the file is damaged."""
    path = run / "failures.json"
    content = read_json(path, [])
    if not isinstance(content, list):
        raise UserError(f"{path} holds no list", fix=REPAIR.format(path=path))
    return tuple(read(Failure, each, where=str(path), fix=REPAIR.format(path=path)) for each in content)


def started_cells(run: Path) -> list[Cell]:
    """Every cell of a run that has been started, finished or not, in name order.

    Raises UserError when a cell's description is damaged or does not fit.
    """
    cells = []
    for path in sorted((run / "cells").glob("*/cell.json")):
        data = read_json(path)
        try:
            data.pop("key", None)
            known = TypeAdapter(CellId).validate_python(data)
            cells.append(Cell(run, known))
        except (AttributeError, TypeError, ValidationError) as error:
            raise UserError(f"{path} does not fit: {str(error)[:500]}", fix=REPAIR.format(path=path.parent)) from None
    return cells
