"""A run folder written through the store itself, with made-up answers, for tests that read texts from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import report_synthetic

from tiltmeter.benchmarks.base import Item
from tiltmeter.runs.store import Cell, CellId, Store, write_json
from tiltmeter.schema import Document, Row, RunRecord
from tiltmeter.scoring.requests import Generation, GenerationAnswer

POISON = (
    "<script>window.hacked=1</script></script><img src=x onerror='window.hacked=2'>\"'><svg/onload=window.hacked=3>"
    "javascript:window.hacked=4 \u202edesrever\u202c \x1b[31mred\x1b[0m nul\x00 =1+1 \\input{/etc/passwd} $\\alpha$ "
    "{{7*7}} ${7*7} `rm` [x](http://evil.example/a) @everyone | pipe \u2028 http://evil.example/p.png --> ]]> &amp;"
)


def write_run(folder: Path, *, poison: str = "", answer_length: int = 0, **document: Any) -> Document:
    """A finished run with one generation cell per row of a synthetic document. Returns the document."""
    made = report_synthetic.document(poison=poison, **document)
    with Store(folder) as store:
        cells = []
        for row in made.rows:
            cell = _cell(store, row, poison, answer_length)
            cells.append(cell.id.folder)
        record = RunRecord.model_validate({**made.run.as_json(), "cells": cells, "notes": {}})
        write_json(folder / "run.json", record.as_json())
        write_json(folder / "results.json", made.as_document())
    return made


def _cell(store: Store, row: Row, poison: str, answer_length: int) -> Cell:
    items = [Item(f"item-{i}", "c", {"gender": "female" + poison}, {}) for i in range(6)]
    requests = [Generation(f"Should {row.benchmark} {i} be approved?{poison}", 20) for i in range(6)]
    inputs = store.write_inputs([(item, (request,)) for item, request in zip(items, requests)])
    cell = Cell(
        store.path,
        CellId(
            model=row.model,
            strategy=row.strategy,
            settings={},
            format=row.format,
            decoding=row.decoding,
            benchmark=row.benchmark,
            weight_hash=row.model,
            inputs=inputs,
            dtype="float32",
            n_samples=row.n_samples,
            partial=row.partial,
        ),
    )
    cell.start()
    said = [f"{row.strategy} says no.{poison}" + "x" * (answer_length if i == 1 else 0) for i in range(6)]
    answers = [GenerationAnswer(text=text, clean=text, n_tokens=3, stopped="eos") for text in said]
    cell.commit(list(enumerate(answers)), seconds=1.0, tokens=18, notes=[])
    cell.finish()
    return cell
