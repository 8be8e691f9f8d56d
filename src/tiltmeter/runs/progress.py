"""Progress on stderr: items done, tokens per second, share of tokens saved by sharing, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tiltmeter.printed import one_line

if TYPE_CHECKING:
    from tiltmeter.runs.store import CellId

EVERY = 30.0  # seconds between two lines of progress where there is no terminal


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
        self.tokens = stats.tokens_asked
        rate = stats.tokens_asked / stats.seconds if stats.seconds else 0.0
        saved = 1 - stats.tokens_computed / stats.tokens_asked if stats.tokens_asked else 0.0
        self.progress.update(self.task, advance=n, info=f"{rate:,.0f} tokens/s · {max(saved, 0):.0%} shared")


class _Lines(Bar):
    """A cell's progress where there is no terminal: plain lines, at the rate that `Terminal` allows all cells."""

    def __init__(self, terminal: Terminal, label: str, total: int, done: int) -> None:
        self.terminal, self.label, self.total, self.done = terminal, label, total, done

    def advance(self, n: int, stats: Any) -> None:
        self.done += n
        if self.done < self.total and self.terminal.may_speak():
            self.terminal.line(f"{self.label}: {self.done} of {self.total} requests")


class Terminal(Progress):
    """Rich bars on a terminal. Elsewhere (logs, CI) plain lines: one per finished cell, and of the cells at work one
    every `EVERY` seconds, however many there are. Any thread may have a cell.

    clock: seconds, never set back.
    """

    def __init__(self, debug: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console

        self.debug = debug
        self.console = Console(stderr=True)
        self.live = sys.stderr.isatty()
        self._bars: Any = None  # those of all cells at work: a terminal takes one display at a time
        self._lock = threading.Lock()
        self._clock = clock
        self._spoke = clock()

    def may_speak(self) -> bool:
        """Whether a line of progress is due; who is told so, writes it."""
        with self._lock:
            due = self._clock() - self._spoke >= EVERY
            if due:
                self._spoke = self._clock()
            return due

    def line(self, text: str) -> None:
        """One line, whatever the width: a log is not folded."""
        self.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A step that may take long: said in a log too, where silence for minutes reads as a hang."""
        self.line(one_line(text))

    def warn(self, text: str) -> None:
        self.console.print(one_line(text), style="yellow", markup=False, highlight=False, soft_wrap=not self.live)

    @contextmanager
    def cell(self, cell_id: CellId, total: int, done: int) -> Iterator[Bar]:
        label = one_line(f"{cell_id.strategy} · {cell_id.benchmark} · {cell_id.format} {cell_id.decoding}")
        started = self._clock()
        if not self.live:
            yield _Lines(self, label, total, done)
            self._finished(label, total, started)
            return
        with self._lock:
            if self._bars is None:
                self._bars = self._display()
                self._bars.start()
            bars = self._bars
            task = bars.add_task(label, total=total, completed=done, info="")
        try:
            yield _RichBar(bars, task)
        finally:
            with self._lock:
                if len(bars.tasks) == 1:  # the last one stays to be read
                    bars.stop()
                    self._bars = None
                else:
                    bars.remove_task(task)
                    self._finished(label, total, started)

    def _finished(self, label: str, total: int, started: float) -> None:
        self.line(f"{label}: {total} requests in {self._clock() - started:.1f} s")

    def _display(self) -> Any:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=False,
        )
