"""The rows of one model in the room there is: the widest layout whose every number stands whole.

    one table       benchmark, strategy, how asked, score, change, interval, detects, noise, verdict, items scored
    under headings  the same, each benchmark a heading instead of a column
    two tables      what was found; then what this run could detect
    records         a few lines a row

A number is never cropped and a column never left out; names may fold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tiltmeter.messages import named, say, told
from tiltmeter.printed import STYLE, defined, digits, interval, number, one_line, signed
from tiltmeter.schema import Row, Verdict

FOUND = ("score", "change", "95 % interval", "verdict")
COULD = ("detects", "noise", "scored")
ORDER = ("score", "change", "95 % interval", "detects", "noise", "verdict", "scored")
NUMERIC = ("score", "change", "95 % interval", "detects", "noise", "scored")


_ENDLESS = 10_000  # columns: nothing folds when a table is measured


def heading(column: str, lang: str) -> str:
    return say(f"table.{column}").text(lang)


def style_of(verdict: Verdict | None) -> str:
    return STYLE[verdict.colour] if verdict else "dim"


def asked(row: Row, lang: str = "en") -> str:
    """How the questions were put: plain, chat; sampled how often."""
    way = told(named("format", row.format), lang)
    return way if row.decoding == "greedy" else say("table.samples", format=way, n=row.n_samples).text(lang)


def scored(row: Row, lang: str = "en") -> str:
    counted = f"{row.n_scored:,} / {row.n_items:,}"
    return say("table.partial", scored=counted).text(lang) if row.partial else counted


def verdict_of(row: Row, lang: str = "en") -> str:
    base = say("table.base_no_signal" if row.signal else "table.base")
    return told(named("verdict", str(row.verdict)) if row.verdict else base, lang)


def cells(row: Row, lang: str = "en") -> dict[str, str]:
    """Column -> text of one row; empty where a base has none."""
    change, places = row.change, digits(row.unit)
    found = {
        "benchmark": row.benchmark,
        "strategy": row.strategy,
        "asked": asked(row, lang),
        "score": number(row.score, places),
        "change": signed(change.delta, places) if change else "",
        "95 % interval": interval(change.ci, places) if change else "",
        **dict(zip(("detects", "noise"), _floor(row, lang))),
        "verdict": f"{change.verdict.sign if change else ' '} {verdict_of(row, lang)}",
        "scored": scored(row, lang),
    }
    return {name: text if name == "verdict" else one_line(text) for name, text in found.items()}


def _floor(row: Row, lang: str) -> tuple[str, str]:
    """Smallest change this run would have found, and how far mere repetition moves the number; in the
    unit the verdict rests on (shown where it is not the score's)."""
    change = row.change
    if not change:
        return "", ""
    unit = change.spread.unit if change.spread else ""
    name, places = f" {unit}" if unit else "", digits(unit or row.unit)
    noise = number(change.noise, places) + name if defined(change.noise) else say("table.not_measured").text(lang)
    if defined(change.engine_noise):
        engine = say("table.engine_noise", x=number(change.engine_noise, places) + name).text(lang)
        noise = f"{noise}; {engine}" if defined(change.noise) else engine
    return number(change.mde, places) + name, noise


def show_model(console: Console, rows: Sequence[Row], room: int | None, lang: str = "en") -> None:
    """Print the rows of one model; `room`: columns there are, None for as many as are needed (a pipe)."""
    title = Text(one_line(rows[0].model), style="bold")
    names = ["strategy", *(["asked"] if len({row.place.asked for row in rows}) > 1 else [])]
    whole = _table(rows, ("benchmark", *names, *ORDER), lang, title)
    needed = width_of(whole)
    if room is None or needed <= room:
        (console if room else Console(width=needed, highlight=False)).print(whole)
        return
    console.print(title)
    headed = [(name, _table(members, (*names, *ORDER), lang)) for name, members in _blocks(rows)]
    halves = [
        (name, _table(members, (*names, *FOUND), lang), _table(members, (*names, *COULD), lang))
        for name, members in _blocks(rows)
    ]
    for layout in (headed, halves):
        if all(width_of(table) <= room for _, *tables in layout for table in tables):
            for name, *tables in layout:
                console.print(Text(one_line(name), style="bold"))
                for table in tables:
                    console.print(table)
            return
    for name, members in _blocks(rows):
        console.print(Text(one_line(name), style="bold"))
        for row in members:
            _show_record(console, row, names, lang)


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Benchmark by benchmark, each way of asking with its base first."""
    ways = list(dict.fromkeys(row.place.asked for row in rows))
    for name in dict.fromkeys(row.benchmark for row in rows):
        yield name, sorted((row for row in rows if row.benchmark == name), key=lambda row: ways.index(row.place.asked))


def _table(rows: Sequence[Row], columns: Sequence[str], lang: str, title: Text | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(heading(name, lang), justify="right" if name in NUMERIC else "left", no_wrap=True)
    for number_of_block, (_, members) in enumerate(_blocks(rows)):
        if number_of_block:
            table.add_section()
        for place, row in enumerate(members):
            found = cells(row, lang)
            if place:
                found["benchmark"] = ""
            table.add_row(*(Text(found[name], style=_style(name, row)) for name in columns))
    return table


def _style(column: str, row: Row) -> str:
    return "bold" if column == "benchmark" else style_of(row.verdict) if column == "verdict" else ""


def _show_record(console: Console, row: Row, names: Sequence[str], lang: str) -> None:
    found = cells(row, lang)
    console.print(Text("  " + " · ".join(found[name] for name in names)), overflow="fold")
    console.print(Text("    " + found["verdict"].strip(), style=style_of(row.verdict)))
    for name in ("score", "change", "95 % interval", *COULD):
        if found[name]:
            console.print(Text(f"    {heading(name, lang)} {found[name]}"), overflow="fold")


def width_of(table: Table) -> int:
    """Columns the table takes when nothing is cropped or folded."""
    endless: Any = Console(width=_ENDLESS)
    return int(endless.measure(table).maximum)
