"""Progress on stderr: items done, tokens per second, share of tokens saved by sharing, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiltmeter.store import CellId


class Bar:
    """Advances one cell's bar; the silent bar does nothing."""

    def advance(self, n: int, stats: Any) -> None: ...


class Progress:
    """What the pipeline tells a person. Subclasses choose how; `debug` lets unexpected errors through."""

    debug = False

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    @contextmanager
    def cell(self, cell_id: CellId, total: int, done: int) -> Iterator[Bar]:
        yield Bar()


class Silent(Progress):
    """Says nothing (Python API, tests)."""


class _RichBar(Bar):
    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self.task, self.started, self.tokens = progress, task, time.perf_counter(), 0

    def advance(self, n: int, stats: Any) -> None:
        if not hasattr(self, "first"):
            self.first = stats.tokens_asked
        self.tokens = stats.tokens_asked
        rate = stats.tokens_asked / stats.seconds if stats.seconds else 0.0
        saved = 1 - stats.tokens_computed / stats.tokens_asked if stats.tokens_asked else 0.0
        self.progress.update(self.task, advance=n, info=f"{rate:,.0f} tokens/s · {max(saved, 0):.0%} shared")


class Terminal(Progress):
    """Rich bars on a terminal; one plain line per finished cell elsewhere (logs, CI)."""

    def __init__(self, debug: bool = False) -> None:
        from rich.console import Console

        self.debug = debug
        self.console = Console(stderr=True)
        self.live = sys.stderr.isatty()

    def note(self, text: str) -> None:
        if self.live:
            self.console.print(text, style="dim", markup=False, highlight=False)

    def warn(self, text: str) -> None:
        self.console.print(text, style="yellow", markup=False, highlight=False)

    @contextmanager
    def cell(self, cell_id: CellId, total: int, done: int) -> Iterator[Bar]:
        label = f"{cell_id.strategy} · {cell_id.benchmark} · {cell_id.format} {cell_id.decoding}"
        if not self.live:
            started = time.perf_counter()
            yield Bar()
            self.console.print(
                f"{label}: {total} requests in {time.perf_counter() - started:.1f} s",
                style="dim",
                markup=False,
                highlight=False,
            )
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self.console, transient=False) as bars:
            yield _RichBar(bars, bars.add_task(label, total=total, completed=done, info=""))
