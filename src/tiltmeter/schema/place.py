"""Where a row stands in a run: the one address that results, report and decisions use."""

from __future__ import annotations

from dataclasses import dataclass, replace

NONE = "none"  # the strategy that is none: the base


@dataclass(frozen=True)
class Place:
    """One cell of a run, without its numbers."""

    model: str
    """Hub id or folder, as the user gave it."""
    strategy: str
    """Canonical strategy, chains joined by +; "none" is the base, "checkpoint=…" a ready-made variant."""
    format: str
    """How prompts are put: plain or chat."""
    decoding: str
    """greedy or sampling."""
    benchmark: str
    """Registered name of the benchmark."""

    @property
    def is_base(self) -> bool:
        """Whether this is the model as it is, which variants are compared with."""
        return self.strategy == NONE

    @property
    def base(self) -> Place:
        """Where the row stands that this one is compared with."""
        return replace(self, strategy=NONE)

    @property
    def asked(self) -> tuple[str, str]:
        """How the questions were put: (format, decoding)."""
        return (self.format, self.decoding)

    def __str__(self) -> str:
        return f"{self.model} · {self.strategy} · {self.benchmark}, {self.format}, {self.decoding}"
