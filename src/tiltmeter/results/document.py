"""From stored answers to the results document. No model is needed: answers in, numbers out.

`write_results` reads every finished cell, scores it, compares each variant with its base item by
item, and writes RUN/results.json (schema tiltmeter/results/1, NaN as null). `load` gives the same as
data frames.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiltmeter.benchmarks.base import Benchmark, Outcome, Score
from tiltmeter.decisions import choose
from tiltmeter.decisions.findings import findings
from tiltmeter.errors import UserError
from tiltmeter.messages import as_json, spoken
from tiltmeter.registry import build, known
from tiltmeter.results.changes import Changes
from tiltmeter.results.published import published_value
from tiltmeter.runs.store import Cell, Store, finished_cells, read_json, write_json
from tiltmeter.study import Study

SCHEMA = "tiltmeter/results/1"
RowKey = tuple[str, str, str, str, str]  # model, strategy, format, decoding, benchmark


def null(value: Any) -> Any:
    """JSON form of a value: NaN and infinity become None, tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): null(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [null(inner) for inner in value]
    return value.item() if hasattr(value, "item") else value


def run_record(run: Path) -> dict[str, Any]:
    """run.json. Raises UserError when the folder is no run."""
    record = read_json(run / "run.json")
    if record is None:
        raise UserError(
            f"{run} is not a run folder (it has no run.json)", fix="give the folder that `tiltmeter run … --out` wrote"
        )
    return record  # type: ignore[no-any-return]


def cells_of(run: Path) -> dict[RowKey, Cell]:
    """Newest cell of every row, in the order the study asked: model, then base first, then strategies."""
    order = {folder: place for place, folder in enumerate(run_record(run)["cells"])}
    cells = [cell for cell in finished_cells(run) if cell.id.folder in order]
    rows: dict[RowKey, Cell] = {}
    for cell in sorted(cells, key=lambda cell: order[cell.id.folder]):
        rows[row_key(cell)] = cell
    return rows


def row_key(cell: Cell) -> RowKey:
    return (cell.id.model, cell.id.strategy, cell.id.format, cell.id.decoding, cell.id.benchmark)


def outcomes(cell: Cell, benchmark: Benchmark) -> list[Outcome]:
    """One outcome per item of a finished cell, in item order. Raises ValueError when it is not finished.

    What many items have in common (their groups, their cluster) is held once.
    """
    groups: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
    found: dict[int, Outcome] = {}
    for place, item, _, answers in cell.answered_items():
        outcome = benchmark.outcome(item, answers)
        shared = groups.setdefault(tuple(outcome.groups.items()), outcome.groups)
        found[place] = replace(outcome, cluster=sys.intern(outcome.cluster), groups=shared)
    return [found[place] for place in range(len(found))]


def places_of(cells: Mapping[RowKey, Cell]) -> list[list[RowKey]]:
    """The rows that are compared with one another, the base's row first in each list."""
    places: dict[tuple[str, ...], list[RowKey]] = {}
    for model, strategy, *where in cells:
        places.setdefault((model, *where), []).append((model, strategy, *where))  # type: ignore[arg-type]
    return [sorted(keys, key=lambda key: key[1] != "none") for keys in places.values()]


def row_of(cell: Cell, benchmark: Benchmark, genuine: bool = True) -> tuple[dict[str, Any], list[Outcome]]:
    """A result row without its change, and the outcomes behind it. Only whole, genuine data (`genuine`: the
    published files) may stand beside a published number."""
    everything = outcomes(cell, benchmark)
    protocol = [outcome for outcome in everything if not outcome.variation]
    score = benchmark.score(protocol)
    extra = dict(score.extra)
    for variation in dict.fromkeys(outcome.variation for outcome in everything if outcome.variation):
        varied = benchmark.score([outcome for outcome in everything if outcome.variation == variation])
        extra[f"robust:{variation}"] = varied.value
    done = cell.done or {}
    comparable = genuine and not cell.id.partial
    row = {
        "model": cell.id.model,
        "strategy": cell.id.strategy,
        "settings": cell.id.settings,
        "format": cell.id.format,
        "decoding": cell.id.decoding,
        "benchmark": cell.id.benchmark,
        "score": score.value,
        "reason": as_json(score.reason),
        "unit": benchmark.unit,
        "ideal": benchmark.ideal,
        "n_items": score.n_items,
        "n_scored": score.n_scored,
        "n_samples": cell.id.n_samples,
        "unscored": {str(reason): count for reason, count in score.unscored.items()},
        "unscored_messages": [as_json(reason) for reason in score.unscored],
        "ci": None,
        "extra": extra,
        "partial": cell.id.partial,
        "complete": bool(done),
        "groups": _groups(score),
        "change": None,
        "published": published_value(cell.id) if comparable else None,
        "published_change": published_value(cell.id, change=True) if comparable else None,
        "notes": [as_json(note) for note in score.notes],
        "seconds": done.get("seconds", 0.0),
        "tokens": done.get("tokens", 0),
    }
    return spoken(row), everything


def _groups(score: Score) -> list[dict[str, Any]]:
    return [
        {
            "attribute": group.attribute,
            "group": group.group,
            "score": group.score,
            "n": group.n,
            "delta": None,
            "ci": None,
        }
        for group in score.groups
    ]


def document(run: Path, margins: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The results document of a run, computed from its answers; `margins` override the study's for this once."""
    record = run_record(run)
    study = Study(**record["study"])
    if margins:
        study = study.model_copy(update={"margins": {**study.margins, **margins}})
    cells = {key: cell for key, cell in cells_of(run).items() if cell.done is not None}
    variants = [read_json(path) for path in sorted((run / "variants").glob("*.json"))]
    changes, found = Changes(variants, study), {}
    for keys in places_of(cells):
        base: list[Outcome] | None = None
        for key in keys:
            genuine = record["data"].get(key[4], {}).get("published", False)
            found[key], items = row_of(cells[key], build("benchmark", key[4]), genuine)
            changes.add(found[key], items, base)
            base = items if key[1] == "none" else base
    rows = [found[key] for key in cells]
    changes.settle(rows)
    order = {(row["model"], row["strategy"]): place for place, row in enumerate(rows)}
    variants.sort(key=lambda v: order.get((v["model"], v["strategy"]), len(order)))
    of_strategies: dict[str, dict[str, None]] = {}  # what the engine noted, with the strategies it holds for
    for key, cell in cells.items():
        for note in (cell.done or {}).get("notes", []):
            of_strategies.setdefault(note, {})[key[1]] = None
    notes = {f"{', '.join(strategies)}: {note}" for note, strategies in of_strategies.items()}
    about = {
        "path": run.name,
        "versions": record["versions"],
        "hardware": record["hardware"],
        "data": record["data"],
        "study": record["study"],
        "started": record["started"],
        "batch_tokens": record["batch_tokens"],
        "notes": sorted(notes | {note for given in record["notes"].values() for note in given}),
        "failures": read_json(run / "failures.json", []),
    }
    rows = null(rows)
    by: choose.By = "speed" if any((v.get("speed") or {}).get("decode_tokens_per_s") for v in variants) else "size"
    choice = choose.as_json(choose.choose(rows, variants, choose.DEFAULT_POLICY, by))
    answers = findings(rows, seed=study.seed)
    return null(
        {
            "schema": SCHEMA,
            "run": about,
            "rows": rows,  # type: ignore[no-any-return]
            **spoken({"findings": [as_json(sentence) for sentence in answers]}),
            "choice": choice,
            "variants": [
                {
                    "model": v["model"],
                    "strategy": v["strategy"],
                    "proof": v.get("proof", {}),
                    "notes": v.get("notes", []),
                    "settings": v.get("settings", {}),
                    "dtype": v.get("dtype"),
                    "device": v.get("device"),
                    "weight_hash": v.get("weight_hash"),
                    "text_quality": v.get("text_quality", {}),
                    "speed": v.get("speed"),
                }
                for v in variants
            ],
        }
    )


def write_results(run: Path) -> dict[str, Any]:
    """Compute the document and write RUN/results.json."""
    result = document(run)
    write_json(run / "results.json", result)
    return result


def recomputed(run: Path) -> dict[str, Any]:
    """The document made anew from the stored answers, and stored. Raises UserError while another process writes."""
    with Store(run):
        return write_results(run)


def read_results(run: Path) -> dict[str, Any]:
    """The stored document; computed when a run was interrupted before its end, or gained answers since."""
    run_record(run)
    stored = run / "results.json"
    newest = max(
        (path.stat().st_mtime_ns for pattern in ("cells/*/done.json", "variants/*.json") for path in run.glob(pattern)),
        default=0,
    )
    if stored.exists() and stored.stat().st_mtime_ns >= newest:
        return read_json(stored)  # type: ignore[no-any-return]
    return document(run)


def item_rows(run: Path) -> Iterator[dict[str, Any]]:
    """One row per item, sample and variant: prompt, answer, label, score, reason."""
    names = known("benchmark")
    for key, cell in cells_of(run).items():
        if cell.done is None or cell.id.benchmark not in names:
            continue
        benchmark = build("benchmark", cell.id.benchmark)
        answers = cell.answers()
        start = 0
        for item, requests in cell.inputs:
            given = answers[start : start + len(requests)]
            start += len(requests)
            outcome = benchmark.outcome(item, given)
            per_sample = max(len(requests) // max(len(outcome.samples), 1), 1)
            for index, sample in enumerate(outcome.samples):
                mine = slice(index * per_sample, (index + 1) * per_sample)
                yield {
                    "model": key[0],
                    "strategy": key[1],
                    "format": key[2],
                    "decoding": key[3],
                    "benchmark": key[4],
                    "item": item.id,
                    "sample": index,
                    "cluster": item.cluster,
                    "variation": item.variation,
                    "groups": dict(item.groups),
                    "prompt": "\n---\n".join(map(prompt_of, requests[mine])),
                    "answer": "\n---\n".join(answer_text(r, a) for r, a in zip(requests[mine], given[mine])),
                    "label": sample.label,
                    "score": null(sample.score),
                    "reason": sample.reason,
                    "uncertainty": null(outcome.uncertainty),
                }


def prompt_of(request: Any) -> str:
    """The text a request sends."""
    return str(getattr(request, "prompt", None) or getattr(request, "text", ""))


def answer_text(request: Any, answer: Any) -> str:
    """An answer as a person reads it; numbers with four digits."""
    if answer.error:
        return f"({answer.error})"
    if hasattr(answer, "clean"):
        return str(answer.clean)
    if hasattr(answer, "logprobs"):
        probs = [
            (forms[0], math.exp(logs[0]))
            for forms, logs in zip(request.options, answer.logprobs)
            if logs and logs[0] is not None
        ]
        return ", ".join(f"{form}: {prob:.4f}" for form, prob in probs)
    return f"{answer.logprob:.4f} nats over {answer.n_tokens} tokens"


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

        return pd.DataFrame(item_rows(self.path))


def load(run: str | Path) -> Results:
    """A run folder as data frames. Raises UserError when the folder is no run."""
    return Results(Path(run))
