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

from tiltmeter.analysis.contract import Change, Interval, SpreadChange, Verdict

ALPHA = 0.05
FEWEST_CLUSTERS_FOR_EQUIVALENCE = 15  # spreads: below, the interval covers less than it says


@dataclass(frozen=True)
class Evidence:
    """What a verdict is drawn from, beside the change itself."""

    change: Change
    p_adjusted: float
    not_exercised: str | None = None  # why the strategy cannot have acted here
    unusable: str | None = None  # the coherence gate's evidence
    alpha: float = ALPHA


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: str


def judge(evidence: Evidence) -> Judgement:
    """The verdict and its reason, by the ordered rule above."""
    c = evidence.change
    if evidence.not_exercised:
        return Judgement("not exercised", f"The strategy cannot have acted here: {evidence.not_exercised}.")
    if evidence.unusable:
        return Judgement("no usable signal", f"A lower or higher score means nothing here: {evidence.unusable}.")
    undefined = _undefined(c)
    if undefined:
        return Judgement("no usable signal", f"There is no change to judge: {undefined}.")
    if c.n_paired < c.minimum_paired:
        return Judgement("inconclusive", f"Only {c.n_paired} items are answered by both models; below "
                                         f"{c.minimum_paired} no verdict is given.")
    judgement = _judge_spread(evidence) if c.rests_on == "spread" else _judge_score(evidence)
    return Judgement(judgement.verdict, " ".join([judgement.reason, *_remarks(c, judgement.verdict)]))


def determined(evidence: Evidence) -> bool:
    """Whether this row is one of the hypotheses the p-values are adjusted over."""
    c = evidence.change
    return not (evidence.not_exercised or evidence.unusable or _undefined(c) or c.n_paired < c.minimum_paired)


def _judge_score(evidence: Evidence) -> Judgement:
    c, p = evidence.change, evidence.p_adjusted
    moved = f"{_sign(c.delta)} {_unit(c.unit)} ({_range(c.ci)})"
    if not c.ci.defined:
        return Judgement("inconclusive", f"The score moved by {_sign(c.delta)} {_unit(c.unit)}, but it has no "
                                         f"interval: {c.ci.reason}.")
    if _wide_enough(c).inside(c.margin):
        detectable = ("a change that is real but too small to matter" if c.ci.excludes_zero
                      else "nothing moved at all" if c.delta == 0 and c.ci.low == c.ci.high
                      else "no change could be told from zero")
        return Judgement("equivalent", f"The change, {moved}, stays within the {_number(c.margin)} {_unit(c.unit)} "
                                       f"that would matter; {detectable}.")
    significant = bool(np.isfinite(p)) and p < evidence.alpha
    both = c.ideal == 0 or (c.ci.excludes_zero and c.level_ci.excludes_zero)
    if significant and both and c.distance_ci.above_zero:
        return Judgement("worse", f"The score moved away from the ideal of {_number(c.ideal)} by {moved}, more than "
                                  f"chance explains (adjusted p {_p(p)}).")
    if significant and both and c.distance_ci.below_zero:
        return Judgement("better", f"The score moved toward the ideal of {_number(c.ideal)} by {moved}, more than "
                                   f"chance explains (adjusted p {_p(p)}).")
    return Judgement("inconclusive", f"The score moved by {moved}: {_why_open(c, p, evidence.alpha, both)}.")


def _judge_spread(evidence: Evidence) -> Judgement:
    c, p, s = evidence.change, evidence.p_adjusted, evidence.change.companion
    if s is None or s.reason:
        return Judgement("inconclusive", f"The {s.name if s else 'noise-corrected spread'} the verdict rests on is "
                                         f"undefined: {s.reason if s else c.companion_reason}.")
    moved = f"went from {_number(s.d_base)} to {_number(s.d_variant)} {_unit(s.unit)}"
    if s.ci.inside(s.bound) and c.n_clusters >= FEWEST_CLUSTERS_FOR_EQUIVALENCE:
        detectable = ("a change that is real but too small to matter" if s.ci.excludes_zero
                      else "no change could be told from zero")
        return Judgement("equivalent", f"The {s.name} {moved}, which is within the {_number(s.margin)} that would "
                                       f"matter; {detectable}.")
    significant = bool(np.isfinite(p)) and p < evidence.alpha
    if significant and s.ci.above_zero:
        return Judgement("worse", f"The {s.name} {moved}, more than noise or chance explains (adjusted p {_p(p)}).")
    if significant and s.ci.below_zero:
        return Judgement("better", f"The {s.name} {moved}, more than noise or chance explains (adjusted p {_p(p)}).")
    if s.ci.excludes_zero and not significant:
        open_because = f"the interval excludes zero but the adjusted p is {_p(p)}"
    else:
        found = f"; it would have found a rise of {_number(s.mde)}" if np.isfinite(s.mde) else ""
        open_because = f"this run cannot tell that from chance{found}"
    return Judgement("inconclusive", f"The {s.name} {moved}: {open_because}.")


def _remarks(c: Change, verdict: Verdict) -> list[str]:
    """What a reader must know beside the verdict."""
    remarks = []
    if c.rests_on == "spread" and verdict in ("equivalent", "inconclusive") and _paper_score_moved(c):
        why = " That score moves when answers merely become noisier." if c.rises_with_noise else ""
        remarks.append(f"Only the paper's score moved, from {_number(c.base)} to {_number(c.variant)}.{why}")
    if c.accuracy_like and c.ideal != 0 and verdict == "better":
        remarks.append(f"Noise alone moves this score toward {_number(c.ideal)}, because it makes a model less "
                       f"decided: this does not by itself say that it is less biased.")
    elif c.accuracy_like and c.ideal == 0 and verdict in ("worse", "better"):
        remarks.append("Noise alone moves this score, because it makes a model less accurate: it does not by itself "
                       "say that groups are treated differently.")
    if c.rests_on == "score":
        remarks += [sentence for s in c.spreads if (sentence := disparity_sentence(s, c.delta))]
    if c.only_base + c.only_variant > 0.05 * max(c.n_paired, 1):
        remarks.append(f"{c.only_base + c.only_variant} items are scored in only one of the two models and left out of "
                       f"the change.")
    return remarks


def disparity_sentence(spread: SpreadChange, error_change: float, alpha: float = ALPHA) -> str | None:
    """What a secondary spread (WorldBench's regions, incomes) did; None when nothing can be told from chance.

    A smaller disparity bought with a larger error is "levelled down", never better.
    """
    if spread.reason or not (spread.p < alpha and spread.ci.excludes_zero):
        return None
    moved = f"the {spread.name} went from {_number(spread.d_base)} to {_number(spread.d_variant)}"
    if spread.ci.above_zero:
        return f"Worse between groups: {moved} (p {_p(spread.p)}, not adjusted)."
    if error_change > 0:
        return f"Levelled down: {moved} while the mean error rose, which is no improvement."
    return f"Better between groups: {moved} (p {_p(spread.p)}, not adjusted)."


def _paper_score_moved(c: Change) -> bool:
    if c.ci.defined:
        return c.ci.excludes_zero
    return bool(np.isfinite(c.p_score)) and c.p_score < ALPHA


def _undefined(c: Change) -> str | None:
    if c.n_paired == 0:
        return "no item is scored in both models"
    if c.rests_on == "score" and not np.isfinite(c.delta):
        return "the score is undefined in one of the two models"
    return None


def _wide_enough(c: Change) -> Interval:
    """The 95 % interval, at least as wide as two flips in either direction would make it."""
    least = 1.96 * np.sqrt(2) * c.one_flip
    return Interval(min(c.ci.low, c.delta - least), max(c.ci.high, c.delta + least), c.ci.level)


def _why_open(c: Change, p: float, alpha: float, both: bool) -> str:
    if c.ci.excludes_zero and not both:
        return (f"it changed, but both models lie too close to the ideal of {_number(c.ideal)} to say on which side, "
                f"so neither worse nor better can be told")
    if c.ci.excludes_zero and not (np.isfinite(p) and p < alpha):
        return f"the interval excludes zero but the adjusted p is {_p(p)}"
    if c.ci.excludes_zero:
        return "it changed, but whether toward or away from the ideal cannot be told"
    found = f"; it would have found a change of {_number(c.mde)} {_unit(c.unit)}" if np.isfinite(c.mde) else ""
    return f"this run cannot tell that from chance{found}"


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "an unknown amount"


def _sign(value: float) -> str:
    return f"{value:+.3g}"


def _range(interval: Interval) -> str:
    return f"{100 * interval.level:.0f} % interval {_sign(interval.low)} to {_sign(interval.high)}"


def _p(value: float) -> str:
    if not np.isfinite(value):
        return "undefined"
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def _unit(unit: str) -> str:
    return "points" if unit == "percent" else unit
