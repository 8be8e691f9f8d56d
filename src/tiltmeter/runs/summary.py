"""What a run did, for the command that began it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tiltmeter.schema import Failure


@dataclass
class RunSummary:
    """What a run did: folder, cells finished now and before, failures."""

    path: Path
    computed: int = 0
    reused: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, part: RunSummary) -> None:
        self.computed += part.computed
        self.reused += part.reused
        self.failures += part.failures
