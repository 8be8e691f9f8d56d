"""`tiltmeter trend`: the table of a history, and its page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiltmeter.cli.language import language
from tiltmeter.cli.output import say
from tiltmeter.cli.tables import PIPE, Terminal
from tiltmeter.errors import UserError
from tiltmeter.evidence.history import History, history
from tiltmeter.files.whole import write_whole
from tiltmeter.printed import STYLE, one_line
from tiltmeter.report.trend import build, label, printed
from tiltmeter.report.words import Words
from tiltmeter.schema import Verdict


def run_trend(
    runs: Sequence[Path],
    *,
    strategies: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    out: Path | None = None,
    lang: str | None = None,
) -> None:
    """Print the table; write the page where `out` is given. Raises UserError."""
    found = history(runs, strategies=strategies, benchmarks=benchmarks)
    words = Words(language(lang))
    show(found, words)
    if out:
        try:
            write_whole(out, build(found, words))
        except OSError as error:
            raise UserError(
                f"cannot write {out}: {error.strerror or error}", fix="give a writable place with --out"
            ) from None
        say(one_line(out))


def show(found: History, words: Words, width: int | None = None) -> None:
    """One block per variant and benchmark, one row per release, then what else differs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    safe = Terminal(words.lang).safe
    if width is None and sys.stdout.isatty():
        width = Console().width
    console = Console(width=width or PIPE, highlight=False)
    for line in found.lines:
        console.print(f"[bold]{safe(label(line, words))}[/bold]")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(words("trend.release"), overflow="fold")
        for name in ("trend.score", "trend.base", "trend.against_base", "trend.since"):
            table.add_column(words(name), justify="right", overflow="fold")
        for step in printed(line, words):
            name = step.release + (f" ({words('word.partial')})" if step.partial else "")
            cells: list[Any] = [Text(one_line(text)) for text in (name, step.score, step.base)]
            table.add_row(*cells, _judged(step.against, step.verdict, words), _judged(step.since, step.step, words))
        console.print(table)
    console.print(f"[dim]{safe(words('trend.key'))}[/dim]")
    for note in (*(words.told(note) for note in found.notes), words("trend.tokenizer")):
        console.print(f"• {safe(note)}")


def _judged(change: str, verdict: Verdict | None, words: Words) -> Any:
    from rich.text import Text

    if verdict is None:
        return Text(one_line(change))
    text = f"{one_line(change)} {verdict.sign} {words(f'verdict.{verdict}')}"
    return Text(text, style=STYLE[verdict.colour])
