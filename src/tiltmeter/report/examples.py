"""The flips browser's data: items whose label changed, with their prompt and both answers, sampled to fit a page.

Which items flipped, and in which order they are most telling, is stored in the results; only their texts are
fetched here. Rule of the sample: the first EACH flips of every comparison (largest change of confidence first), one
from every comparison in turn, until the texts reach BUDGET bytes. The page states the rule and how many it left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltmeter.printed import ANSWER_LIMIT, clean, json_for_html
from tiltmeter.report.view import View
from tiltmeter.results.items import answer_text, cells_of, prompt_of
from tiltmeter.runs.store import Cell, answer_from_dict
from tiltmeter.schema import Place, Row
from tiltmeter.schema.change import FlipExample

EACH = 40  # flips of one comparison
BUDGET = 9_000_000  # bytes of all texts together, as UTF-8
DIRECTIONS = {1: "toward", -1: "away", 0: "neither"}
Wanted = dict[Place, set[str]]


@dataclass(frozen=True)
class Shown:
    """One item under one variant as a person reads it."""

    prompt: str
    answer: str
    groups: dict[str, str]


Texts = Callable[[Wanted], dict[tuple[Place, str], Shown]]


def flips_of(row: Row) -> Sequence[FlipExample]:
    """The row's stored flip examples, most telling first; empty where the run holds none."""
    return row.change.flip_examples if row.change else ()


@dataclass(frozen=True)
class Sample:
    """The payload for the page (JSON, safe inside a <script>), and how many flips it holds of how many."""

    payload: str
    shown: int
    stored: int
    flipped: int


def sample(view: View, texts: Texts) -> Sample:
    """Fetch and pack the examples. `texts` answers for the items wanted of each row."""
    rows = [row for row in view.compared if flips_of(row)]
    wanted: Wanted = {}
    for row in rows:
        ids = {example.id for example in flips_of(row)[:EACH]}
        base = view.base_of(row)
        for other in (row, base):
            if other is not None:
                wanted.setdefault(other.place, set()).update(ids)
    found = texts(wanted) if wanted else {}
    pack = _Pack(view)
    for row, example in _in_turn(rows):
        base = view.base_of(row)
        after = found.get((row.place, example.id))
        before = found.get((base.place, example.id)) if base else None
        if after is not None and before is not None:
            pack.add(row, example, before, after)
        if pack.bytes > BUDGET:
            break
    flipped = sum(row.change.flips.n for row in view.compared if row.change and row.change.flips)
    return Sample(pack.json(), len(pack.flips), sum(len(flips_of(row)) for row in rows), flipped)


def _in_turn(rows: list[Row]) -> Iterator[tuple[Row, FlipExample]]:
    for depth in range(EACH):
        for row in rows:
            examples = flips_of(row)
            if depth < len(examples):
                yield row, examples[depth]


class _Pack:
    """Texts and group names stored once, however many flips share them."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.rows: dict[str, dict[str, object]] = {}
        self.texts: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        self.flips: list[list[Any]] = []
        self.bytes = 0

    def add(self, row: Row, example: FlipExample, before: Shown, after: Shown) -> None:
        view = self.view
        place = str(view.place(row))
        self.rows.setdefault(
            place,
            {
                "row": view.place(row),
                "label": clean(view.label(row)),
                "benchmark": clean(row.benchmark),
                "model": clean(view.short(row.model)),
                "strategy": clean(row.strategy),
                "asked": view.asked(row),
            },
        )
        groups = [
            self._place(
                self.groups, clean(f"{view.attribute(row.benchmark, name)}: {view.group(row.benchmark, value)}", 120)
            )
            for name, value in after.groups.items()
        ]
        self.flips.append(
            [
                place,
                clean(example.id, 120),
                clean(example.base, 120),
                clean(example.variant, 120),
                DIRECTIONS.get(example.toward, "neither"),
                groups,
                self._text(after.prompt),
                self._text(before.answer),
                self._text(after.answer),
                clean(example.why or "", 300),
            ]
        )

    def _text(self, text: str) -> int:
        return self._place(self.texts, clean(text, ANSWER_LIMIT))

    def _place(self, table: dict[str, int], text: str) -> int:
        if text not in table:
            table[text] = len(table)
            self.bytes += len(text.encode())
        return table[text]

    def json(self) -> str:
        words = self.view.words
        return json_for_html(
            {
                "rows": self.rows,
                "texts": list(self.texts),
                "groups": list(self.groups),
                "flips": self.flips,
                "directions": {name: words(f"flips.{name}") for name in DIRECTIONS.values()},
            }
        )


def stored_texts(run: Path) -> Texts:
    """Texts from a run folder. Only the cells asked for are read, each once, one batch in memory at a time."""

    def fetch(wanted: Wanted) -> dict[tuple[Place, str], Shown]:
        by_inputs: dict[str, list[tuple[Place, Cell]]] = {}
        for key, cell in cells_of(run).items():
            if key in wanted:
                by_inputs.setdefault(cell.id.inputs, []).append((key, cell))
        found: dict[tuple[Place, str], Shown] = {}
        for members in by_inputs.values():
            ids = set().union(*(wanted[key] for key, _ in members))
            items = _items(members[0][1], ids)
            for key, cell in members:
                mine = {name: item for name, item in items.items() if name in wanted[key]}
                answers = _answers(
                    cell,
                    {index for _, start, requests in mine.values() for index in range(start, start + len(requests))},
                )
                for name, (item, start, requests) in mine.items():
                    given = [answers[start + place] for place in range(len(requests)) if start + place in answers]
                    if len(given) == len(requests):
                        found[key, name] = _shown(item, requests, [answer_from_dict(answer) for answer in given])
        return found

    return fetch


def _items(cell: Any, ids: set[str]) -> dict[str, tuple[Any, int, tuple[Any, ...]]]:
    """id -> (item, index of its first request, its requests)."""
    found, start = {}, 0
    for item, requests in cell.inputs:
        if item.id in ids:
            found[item.id] = (item, start, requests)
        start += len(requests)
    return found


def _answers(cell: Any, indices: set[int]) -> dict[int, Any]:
    return {index: answer for batch in cell.batches() for index, answer in batch["rows"] if index in indices}


def _shown(item: Any, requests: tuple[Any, ...], answers: list[Any]) -> Shown:
    prompts = dict.fromkeys(prompt_of(request)[: ANSWER_LIMIT + 1] for request in requests)
    said = [answer_text(request, answer) for request, answer in zip(requests, answers)]
    return Shown("\n———\n".join(prompts), "\n———\n".join(said)[: 4 * ANSWER_LIMIT], dict(item.groups))
