"""Pieces of a long simulation, each kept as JSON when finished, so that a stopped command goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WHAT_COUNTS = ("src/tiltmeter/analysis", "validation")


def sources() -> str:
    """Digest of the code whose behaviour is simulated: what was computed by other code is computed again."""
    files = sorted(path for folder in WHAT_COUNTS for path in (ROOT / folder).rglob("*.py"))
    left_out = {"page.py", "gate.py"}  # how figures are printed, and another page's
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.name not in left_out)).hexdigest()


class Pieces:
    """Keys to JSON values, computed by at most `at_once` workers, none started after `until` (monotonic seconds)."""

    def __init__(self, folder: Path, at_once: int, until: float = float("inf")) -> None:
        self.folder, self.at_once, self.until = folder, at_once, until
        self.digest = sources()
        self.keys: list[tuple[Any, ...]] = []
        self.done: dict[tuple[Any, ...], Any] = {}
        self.waiting: list[tuple[tuple[Any, ...], Callable[..., Any], tuple[Any, ...]]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, key: tuple[Any, ...], function: Callable[..., Any], *arguments: Any) -> None:
        """function(*arguments) -> JSON, under this key."""
        self.keys.append(key)
        path = self._path(key)
        if path.exists():
            self.done[key] = json.loads(path.read_text(encoding="utf-8"))
        else:
            self.waiting.append((key, function, arguments))

    def compute(self, pool: Executor, tell: Callable[[tuple[Any, ...]], None]) -> None:
        """What is not yet there, in the order it was added; `tell` hears of each."""
        running: dict[Future[Any], tuple[Any, ...]] = {}
        while self.waiting or running:
            while self.waiting and len(running) < self.at_once and time.monotonic() < self.until:
                key, function, arguments = self.waiting.pop(0)
                running[pool.submit(function, *arguments)] = key
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                self.done[key] = future.result()
                self._path(key).write_text(json.dumps(self.done[key]), encoding="utf-8")
                tell(key)

    def of(self, kind: str) -> list[tuple[tuple[Any, ...], Any]]:
        """(key, value) of what is done of this kind (a key's first part), in the order it was added."""
        return [(key, self.done[key]) for key in self.keys if key[0] == kind and key in self.done]

    def _path(self, key: tuple[Any, ...]) -> Path:
        return self.folder / f"{hashlib.sha256(f'{self.digest} {key!r}'.encode()).hexdigest()[:20]}.json"
