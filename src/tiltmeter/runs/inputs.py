"""What a cell asks, on disk: items with their requests, one JSON line each, named by the hash of their content.

A file of inputs may hold any number of items: it is written and read as a stream, and `Inputs` finds single requests
in it again from eight bytes of memory each.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.files.whole import PART
from tiltmeter.schema.item import Item
from tiltmeter.scoring.requests import Generation, OptionProbs, Request, SequenceLogprob

Asked = tuple[Item, tuple[Request, ...]]
_REQUEST_KINDS: dict[str, type] = {"sequence": SequenceLogprob, "options": OptionProbs, "generation": Generation}


def request_to_dict(request: Request) -> dict[str, Any]:
    kind = next(name for name, cls in _REQUEST_KINDS.items() if isinstance(request, cls))
    return {"kind": kind, **request.__dict__}


def request_from_dict(data: dict[str, Any]) -> Request:
    fields = {key: value for key, value in data.items() if key != "kind"}
    if data["kind"] == "options":
        fields["options"] = tuple(tuple(forms) for forms in fields["options"])
    return _REQUEST_KINDS[data["kind"]](**fields)  # type: ignore[no-any-return]


def write_inputs(folder: Path, rows: Iterable[Asked]) -> str:
    """Store items and requests, streamed, as `folder/<hash>.jsonl`; returns the hash."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{os.getpid()}{PART}"
    draft.unlink(missing_ok=True)
    content = hashlib.sha256()
    with draft.open("x", encoding="utf-8") as out:
        for item, requests in rows:
            fields = {**item.__dict__, "groups": dict(item.groups), "data": dict(item.data)}
            row = {"item": fields, "requests": [request_to_dict(request) for request in requests]}
            line = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
            content.update(line.encode())
            out.write(line)
    name = content.hexdigest()[:16]
    os.replace(draft, folder / f"{name}.jsonl")
    return name


def _parsed(line: bytes) -> Asked:
    row = json.loads(line)
    return Item(**row["item"]), tuple(request_from_dict(request) for request in row["requests"])


class Inputs:
    """The items and requests of one cell. Requests are numbered 0, 1, … through the items in order.

    Nothing is kept but where each item's line begins and the number of its first request; both are found in one
    pass, at the first look-up, in which the content is held to the hash in its name. Raises UserError where it is
    another, or absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offsets = array("q")
        self._first = array("q")  # per item, the number of its first request; one more for the end

    def __iter__(self) -> Iterator[Asked]:
        self._index()
        with self.path.open("rb") as lines:
            yield from map(_parsed, lines)

    def requests(self) -> Iterator[Request]:
        """Every request, in order, one item in memory at a time."""
        for _, asked in self:
            yield from asked

    @property
    def n_items(self) -> int:
        self._index()
        return len(self._offsets)

    @property
    def n_requests(self) -> int:
        self._index()
        return self._first[-1]

    def span(self, item: int) -> range:
        """The numbers of one item's requests."""
        self._index()
        return range(self._first[item], self._first[item + 1])

    def item_of(self, request: int) -> int:
        """The place of the item that a request belongs to."""
        if request >= self.n_requests:
            raise UserError(f"request {request} is none of {self.path}", fix="give this run another --out")
        return bisect_right(self._first, request) - 1

    def items_at(self, places: Sequence[int]) -> list[Asked]:
        """The items at these places, each with its requests."""
        self._index()
        found = []
        with self.path.open("rb") as lines:
            for place in places:
                lines.seek(self._offsets[place])
                found.append(_parsed(lines.readline()))
        return found

    def requests_at(self, indices: Sequence[int]) -> list[Request]:
        """The requests with these numbers, in this order."""
        places = sorted({self.item_of(index) for index in indices})
        asked = dict(zip(places, self.items_at(places), strict=True))
        found = []
        for index in indices:
            place = self.item_of(index)
            found.append(asked[place][1][index - self._first[place]])
        return found

    def _index(self) -> None:
        if self._first:
            return
        first, offset, content = [0], 0, hashlib.sha256()
        fix = "run the same command with the same --out again: it is written anew"
        try:
            with self.path.open("rb") as lines:
                for line in lines:
                    content.update(line)
                    self._offsets.append(offset)
                    first.append(first[-1] + len(json.loads(line)["requests"]))
                    offset += len(line)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror or error}", fix=fix) from None
        except (ValueError, KeyError, TypeError, RecursionError):
            content.update(b"no JSON")
        if content.hexdigest()[:16] != self.path.stem:
            raise UserError(f"{self.path} is damaged: its content is not what its name says", fix=fix)
        self._first.extend(first)
