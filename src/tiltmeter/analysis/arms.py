"""What stands beside a score and decides with it: further scores of the same answers, over the same clusters.

bias    another face of the same bias (BBQ's disambiguated rows beside its ambiguous ones). A row is `equivalent` only
        where each lies within its margin, and `worse` where any moved away from its ideal.
skill   what a model must not have lost for a smaller bias to be an improvement (the control arm: accuracy, higher
        is better). `better` needs each shown to be kept: its interval above -margin.
noisy   a published score that rises with any noise: shown, never judged.

Every bias score is a hypothesis of the run: its p is adjusted with those of the rows' own scores (`judge_all`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tiltmeter.analysis.bootstrap import bootstrap, percentile_interval, swap_test
from tiltmeter.analysis.change import ArmChange, Change, Interval
from tiltmeter.analysis.types import FEWEST_CLUSTERS, TOST, Arm
from tiltmeter.analysis.verdict_attributes import Judgement
from tiltmeter.messages import Text, join, say
from tiltmeter.schema.verdict import Verdict
from tiltmeter.seeds import seed_for


def arm_changes(
    arms: Sequence[Arm], n_clusters: int, benchmark: str, *, seed: int, draws: int
) -> tuple[ArmChange, ...]:
    """Their paired changes, from the same draws of clusters as the score's own."""
    return tuple(_change(arm, n_clusters, benchmark, seed, draws) for arm in arms)


def _change(arm: Arm, n_clusters: int, benchmark: str, seed: int, draws: int) -> ArmChange:
    constants = (arm.name, arm.role, arm.unit, arm.ideal, arm.margin)
    usable = n_clusters if arm.n_usable is None else arm.n_usable
    if usable < FEWEST_CLUSTERS:
        few = say("missing.few_clusters", n=usable, least=FEWEST_CLUSTERS)
        nothing = Interval(np.nan, np.nan, 0.95, few if usable > 1 else say("missing.two_clusters"))
        return ArmChange(*constants, np.nan, np.nan, np.nan, nothing, nothing, np.nan)
    ones = np.ones((1, n_clusters))
    base, variant = float(arm.statistic(ones, None)[0]), float(arm.statistic(None, ones)[0])
    ((drawn_b, drawn_v),) = bootstrap(
        [arm.statistic], n_clusters, seed=seed_for(seed, "bootstrap", benchmark), draws=draws
    )
    change = percentile_interval(drawn_v - drawn_b, usable)
    p = float(swap_test([arm.statistic], n_clusters, seed=seed_for(seed, "swap", benchmark), draws=draws)[0])
    if arm.ideal == 0:
        middle = percentile_interval((drawn_b + drawn_v) / 2, usable)
        distance = projected(change, middle)
    else:
        distance = Interval(-change.high, -change.low, change.level, change.reason)
    return ArmChange(
        *constants,
        base,
        variant,
        variant - base,
        change,
        distance,
        p,
        limits=percentile_interval(drawn_v - drawn_b, usable, TOST),
        one_flip=float(arm.one_flip),
        hidden=arm.hidden,
    )


def projected(change: Interval, middle: Interval) -> Interval:
    """Change of the distance from an ideal inside the scale, from the intervals of v - b and (v + b)/2 - ideal.

    |mu + d/2| - |mu - d/2| is monotone in d and in mu, so its extremes over the two intervals lie on the corners.
    """
    if not (change.defined and middle.defined):
        return Interval(np.nan, np.nan, 0.95, change.reason or middle.reason)
    corners = [abs(mu + d / 2) - abs(mu - d / 2) for d in (change.low, change.high) for mu in (middle.low, middle.high)]
    return Interval(min(corners), max(corners))


def with_arms(change: Change, judged: Judgement, alpha: float) -> Judgement:
    """A row's judgement once its arms are heard."""
    bias = [arm for arm in change.arms if arm.role == "bias"]
    told = [arm for arm in bias if arm.p_adjusted < alpha and _moved(arm)]
    away = [arm for arm in told if arm.distance_ci.above_zero]
    toward = [arm for arm in told if arm.distance_ci.below_zero and not arm.within]
    shown = [arm for arm in toward if arm.nearer]
    open_ = [arm for arm in bias if not arm.within and arm not in shown]
    lost = [arm for arm in change.arms if arm.role == "skill" and not arm.kept]
    verdict, key = judged.verdict, {True: "arm.lost", False: "arm.not_shown"}
    said: list[Text] = []
    if away:
        verdict, said = Verdict.WORSE, [_sentence("arm.worse", arm) for arm in away]
    elif verdict == Verdict.EQUIVALENT and open_:
        verdict, said = Verdict.INCONCLUSIVE, [_sentence("arm.open", arm) for arm in open_]
    elif verdict == Verdict.BETTER or (verdict == Verdict.EQUIVALENT and shown):
        said = [_sentence("arm.better", arm) for arm in shown]
        against = [_sentence("arm.open", arm) for arm in open_]
        against += [_sentence(key[arm.ci.below_zero], arm) for arm in lost]
        if verdict == Verdict.EQUIVALENT and all(arm.ideal == 0 for arm in shown):
            against += [say("arm.noise_toward")]  # the score did not move, and any noise closes a gap
        verdict, said = (Verdict.INCONCLUSIVE if against else Verdict.BETTER), said + against
    elif verdict in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE):
        said = [_sentence("arm.noisy", arm) for arm in change.arms if arm.role == "noisy" and arm.ci.excludes_zero]
        if change.distance_ci.below_zero and change.p_adjusted < alpha:  # it would have been better
            said += [_sentence(key[True], arm) for arm in lost if arm.ci.below_zero]
    return Judgement(verdict, join("join.sentences", [judged.reason, *said]) if said else judged.reason)


def _moved(arm: ArmChange) -> bool:
    return arm.ci.excludes_zero and arm.distance_ci.excludes_zero


def _sentence(key: str, arm: ArmChange) -> Text:
    return say(
        key,
        name=arm.name,
        base=f"{arm.base:.3g}",
        variant=f"{arm.variant:.3g}",
        low=f"{arm.ci.low:+.3g}",
        high=f"{arm.ci.high:+.3g}",
        margin=f"{arm.margin:g}",
    )
