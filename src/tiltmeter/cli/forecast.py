"""The plan of a study on a terminal: the whole of it for --dry-run, totals and warnings at the start of every run."""

from __future__ import annotations

import math
from typing import Literal

from tiltmeter.messages import Text, named, say, told
from tiltmeter.printed import NONE, number, size
from tiltmeter.runs.forecast import Forecast, Part

COLUMNS = ("benchmark", "asked", "items", "requests", "read", "written", "mde")


def show_forecast(found: Forecast, lang: str = "en") -> None:
    """A row per benchmark and way of asking, the totals, and what could not be judged."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    def spoken(text: Text) -> str:
        return told(text, lang)

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(COLUMNS):
        numbers = place > 1  # never cropped: names fold instead
        justify: Literal["left", "right"] = "right" if numbers else "left"
        table.add_column(spoken(say(f"forecast.{name}")), justify=justify, no_wrap=numbers, overflow="fold")
    for part in found.parts:
        table.add_row(*_cells(part, lang))
    console = Console(highlight=False)
    console.print(table)
    for line in (*totals(found), *warnings(found)):
        console.print(spoken(line), markup=False)
    if any(math.isfinite(part.mde) for part in found.parts):
        console.print(spoken(say("forecast.finds", family=found.family)), style="dim", markup=False)
    console.print(spoken(say("forecast.nothing")), markup=False)


def totals(found: Forecast) -> list[Text]:
    """Cells, requests and tokens; memory and time."""
    read, written = found.tokens
    lines: list[Text] = [
        say(
            "forecast.cells",
            cells=f"{found.n_cells:,}",
            variants=found.n_variants,
            requests=f"{found.n_requests:,}",
            read=counted(read),
            written=counted(written),
        )
    ]
    if math.isfinite(found.seconds):
        lines.append(
            say(
                "forecast.cost",
                weights=size(found.weight_bytes),
                free=size(found.free_bytes),
                time=spell(found.seconds),
            )
        )
    elif math.isfinite(found.weight_bytes):  # the model is here, some of the data are not
        lines.append(say("forecast.no_time", weights=size(found.weight_bytes), free=size(found.free_bytes)))
    else:
        lines.append(say("forecast.no_cost"))
    return lines


def warnings(found: Forecast) -> list[Text]:
    """What could not be judged, or might not fit."""
    lines: list[Text] = []
    if found.weight_bytes > found.free_bytes:
        lines.append(say("forecast.tight", weights=size(found.weight_bytes), free=size(found.free_bytes)))
    for part in found.parts:
        why = part.warning if part.n_requests else say("forecast.no_data", name=part.benchmark.name)
        if why is not None:
            lines.append(say("forecast.warning", benchmark=part.benchmark.name, why=why))
    return list(dict.fromkeys(lines))


def _cells(part: Part, lang: str) -> list[str]:
    way = told(named("format", part.format), lang)
    asked = way if part.decoding == "greedy" else f"{way}, {part.decoding}"
    finds = f"{number(part.mde, 3)} {part.unit}" if math.isfinite(part.mde) else NONE
    requests = f"{part.n_requests:,}" if part.n_requests else NONE
    counts = [f"{part.n_items:,}", requests, counted(part.read_tokens), counted(part.written_tokens)]
    return [part.benchmark.name, asked, *counts, finds]


def counted(tokens: float) -> str:
    """A number of tokens to two or three digits."""
    if not math.isfinite(tokens):
        return NONE
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if tokens >= unit:
            return f"{tokens / unit:.1f}{name}"
    return f"{tokens:.0f}"


def spell(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
