"""`tiltmeter speed`: measure, print, and store beside a run's variants where asked."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tiltmeter import schema
from tiltmeter.errors import UserError
from tiltmeter.messages import spoken
from tiltmeter.models.address import is_address
from tiltmeter.models.formats.gguf.source import is_gguf
from tiltmeter.printed import one_line
from tiltmeter.runs.store import Store, stored_variant, variant_file, write_variant
from tiltmeter.schema.place import CHECKPOINT, NONE
from tiltmeter.variants.speed import Setting, Speed, Timing, measure

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("prefill tokens/s", "× base", "decode tokens/s", "× base", "weights MB", "on disk MB", "peak MB")
RECORD = (COLUMNS[0], "prefill × base", COLUMNS[2], "decode × base", *COLUMNS[4:])  # where no column stands above
NOT_MEASURED = "–"


def run_speed(
    model: str,
    strategies: Sequence[str],
    setting: Setting,
    *,
    served: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    calibration: str | None = None,
    tokenizer: str | None = None,
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Measure the base and every strategy, or served variant, in alternation and print a table (or JSON).

    With `out`, each figure is also stored with that run's variant, for the report and `tiltmeter choose`.
    Raises UserError when the run does not hold the variant, before anything is measured.
    """
    from tiltmeter.strategies.chain import parse

    over_http = bool(served) or is_address(model)
    if over_http and strategies:
        raise UserError(
            "a model that is served elsewhere cannot be compressed from here",
            fix=f"serve it compressed and name that address: {shlex.join(['tiltmeter', 'speed', model])} http://HOST:8001/v1",
        )
    if out is not None:
        names = [NONE, *(parse(text).canonical for text in strategies), *(f"{CHECKPOINT}{each}" for each in served)]
        for name in names:
            if not variant_file(out, model, name).exists():
                made_by = ["compare", model, *served] if served else ["run", model, "-s", name]
                raise UserError(
                    f"the run {out} has no variant {name} of {model}",
                    fix=shlex.join(["tiltmeter", *made_by, "--out", str(out)]),
                )
    progress = partial(print, file=sys.stderr)
    if over_http:
        from tiltmeter.backends import served_speed

        found = served_speed.measure(model, served, setting=setting, tokenizer=tokenizer, progress=progress)
    elif is_gguf(model):
        from tiltmeter.backends import llama_speed  # an optional extra

        found = llama_speed.measure(model, strategies, setting=setting, progress=progress)
    else:
        found = measure(
            model,
            strategies,
            setting=setting,
            device=device,
            dtype=dtype,
            calibration=calibration,
            progress=progress,
        )
    if out is not None:
        with Store(out) as store:
            for speed in found:
                facts = stored_variant(store.path, model, speed.strategy)
                if facts is not None:
                    update = {"speed": schema.Speed.model_validate(speed.as_json())}
                    write_variant(store.path, facts.model_copy(update=update))
    if as_json:
        rows = spoken([{"model": model, **speed.as_json()} for speed in found])
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        show(model, found)


def show(model: str, found: Sequence[Speed], width: int | None = None) -> None:
    """The table: medians with their range over the rounds; a label where no number of its own exists.

    width: columns there are; None: the terminal's, or as many as the table needs where there is none. A table that does
    not fit is printed in two, or as lines of their own for every variant: no number is cut off.
    """
    from rich.console import Console
    from rich.text import Text

    from tiltmeter.cli.rows import width_of
    from tiltmeter.cli.tables import PIPE

    if width is None and sys.stdout.isatty():
        width = Console().width
    whole, halves = _table(found, range(len(COLUMNS))), [_table(found, range(4)), _table(found, range(4, len(COLUMNS)))]
    console = Console(width=width or max(width_of(whole), PIPE), highlight=False)
    console.print(Text(one_line(model), style="bold"), overflow="fold")
    fitting = [tables for tables in ([whole], halves) if max(map(width_of, tables)) <= console.width]
    for table in fitting[0] if fitting else ():
        console.print(table)
    for speed in () if fitting else found:
        console.print(Text(one_line(speed.strategy), style="bold"), overflow="fold")
        for name, cell in zip(RECORD, _cells(speed), strict=True):
            if cell != NOT_MEASURED:
                console.print(Text(f"  {name} {cell}"), overflow="fold")
    for speed in found:
        if speed.note:
            console.print(Text(one_line(f"{speed.strategy}: {speed.note}"), style="yellow"), overflow="fold")
    how = found[0].setting
    where = f"{how.dtype} on {how.device}, {how.threads} threads" if how.threads else "over HTTP, as served"
    said = [
        f"{how.batch} sequences, {how.prompt_tokens} prompt + {how.new_tokens} new tokens, {where}; "
        f"median (lowest–highest) of {how.repeats} rounds, base and variant in turn."
    ]
    first = [f"{speed.strategy} {_timing(speed.first_token, '.3f')}" for speed in found if speed.first_token]
    said += [f"seconds from one prompt to its first new token: {', '.join(first)}"] if first else []
    for line in said:
        console.print(Text(one_line(line), style="dim"), overflow="fold")


def _table(found: Sequence[Speed], places: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("strategy", no_wrap=True)
    for place in places:
        table.add_column(COLUMNS[place], justify="right", no_wrap=True)
    for speed in found:
        cells = _cells(speed)
        table.add_row(Text(one_line(speed.strategy)), *(cells[place] for place in places))
    return table


def _cells(speed: Speed) -> list[str]:
    return [
        _timing(speed.prefill, ",.0f"),
        _timing(speed.prefill_speedup, ".2f"),
        _timing(speed.decode, ",.0f"),
        _timing(speed.decode_speedup, ".2f"),
        _megabytes(speed.memory_bytes),
        _megabytes(speed.disk_bytes),
        _megabytes(speed.peak_bytes),
    ]


def _timing(timing: Timing | None, form: str) -> str:
    if timing is None:
        return NOT_MEASURED
    return f"{timing.median:{form}} ({timing.low:{form}}–{timing.high:{form}})"


def _megabytes(size: int | None) -> str:
    return NOT_MEASURED if size is None else f"{size / 1e6:,.1f}"
