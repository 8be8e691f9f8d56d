"""What one row cannot know alone: p adjusted over the run's rows, the noise floor, and so the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltmeter.analysis.multiplicity import Correction, adjust_with_replicates
from tiltmeter.analysis.types import Change
from tiltmeter.analysis.verdict import ALPHA, Evidence, determined, judge
from tiltmeter.messages import Text

RERUN = "rerun"


@dataclass(frozen=True)
class Row:
    """One variant's change on one benchmark, with where it stands in the run."""

    model: str
    strategy: str  # canonical, chains joined by +
    format: str
    decoding: str
    benchmark: str
    change: Change
    not_exercised: Text | None = None
    unusable: Text | None = None
    hypothesis: str | None = None  # rows that share it are replicates (the strategy without its calibration seed)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Everything but the strategy."""
        return (self.model, self.format, self.decoding, self.benchmark)


def settle(rows: Sequence[Row], *, method: Correction = "holm", alpha: float = ALPHA) -> list[Change]:
    """The rows' changes with p_adjusted, noise, verdict and reason, in the same order.

    Hypotheses are the rows whose verdict is determined by data; a control (`rerun`) is a row like any other.
    """
    evidence = [Evidence(row.change, float("nan"), row.not_exercised, row.unusable, alpha) for row in rows]
    p = [row.change.p if determined(e) else float("nan") for row, e in zip(rows, evidence, strict=True)]
    keys = [(row.place, row.hypothesis or row.strategy) for row in rows]
    adjusted = adjust_with_replicates(p, keys, method)
    settled = []
    for row, e, p_adjusted in zip(rows, evidence, adjusted, strict=True):
        judgement = judge(replace(e, p_adjusted=p_adjusted))
        settled.append(
            replace(
                row.change,
                p_adjusted=p_adjusted,
                noise=noise_floor(row, rows),
                verdict=judgement.verdict,
                reason=judgement.reason,
            )
        )
    return settled


def noise_floor(row: Row, rows: Sequence[Row]) -> float:
    """Larger of |none -> rerun| and |S -> S+rerun|, in the unit the verdict rests on; NaN when neither was measured.

    Where no rerun was asked for, the change under a `dtype:` control stands in.
    """
    beside = {other.strategy: other for other in rows if other.place == row.place}
    floors = []
    if RERUN in beside:
        floors.append(abs(moved(beside[RERUN].change)))
    twin = beside.get(f"{row.strategy}+{RERUN}")
    if twin is not None:
        floors.append(abs(moved(twin.change) - moved(row.change)))
    if not floors:
        floors = [
            abs(moved(other.change))
            for name, other in beside.items()
            if name.startswith("dtype:") and "+" not in name and name != row.strategy
        ]
    finite = [value for value in floors if np.isfinite(value)]
    return max(finite) if finite else float("nan")


def moved(change: Change) -> float:
    """The change in the unit its margin, mde and noise are in: of the score, or of the square root of its spread."""
    if change.rests_on == "score":
        return change.delta
    spread = change.companion
    return spread.d_variant - spread.d_base if spread else float("nan")
