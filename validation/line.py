"""Figures of one simulated situation, and whether they reach what was asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from validation.populations import Scenario

MOVED = ("worse", "shifted", "better")


@dataclass(frozen=True)
class Line:
    """Shares are fractions of the replicates, NaN where they do not apply."""

    benchmark: str
    scenario: Scenario
    replicates: int
    coverage: float  # of the score's change
    size_coverage: float  # of the attributes' change of size, least of them
    verdicts: Counter[str]
    printed_moved: float  # share in which the printed score's interval excludes 0
    before: Counter[str] = field(default_factory=Counter)  # verdicts by the rules of before; empty: they had none

    def share(self, *verdicts: str) -> float:
        return sum(self.verdicts[verdict] for verdict in verdicts) / self.replicates

    def share_before(self, *verdicts: str) -> float:
        return sum(self.before[verdict] for verdict in verdicts) / self.replicates if self.before else float("nan")

    def stored(self) -> dict[str, Any]:
        """The figures without what they are about, as JSON holds them."""
        return {
            "replicates": self.replicates,
            "coverage": self.coverage,
            "size_coverage": self.size_coverage,
            "verdicts": dict(self.verdicts),
            "printed_moved": self.printed_moved,
            "before": dict(self.before),
        }

    @staticmethod
    def of(benchmark: str, scenario: Scenario, stored: Mapping[str, Any]) -> Line:
        counted = {name: Counter(stored[name]) for name in ("verdicts", "before")}
        return Line(benchmark, scenario, **{**stored, **counted})

    @property
    def outside(self) -> list[str]:
        """What misses the demands by more than two standard errors of the simulation."""
        s, missed = self.scenario, []
        least = 0.89 if self.benchmark == "dt-stereotyping" and s.base < -2.5 else 0.93
        for name, share in (("the score's change", self.coverage), ("a change of size", self.size_coverage)):
            if share < least - 2 * (least * (1 - least) / self.replicates) ** 0.5:
                missed.append(f"{name} is covered {share:.3f}")
        limit = 0.05 + 2 * (0.05 * 0.95 / self.replicates) ** 0.5
        if s.truth == "unchanged" and self.share(*MOVED) > limit:
            named = ", ".join(f"{v} {self.share(v):.3f}" for v in MOVED if self.verdicts[v])
            missed.append(f"a false verdict in {self.share(*MOVED):.3f} ({named})")
        if s.truth == "margin" and self.share("equivalent") > limit:
            missed.append(f"falsely equivalent {self.share('equivalent'):.3f}")
        if s.truth in MOVED:
            wrong = [v for v in ("worse", "better") if v != s.truth and self.share(v) > limit]
            missed += [f"{v} instead of {s.truth} {self.share(v):.3f}" for v in wrong]
        return missed
