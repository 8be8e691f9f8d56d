"""Published numbers (arXiv 2410.22118) beside measured ones: same model, strategy, format, decoding, benchmark."""

from __future__ import annotations

import csv
import math
from functools import cache
from importlib.resources import files

from tiltmeter.runs.store import CellId
from tiltmeter.schema.place import NONE, is_base
from tiltmeter.strategies.chain import parse

ALIASES = {"meta-llama/meta-llama-3.1-8b-instruct": "meta-llama/llama-3.1-8b-instruct"}


@cache
def _table() -> dict[tuple[str, str, str, str, str], float]:
    text = files("tiltmeter.results").joinpath("published.csv").read_text(encoding="utf-8")
    return {
        (_canonical(row["model"]), row["strategy"], row["format"], row["decoding"], row["benchmark"]): float(
            row["value"]
        )
        for row in csv.DictReader(text.splitlines())
        if row["metric"] == "score" and _is_number(row["value"])
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _canonical(model: str) -> str:
    return ALIASES.get(model.lower(), model.lower())


def published_value(cell: CellId, change: bool = False) -> float:
    """The study's score of this cell (its change against the base with `change`), NaN where it printed none.

    Matched by declared hub id. KV cells stand beside `read=transformers` only, whose semantics they have.
    """
    strategy = cell.strategy.replace(":read=transformers", "")
    key = (_canonical(cell.model), strategy, cell.format, cell.decoding, cell.benchmark)
    value = _table().get(key, math.nan)
    if math.isnan(value) or not all(part.as_published for part in parse(cell.strategy).parts):
        return math.nan
    if not change:
        return value
    base = _table().get((key[0], NONE, *key[2:]), math.nan)
    return math.nan if is_base(strategy) else value - base
