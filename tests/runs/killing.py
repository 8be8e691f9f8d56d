"""Children that kill themselves at one chosen step of their work: deterministic, on any machine, under any load."""

from __future__ import annotations

import itertools
import os
import signal
import traceback
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import tiltmeter.files.whole as whole
from tiltmeter.runs.store import Cell

LONGEST_S = 500


def killed(work: Callable[[], object], instant: mock._patch[Any]) -> bool:
    """Runs `work` in a forked child (torch is not imported again) that dies at `instant`; False where it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(LONGEST_S)  # a library that does not survive the fork ends the test, not the suite
        try:
            with instant:
                work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_commit(number: int, how: str) -> Any:
    """The `number`-th batch that is committed. how: "before" its line is written, "after", or "torn" in the middle."""
    commit, calls = Cell.commit, itertools.count(1)

    def dying(cell: Cell, *args: Any, **facts: Any) -> None:
        last = next(calls) == number
        if last and how == "before":
            die()
        start = cell.answers_path.stat().st_size if cell.answers_path.exists() else 0
        commit(cell, *args, **facts)
        if last and how == "torn":
            os.truncate(cell.answers_path, (start + cell.answers_path.stat().st_size) // 2)
        if last:
            die()

    return mock.patch.object(Cell, "commit", dying)


def at_file(number: int, how: str, name: str = "*") -> Any:
    """The `number`-th file that is written whole (of those whose name fits the pattern `name`). how: "half" of it, all
    "before" it takes its name, or "after"."""
    replace, calls = os.replace, itertools.count(1)

    def dying(draft: Path, path: Path) -> None:
        last = fnmatch(path.name, name) and next(calls) == number
        if last and how == "half":
            os.truncate(draft, draft.stat().st_size // 2)
        if last and how != "after":
            die()
        replace(draft, path)
        if last:
            die()

    return mock.patch.object(whole.os, "replace", dying)
