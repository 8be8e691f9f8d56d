"""Where a row stands in a run: the one address that results, report and decisions use.

And the one place that knows what canonical strategies look like that are none: the base, a ready-made variant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

NONE = "none"  # the strategy that is none: the base
CHECKPOINT = "checkpoint="  # before the folder, id or address of a ready-made variant
Kind = Literal["base", "strategy", "checkpoint"]


def kind_of(strategy: str) -> Kind:
    """What a canonical strategy stands for: nothing applied, strategies, a ready-made checkpoint."""
    return "base" if strategy == NONE else "checkpoint" if strategy.startswith(CHECKPOINT) else "strategy"


def is_base(strategy: str) -> bool:
    """Whether a canonical strategy stands for the model as it is, which variants are compared with."""
    return kind_of(strategy) == "base"


def ready_made(source: str) -> str:
    """The canonical strategy of a ready-made variant."""
    return CHECKPOINT + source


def source_of(strategy: str) -> str:
    """Folder, id or address of a ready-made variant."""
    return strategy.removeprefix(CHECKPOINT)


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
        return is_base(self.strategy)

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
