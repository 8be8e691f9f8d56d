"""What one row cannot know alone: p adjusted over the run's rows, the noise floor, and so the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiltmeter.analysis.change import Change
from tiltmeter.analysis.compare import detectable_change, leading
from tiltmeter.analysis.multiplicity import Correction, adjust_with_replicates
from tiltmeter.analysis.types import NAN
from tiltmeter.analysis.verdict import ALPHA, Evidence, determined, judge
from tiltmeter.messages import Text, named, say
from tiltmeter.schema.place import is_base
from tiltmeter.schema.verdict import Verdict

ANSWERED = "answered "


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
    other_engine: bool = False  # the base's own weights, served or run elsewhere: a control
    hypothesis: str | None = None  # rows that share it are replicates (the strategy without its calibration seed)
    repeats: str | None = None  # the strategy that it is, drawn anew (the base: rerun); None: it repeats none
    stands_in: bool = False  # its change stands in for noise where nothing was drawn anew (another dtype)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Everything but the strategy."""
        return (self.model, self.format, self.decoding, self.benchmark)


Slot = tuple[str, str]  # ("score", ""), ("spread", attribute); with "answered " before it, of who is answered


def settle(rows: Sequence[Row], *, method: Correction = "holm", alpha: float = ALPHA) -> list[Change]:
    """The rows' changes with adjusted p, mde, noise, verdict and reason, in the same order.

    Hypotheses are the scores and attributes that verdicts rest on, in rows whose verdict is determined by data, those
    of "who is answered" included where any answer changed; a control (`rerun`) is a row like any other. Rows that
    differ in the calibration seed alone are replicates: one hypothesis, and one verdict.
    """
    found: list[dict[Slot, float]] = [_hypotheses(row, alpha) for row in rows]
    keys = [
        (row.place, row.hypothesis or row.strategy, slot) for row, own in zip(rows, found, strict=True) for slot in own
    ]
    adjusted = iter(adjust_with_replicates([p for own in found for p in own.values()], keys, method))
    family = len(set(keys))
    settled = []
    for row, own in zip(rows, found, strict=True):
        told = {slot: next(adjusted) for slot in own}
        change = _adjusted(row.change, told, alpha / max(family, 1), "")
        if change.unanswered is not None:
            answered = _adjusted(change.unanswered, told, alpha / max(family, 1), ANSWERED)
            judgement = judge(Evidence(answered, _score(told, ANSWERED), row.not_exercised, row.unusable, alpha))
            change = replace(change, unanswered=replace(answered, verdict=judgement.verdict, reason=judgement.reason))
        judgement = judge(Evidence(change, _score(told, ""), row.not_exercised, row.unusable, alpha))
        settled.append(
            replace(
                change,
                noise=noise_floor(row, rows),
                engine_noise=engine_floor(row, rows),
                verdict=judgement.verdict,
                reason=judgement.reason,
            )
        )
    return _over_seeds(rows, settled)


def _hypotheses(row: Row, alpha: float) -> dict[Slot, float]:
    """p of everything the row's verdicts rest on."""
    own: dict[Slot, float] = {}
    for kind, change in (("", row.change), (ANSWERED, row.change.unanswered)):
        if change is None or not determined(Evidence(change, NAN, row.not_exercised, row.unusable, alpha)):
            continue
        if kind == ANSWERED and change.delta == 0 and all(s.movement == 0 and s.p == 1 for s in change.spreads):
            continue  # no answer came or went: nothing that could be rejected
        if change.rests_on != "spread":
            own[f"{kind}score", ""] = change.p_score
        for s in change.judged:
            own[f"{kind}spread", s.attribute] = s.p
        for place, arm in enumerate(change.arms):
            if arm.role == "bias":
                own[f"{kind}arm", str(place)] = arm.p
    return {slot: p for slot, p in own.items() if np.isfinite(p)}


def _score(told: Mapping[Slot, float], kind: str) -> float:
    return told.get((f"{kind}score", ""), NAN)


def _adjusted(change: Change, told: Mapping[Slot, float], level: float, kind: str) -> Change:
    """With the attributes' adjusted p, the smallest as the row's, and the detectable change at `level`."""
    spreads = tuple(replace(s, p_adjusted=told.get((f"{kind}spread", s.attribute), NAN)) for s in change.spreads)
    arms = tuple(replace(arm, p_adjusted=told.get((f"{kind}arm", str(n)), NAN)) for n, arm in enumerate(change.arms))
    own = [p for (slot, _), p in told.items() if slot in (f"{kind}score", f"{kind}spread", f"{kind}arm")]
    change = replace(change, spreads=spreads, arms=arms, p_adjusted=min(own) if own else NAN)
    return detectable_change(leading(change), level)


def _over_seeds(rows: Sequence[Row], settled: Sequence[Change]) -> list[Change]:
    """One verdict for rows that are one hypothesis: the gravest that was told; equivalent or better only by all."""
    together: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        if settled[place].verdict.judged:
            together.setdefault((row.place, row.hypothesis or row.strategy), []).append(place)
    merged = list(settled)
    for places in together.values():
        verdicts = {settled[place].verdict for place in places}
        if len(verdicts) == 1:
            continue
        harm = [v for v in (Verdict.WORSE, Verdict.SHIFTED) if v in verdicts]
        verdict = harm[0] if harm else Verdict.INCONCLUSIVE
        for place in places:
            own = settled[place]
            reason = say("reason.replicates", n=len(places), verdict=named("verdict", verdict), own=own.reason)
            merged[place] = replace(own, verdict=verdict, reason=reason)
    return merged


def noise_floor(row: Row, rows: Sequence[Row]) -> float:
    """Larger of |none -> rerun| and |S -> S+rerun|, in the unit the verdict rests on; NaN when neither was measured.

    Where no rerun was asked for, the change under a `dtype:` control stands in.
    """
    beside = [other for other in rows if other.place == row.place]
    floors = [abs(moved(other.change)) for other in beside if other.repeats and is_base(other.repeats)]
    floors += [abs(moved(other.change) - moved(row.change)) for other in beside if other.repeats == row.strategy]
    if not floors:
        floors = [abs(moved(other.change)) for other in beside if other.stands_in and other.strategy != row.strategy]
    finite = [value for value in floors if np.isfinite(value)]
    return max(finite) if finite else float("nan")


def engine_floor(row: Row, rows: Sequence[Row]) -> float:
    """How far the base's own weights in another engine move what the row's verdict rests on; NaN where no such row is.

    The row's own movement where it is the control itself. The largest of several engines.
    """
    found = [abs(moved(other.change)) for other in rows if other.other_engine and other.place == row.place]
    finite = [value for value in found if np.isfinite(value)]
    return max(finite) if finite else NAN


def moved(change: Change) -> float:
    """The change in the unit its margin, mde and noise are in: of the score, or the movement of its attribute."""
    if change.rests_on == "score":
        return change.delta
    spread = change.companion
    return spread.movement if spread else NAN
