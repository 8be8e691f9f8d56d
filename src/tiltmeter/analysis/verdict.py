"""The verdict on one change: an ordered rule, and one sentence that says why to someone who decides about it.

In this order, the first that holds:

    not exercised     the strategy cannot have acted in this cell
    no usable signal  the text degenerates, it stopped answering, or one of the two scores is undefined
    equivalent        however the answers that vanished would have come out: both one-sided 95 % limits of the signed
                      change lie inside +-m (Schuirmann's two tests); or, for EVERY attribute, the upper limit of its
                      movement does
    worse             told from chance, and the distance from the ideal (an attribute's size, raw or scale-free) grew
    shifted           told from chance: whom it favours changed, how much did not
    better            told from chance, and it shrank in every respect
    inconclusive      the data cannot tell; this is never called "no change"

Told from chance: adjusted p below 5 %, over all attributes and rows of the run. A score with its ideal in the middle
(crows-pairs, 50) is worse or better only when both v - b and (v + b)/2 - 50 are away from 0, else shifted. Better needs
more than noise or fading confidence would bring: a base whose own gap is told from noise, a scale-free size that
shrank, log-ratios that moved beyond one slope for all, no larger error ("levelled down"), and answers that vanished at
their worst. Fewer items or usable clusters than the design asks for give no verdict. `attributes.py` judges attributes
(`verdict_attributes`).

Source: Schuirmann 1987, A comparison of the two one-sided tests procedure, J. Pharmacokinetics and Biopharmaceutics 15.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltmeter.analysis.arms import with_arms
from tiltmeter.analysis.change import FEWEST_FLIPS, Change, Interval, at_worst, reach
from tiltmeter.analysis.printing import in_unit, number, p_text, signed
from tiltmeter.analysis.verdict_attributes import Judgement, combined, judge_attributes
from tiltmeter.messages import Text, join, say
from tiltmeter.schema.verdict import Verdict

ALPHA = 0.05


@dataclass(frozen=True)
class Evidence:
    """What a verdict is drawn from, beside the change itself, whose attributes hold their own adjusted p."""

    change: Change
    p_adjusted: float  # of the score, where the verdict rests on it
    not_exercised: Text | None = None  # why the strategy cannot have acted here
    unusable: Text | None = None  # the coherence gate's evidence
    alpha: float = ALPHA


def judge(evidence: Evidence) -> Judgement:
    """The verdict and its reason, by the ordered rule above."""
    c = evidence.change
    if evidence.not_exercised:
        return Judgement(Verdict.NOT_EXERCISED, say("reason.not_exercised", why=evidence.not_exercised))
    if evidence.unusable:
        return Judgement(Verdict.NO_USABLE_SIGNAL, say("reason.unusable", evidence=evidence.unusable))
    undefined = _undefined(c)
    if undefined:
        return Judgement(Verdict.NO_USABLE_SIGNAL, say("reason.undefined", why=undefined))
    few = too_few(c)
    if few:
        return Judgement(Verdict.INCONCLUSIVE, few)
    parts = [_judge_score(evidence)] if c.rests_on != "spread" else []
    parts += [judge_attributes(c, evidence.alpha)] if c.rests_on != "score" else []
    judgement = with_arms(c, combined(parts), evidence.alpha)
    return Judgement(judgement.verdict, join("join.sentences", [judgement.reason, *_remarks(c, judgement.verdict)]))


def determined(evidence: Evidence) -> bool:
    """Whether this row is one of the hypotheses the p-values are adjusted over."""
    c = evidence.change
    return not (evidence.not_exercised or evidence.unusable or _undefined(c) or too_few(c))


def _judge_score(evidence: Evidence) -> Judgement:
    c, p = evidence.change, evidence.p_adjusted
    unit = in_unit(c.unit)
    if not c.ci.defined:
        return Judgement(
            Verdict.INCONCLUSIVE, say("reason.no_interval", change=signed(c.delta), unit=unit, why=c.ci.reason or "")
        )
    moved = say(
        "moved.score",
        change=signed(c.delta),
        unit=unit,
        level=f"{100 * c.ci.level:.0f}",
        low=signed(c.ci.low),
        high=signed(c.ci.high),
    )
    limits = _wide_enough(c)
    worst = at_worst(limits, c.delta, c.hidden, c.one_flip)
    if worst.inside(c.margin):
        detectable = say(
            "detectable.real"
            if c.ci.excludes_zero
            else "detectable.nothing"
            if _nothing_turned(c)
            else "detectable.open"
        )
        ends = {"least": signed(worst.low), "most": signed(worst.high)}
        told = {"moved": moved, "margin": number(c.margin), "unit": unit, "detectable": detectable}
        return Judgement(Verdict.EQUIVALENT, say("reason.equivalent", **told, **ends))
    if np.isfinite(p) and p < evidence.alpha and c.ci.excludes_zero:
        told = {"ideal": number(c.ideal), "moved": moved, "p": p_text(p)}
        both = not c.ideal_inside or c.level_ci.excludes_zero
        if both and c.distance_ci.above_zero:
            return Judgement(Verdict.WORSE, say("reason.worse", **told))
        if both and c.distance_ci.below_zero and _beyond_noise(c):
            if c.distance_delta + reach(c.distance_ci.high - c.distance_delta, farther(c), c.one_flip) < 0:
                return Judgement(Verdict.BETTER, say("reason.better", **told))
            return Judgement(Verdict.INCONCLUSIVE, say("reason.open", moved=moved, why=say("open.vanished_better")))
        if c.ideal_inside and not both:
            return Judgement(Verdict.SHIFTED, say("reason.shifted", **told))
    if limits.inside(c.margin):
        why: Text = say("open.vanished")
    else:
        why = _why_open(c, p, evidence.alpha)
    return Judgement(Verdict.INCONCLUSIVE, say("reason.open", moved=moved, why=why))


def farther(c: Change) -> float:
    """How much farther from its ideal the score could lie, were the answers that vanished at their worst."""
    low, high = c.hidden
    return max(-low, high) if c.ideal_inside else -low if c.ideal_at == "high end" else high


def _beyond_noise(c: Change) -> bool:
    """Whether log-ratios moved toward the ideal by more than one slope for all explains; true where there are none."""
    if c.slope is None:
        return True
    return c.beyond_slope.below_zero if c.base > c.ideal else c.beyond_slope.above_zero


def _remarks(c: Change, verdict: Verdict) -> list[Text]:
    """What a reader must know beside the verdict."""
    remarks: list[Text] = []
    settled = verdict in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    if c.rests_on == "spread" and settled and _paper_score_moved(c):
        remarks.append(say("remark.paper_score", base=number(c.base), variant=number(c.variant)))
        remarks += [say("remark.noisier")] if c.rises_with_noise else []
    if c.slope is not None and verdict != Verdict.WORSE and (c.slope.fainter or c.slope.sharper):
        ends = {"low": f"{c.slope.ci.low:.2f}", "high": f"{c.slope.ci.high:.2f}"}
        remarks.append(
            say("remark.fainter" if c.slope.fainter else "remark.sharper", factor=f"{c.slope.value:.2f}", **ends)
        )
    if c.accuracy_like and c.ideal != 0 and verdict == Verdict.BETTER:
        remarks.append(say("remark.noise_toward", ideal=number(c.ideal)))
    elif c.accuracy_like and c.ideal == 0 and c.rests_on == "score" and verdict in (Verdict.WORSE, Verdict.BETTER):
        remarks.append(say("remark.noise_error"))
    if c.only_base + c.only_variant > 0.05 * max(c.n_paired, 1):
        remarks.append(say("remark.one_sided", n=c.only_base + c.only_variant))
    answered = c.unanswered
    if answered is not None and answered.verdict in (Verdict.WORSE, Verdict.SHIFTED, Verdict.BETTER):
        remarks.append(say("remark.answered", base=_percent(answered.base), variant=_percent(answered.variant)))
    return remarks


def _paper_score_moved(c: Change) -> bool:
    if c.ci.defined:
        return c.ci.excludes_zero
    return bool(np.isfinite(c.p_score)) and c.p_score < ALPHA


def _undefined(c: Change) -> Text | None:
    if c.n_paired == 0:
        return say("undefined.no_pair")
    if c.rests_on == "score" and not np.isfinite(c.delta):
        return say("undefined.score")
    return None


def too_few(c: Change) -> Text | None:
    """Why the row holds too little for a verdict in any direction; None where it does not."""
    if c.n_paired < c.minimum_paired:
        return say("reason.few_items", n=c.n_paired, minimum=c.minimum_paired)
    usable = c.n_clusters if c.n_usable is None else c.n_usable
    if c.rests_on != "spread" and usable < c.fewest_clusters:
        return say("reason.few_clusters", n=usable, minimum=c.fewest_clusters)
    return None


def _wide_enough(c: Change) -> Interval:
    """Both one-sided 95 % limits, at least as far apart as three flips in either direction, and what is too rare."""
    least, limits = FEWEST_FLIPS * c.one_flip, c.limits
    return Interval(min(limits.low, c.delta - least) - c.rare, max(limits.high, c.delta + least) + c.rare, limits.level)


def _nothing_turned(c: Change) -> bool:
    return c.delta == 0 and (c.se == 0 if c.flips is None else not c.flips.n)


def _why_open(c: Change, p: float, alpha: float) -> Text:
    if _nothing_turned(c):
        unseen = (FEWEST_FLIPS * c.one_flip + c.rare) / c.margin  # in margins; falls as 1 / items
        needed = int(np.ceil(unseen * c.n_paired - 1e-9))
        return say("open.unmoved", n=c.n_paired, margin=number(c.margin), unit=in_unit(c.unit), needed=needed)
    if c.ci.excludes_zero and not (np.isfinite(p) and p < alpha):
        return say("open.adjusted", p=p_text(p))
    if c.ci.excludes_zero and c.distance_ci.below_zero:
        return say("open.noise_toward", ideal=number(c.ideal))
    if c.ci.excludes_zero:
        return say("open.direction")
    if np.isfinite(c.mde):
        return say("open.chance_change", mde=number(c.mde), unit=in_unit(c.unit))
    return say("open.chance")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
