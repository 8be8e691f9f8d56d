"""The verdict on a row's attributes: each judged by its movement, the row by the gravest.

An attribute is equivalent when the upper limit of its movement, with every answer that vanished at its worst, lies
inside the margin; an intersection over attributes, so no correction between them. Told from chance (adjusted p), its
movement is worse where a size grew, better where every size shrank from a gap that the base was shown to have, else
shifted. Where outcomes are bare choices nothing is called better: mere noise evens them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltmeter.analysis.change import Change, SlopeChange, SpreadChange
from tiltmeter.analysis.printing import in_unit, number, p_text, signed
from tiltmeter.messages import Text, join, say
from tiltmeter.schema.verdict import Verdict

NAMED_GROUPS = 3  # of those that carry a movement, in the sentence; the rest stands in the table


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    reason: Text


def combined(parts: Sequence[Judgement]) -> Judgement:
    """The gravest of several: worse, shifted, better; equivalent only where all are; else what stays open."""
    for verdict in (Verdict.WORSE, Verdict.SHIFTED, Verdict.BETTER, Verdict.INCONCLUSIVE, Verdict.EQUIVALENT):
        reasons = [part.reason for part in parts if part.verdict == verdict]
        if reasons:
            return Judgement(verdict, reasons[0] if len(reasons) == 1 else join("join.sentences", reasons))
    return Judgement(
        Verdict.INCONCLUSIVE, say("reason.spread_undefined", why=say("undefined.none"), name=say("undefined.spread"))
    )


def judge_attributes(c: Change, alpha: float) -> Judgement:
    """The verdict on the attributes that have a margin."""
    if not c.judged:
        why = c.companion_reason or say("undefined.none")
        return Judgement(Verdict.INCONCLUSIVE, say("reason.spread_undefined", why=why, name=say("undefined.spread")))
    return combined([_judge(s, c, alpha) for s in c.judged])


def _judge(s: SpreadChange, c: Change, alpha: float) -> Judgement:
    name = s.name
    if s.reason:
        return Judgement(Verdict.INCONCLUSIVE, say("reason.spread_undefined", why=s.reason, name=name))
    if s.n_clusters < s.fewest_clusters:
        few = {"name": name, "n": s.n_clusters, "minimum": s.fewest_clusters}
        if s.unturned:
            return Judgement(Verdict.INCONCLUSIVE, say("reason.few_choices_by", **few, needed=s.unturned))
        return Judgement(Verdict.INCONCLUSIVE, say("reason.few_clusters_by", **few))
    sizes = say("moved.spread", base=number(s.d_base), variant=number(s.d_variant), unit=in_unit(s.unit))
    limit = {"name": name, "high": number(s.movement_high), "margin": number(s.margin), "unit": in_unit(s.unit)}
    if s.movement_high + s.hidden <= s.margin:
        detectable = say("detectable.real" if s.p < 0.05 else "detectable.open")
        return Judgement(Verdict.EQUIVALENT, say("reason.moved_little", sizes=sizes, detectable=detectable, **limit))
    if np.isfinite(s.p_adjusted) and s.p_adjusted < alpha:
        if c.slope is not None and (c.slope.fainter or c.slope.sharper) and _beyond(s, c.slope) <= s.margin:
            # what one factor for every decision leaves unexplained is real and too small to matter
            return Judgement(
                Verdict.INCONCLUSIVE, say("reason.spread_open", name=name, moved=sizes, why=say("open.slope"))
            )
        return _told(s, c, name, sizes)
    if s.movement_high <= s.margin:
        return Judgement(Verdict.INCONCLUSIVE, say("reason.vanished", hidden=number(s.hidden), **limit))
    if s.unturned > s.n_clusters:
        why = say("open.unmoved_choices", n=s.n_clusters, margin=number(s.margin), needed=s.unturned)
    elif s.p_movement < 0.05 <= s.p and c.slope is not None:
        why = say("open.slope")
    elif s.p < 0.05:
        why = say("open.adjusted_movement", p=p_text(s.p_adjusted))
    elif np.isfinite(s.mde):
        why = say("open.chance_movement", mde=number(s.mde))
    else:
        why = say("open.chance")
    return Judgement(Verdict.INCONCLUSIVE, say("reason.spread_open", name=name, moved=sizes, why=why))


def _beyond(s: SpreadChange, slope: SlopeChange) -> float:
    """Movement beyond what multiplying every decision by `slope` makes of the base's own differences, in `unit`.

    With v = slope x b + r the movement U(v - b) is (1 - slope)^2 U(b) + U(r), as r is no multiple of b.
    """
    return float(np.sqrt(max(s.movement**2 - ((1 - slope.value) * s.d_base) ** 2, 0.0)))


def _told(s: SpreadChange, c: Change, name: Text, sizes: Text) -> Judgement:
    told = {
        "name": name,
        "sizes": sizes,
        "movement": number(s.movement),
        "unit": in_unit(s.unit),
        "who": _who(s),
        "p": p_text(s.p_adjusted),
    }
    n = len(c.judged)
    if s.larger(n):
        return Judgement(Verdict.WORSE, say("reason.moved_worse", **told))
    if s.smaller(n) and (c.slope is None or s.scale_free_smaller(n)):
        if c.evens_with_noise and _farther_than_even(s):
            return Judgement(Verdict.SHIFTED, say("reason.moved_shifted", **told))
        if not s.smaller_whatever_vanished:
            why = say("open.vanished_better")
            return Judgement(Verdict.INCONCLUSIVE, say("reason.spread_open", name=name, moved=sizes, why=why))
        if c.evens_with_noise:
            why = say("open.evened")
            return Judgement(Verdict.INCONCLUSIVE, say("reason.spread_open", name=name, moved=sizes, why=why))
        if c.accuracy_like and c.ci.above_zero:
            return Judgement(Verdict.SHIFTED, say("reason.levelled", **told))
        return Judgement(Verdict.BETTER, say("reason.moved_better", **told))
    return Judgement(Verdict.SHIFTED, say("reason.moved_shifted", **told))


def _farther_than_even(s: SpreadChange) -> bool:
    """Whether groups moved farther than all the way to none being favoured (the base's own size), which is as far as
    choosing at random takes them; by its lower limit, as far below the movement as the upper one lies above."""
    return 2 * s.movement - s.movement_high > s.d_base


def _who(s: SpreadChange) -> Text:
    """The groups that carry the movement, with their intervals."""
    carriers = s.carriers[:NAMED_GROUPS]
    if not carriers:
        return say("who.nobody")
    listed = [
        say("who.group", group=g.group, change=signed(g.delta), low=signed(g.ci.low), high=signed(g.ci.high))
        for g in carriers
    ]
    more = len(s.carriers) - len(listed)
    return join("join.names", listed + ([say("who.more", n=more)] if more else []))
