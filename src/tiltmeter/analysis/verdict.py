"""The verdict on one change: an ordered rule, and one sentence that says why to someone who decides about it.

In this order, the first that holds:

    not exercised     the strategy cannot have acted in this cell
    no usable signal  the text degenerates, it stopped answering, or one of the two scores is undefined
    equivalent        95 % interval of the signed change inside +-m (a spread: of its change inside +-m (2 D_low + m))
    worse             interval of the change of the distance from the ideal (or of the spread's change) above 0
                      and adjusted p < 0.05
    better            the mirror image
    inconclusive      the data cannot tell; this is never called "no change"

A score with its ideal in the middle (crows-pairs, 50) is worse or better only when both v - b and (v + b)/2 - 50 are
away from 0. Equivalence of single choices is never claimed on fewer items than could have shown a flip: the interval is
taken at least 1.96 sqrt(2) flips wide. Spreads: D_low^2 = max(smaller U - its standard error, 0). The 90 % interval
that two one-sided tests would allow calls a gap that grew from 0 to exactly m equivalent in 7-8 % of 1,000 simulated
pairs (the estimate is skewed there), the 95 % interval in 4-5 %: hence the latter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltmeter.analysis.types import Change, Interval, SpreadChange, Verdict
from tiltmeter.messages import Message, Text, join, named, say

ALPHA = 0.05
FEWEST_CLUSTERS_FOR_EQUIVALENCE = 15  # spreads: below, the interval covers less than it says


@dataclass(frozen=True)
class Evidence:
    """What a verdict is drawn from, beside the change itself."""

    change: Change
    p_adjusted: float
    not_exercised: Text | None = None  # why the strategy cannot have acted here
    unusable: Text | None = None  # the coherence gate's evidence
    alpha: float = ALPHA


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: Text


def judge(evidence: Evidence) -> Judgement:
    """The verdict and its reason, by the ordered rule above."""
    c = evidence.change
    if evidence.not_exercised:
        return Judgement("not exercised", say("reason.not_exercised", why=evidence.not_exercised))
    if evidence.unusable:
        return Judgement("no usable signal", say("reason.unusable", evidence=evidence.unusable))
    undefined = _undefined(c)
    if undefined:
        return Judgement("no usable signal", say("reason.undefined", why=undefined))
    if c.n_paired < c.minimum_paired:
        return Judgement("inconclusive", say("reason.few_items", n=c.n_paired, minimum=c.minimum_paired))
    judgement = _judge_spread(evidence) if c.rests_on == "spread" else _judge_score(evidence)
    return Judgement(judgement.verdict, join("join.sentences", [judgement.reason, *_remarks(c, judgement.verdict)]))


def determined(evidence: Evidence) -> bool:
    """Whether this row is one of the hypotheses the p-values are adjusted over."""
    c = evidence.change
    return not (evidence.not_exercised or evidence.unusable or _undefined(c) or c.n_paired < c.minimum_paired)


def _judge_score(evidence: Evidence) -> Judgement:
    c, p = evidence.change, evidence.p_adjusted
    unit = _unit(c.unit)
    if not c.ci.defined:
        return Judgement(
            "inconclusive", say("reason.no_interval", change=_sign(c.delta), unit=unit, why=c.ci.reason or "")
        )
    moved = say(
        "moved.score",
        change=_sign(c.delta),
        unit=unit,
        level=f"{100 * c.ci.level:.0f}",
        low=_sign(c.ci.low),
        high=_sign(c.ci.high),
    )
    if _wide_enough(c).inside(c.margin):
        detectable = say(
            "detectable.real"
            if c.ci.excludes_zero
            else "detectable.nothing"
            if c.delta == 0 and c.ci.low == c.ci.high
            else "detectable.open"
        )
        return Judgement(
            "equivalent",
            say("reason.equivalent", moved=moved, margin=_number(c.margin), unit=unit, detectable=detectable),
        )
    significant = bool(np.isfinite(p)) and p < evidence.alpha
    both = c.ideal == 0 or (c.ci.excludes_zero and c.level_ci.excludes_zero)
    if significant and both and c.distance_ci.above_zero:
        return Judgement("worse", say("reason.worse", ideal=_number(c.ideal), moved=moved, p=_p(p)))
    if significant and both and c.distance_ci.below_zero:
        return Judgement("better", say("reason.better", ideal=_number(c.ideal), moved=moved, p=_p(p)))
    return Judgement("inconclusive", say("reason.open", moved=moved, why=_why_open(c, p, evidence.alpha, both)))


def _judge_spread(evidence: Evidence) -> Judgement:
    c, p, s = evidence.change, evidence.p_adjusted, evidence.change.companion
    if s is None or s.reason:
        return Judgement(
            "inconclusive",
            say(
                "reason.spread_undefined",
                why=(s.reason if s else c.companion_reason) or "",
                name=s.name if s else say("undefined.spread"),
            ),
        )
    name = s.name
    moved = say("moved.spread", base=_number(s.d_base), variant=_number(s.d_variant), unit=_unit(s.unit))
    if s.ci.inside(s.bound) and c.n_clusters >= FEWEST_CLUSTERS_FOR_EQUIVALENCE:
        detectable = say("detectable.real" if s.ci.excludes_zero else "detectable.open")
        return Judgement(
            "equivalent",
            say("reason.spread_equivalent", name=name, moved=moved, margin=_number(s.margin), detectable=detectable),
        )
    significant = bool(np.isfinite(p)) and p < evidence.alpha
    if significant and s.ci.excludes_zero:
        return Judgement(
            "worse" if s.ci.above_zero else "better", say("reason.spread_moved", name=name, moved=moved, p=_p(p))
        )
    if s.ci.excludes_zero:
        why = say("open.adjusted", p=_p(p))
    elif np.isfinite(s.mde):
        why = say("open.chance_rise", mde=_number(s.mde))
    else:
        why = say("open.chance")
    return Judgement("inconclusive", say("reason.spread_open", name=name, moved=moved, why=why))


def _remarks(c: Change, verdict: Verdict) -> list[Text]:
    """What a reader must know beside the verdict."""
    remarks: list[Text] = []
    if c.rests_on == "spread" and verdict in ("equivalent", "inconclusive") and _paper_score_moved(c):
        remarks.append(say("remark.paper_score", base=_number(c.base), variant=_number(c.variant)))
        remarks += [say("remark.noisier")] if c.rises_with_noise else []
    if c.accuracy_like and c.ideal != 0 and verdict == "better":
        remarks.append(say("remark.noise_toward", ideal=_number(c.ideal)))
    elif c.accuracy_like and c.ideal == 0 and verdict in ("worse", "better"):
        remarks.append(say("remark.noise_error"))
    if c.rests_on == "score":
        remarks += [sentence for s in c.spreads if (sentence := disparity_sentence(s, c.delta))]
    if c.only_base + c.only_variant > 0.05 * max(c.n_paired, 1):
        remarks.append(say("remark.one_sided", n=c.only_base + c.only_variant))
    return remarks


def disparity_sentence(spread: SpreadChange, error_change: float, alpha: float = ALPHA) -> Message | None:
    """What a secondary spread (WorldBench's regions, incomes) did; None when nothing can be told from chance.

    A smaller disparity bought with a larger error is "levelled down", never better.
    """
    if spread.reason or not (spread.p < alpha and spread.ci.excludes_zero):
        return None
    moved = {"name": spread.name, "base": _number(spread.d_base), "variant": _number(spread.d_variant)}
    if spread.ci.below_zero and error_change > 0:
        return say("disparity.levelled", **moved)
    return say("disparity.worse" if spread.ci.above_zero else "disparity.better", p=_p(spread.p), **moved)


def _paper_score_moved(c: Change) -> bool:
    if c.ci.defined:
        return c.ci.excludes_zero
    return bool(np.isfinite(c.p_score)) and c.p_score < ALPHA


def _undefined(c: Change) -> Message | None:
    if c.n_paired == 0:
        return say("undefined.no_pair")
    if c.rests_on == "score" and not np.isfinite(c.delta):
        return say("undefined.score")
    return None


def _wide_enough(c: Change) -> Interval:
    """The 95 % interval, at least as wide as two flips in either direction would make it."""
    least = 1.96 * np.sqrt(2) * c.one_flip
    return Interval(min(c.ci.low, c.delta - least), max(c.ci.high, c.delta + least), c.ci.level)


def _why_open(c: Change, p: float, alpha: float, both: bool) -> Message:
    if c.ci.excludes_zero and not both:
        return say("open.side", ideal=_number(c.ideal))
    if c.ci.excludes_zero and not (np.isfinite(p) and p < alpha):
        return say("open.adjusted", p=_p(p))
    if c.ci.excludes_zero:
        return say("open.direction")
    if np.isfinite(c.mde):
        return say("open.chance_change", mde=_number(c.mde), unit=_unit(c.unit))
    return say("open.chance")


def _number(value: float) -> Text:
    return f"{value:.3g}" if np.isfinite(value) else say("number.unknown")


def _sign(value: float) -> str:
    return f"{value:+.3g}"


def _p(value: float) -> Text:
    if not np.isfinite(value):
        return say("number.undefined")
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def _unit(unit: str) -> Text:
    return named("unit", "points" if unit == "percent" else unit)
