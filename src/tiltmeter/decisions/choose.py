"""The fastest (or smallest) variant whose change stays inside the policy, and the Pareto set.

Only measured figures count: a variant whose speed was simulated or never measured is listed without one and cannot be
the fastest. The Pareto picture sets what is gained (speed or size) against the largest change, in margins: |change|
over the smallest change that matters, of the quantity the verdict rests on, the largest over the variant's rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tiltmeter.decisions.controls import controls_of, is_control
from tiltmeter.decisions.gate import Gate, lacking, variant_checks
from tiltmeter.decisions.policy import Policy
from tiltmeter.messages import Message, join, say
from tiltmeter.schema import Change, Choice, Document, Speed
from tiltmeter.schema.place import NONE, is_base
from tiltmeter.schema.results import Candidate, Chosen

By = Literal["speed", "size"]


def gain(candidate: Candidate, by: By) -> float:
    """Larger is better: speed over the base's, or the bytes saved. NaN: not measured here."""
    return candidate.speed if by == "speed" else -candidate.size


def choose(document: Document, policy: Policy, by: By = "speed") -> Choice:
    """Judge every variant by the gate's rules, and pick per model. The base stands among the candidates: it changes
    nothing. Controls are never candidates."""
    candidates: list[Candidate] = []
    for model in dict.fromkeys(model for model, _ in document.asked):
        names = [strategy for where, strategy in document.asked if where == model]
        found = controls_of(document.variants)
        kept = [name for name in names if is_base(name) or not (is_control(name, found) or policy.ignores(name))]
        candidates += mark_pareto([_candidate(document, policy, model, name) for name in kept], by)
    chosen, sentences = [], []
    for model in dict.fromkeys(c.model for c in candidates):
        best, sentence = _best([c for c in candidates if c.model == model], by)
        chosen += [Chosen(model=best.model, strategy=best.strategy)] if best else []
        sentences.append(say("choice.of", model=model, what=sentence))
    text = join("join.sentences", sentences)
    return Choice(by=by, text=text, chosen=tuple(chosen), candidates=tuple(candidates))


def _far(candidate: Candidate) -> Message:
    """The far end of what its intervals leave open, in words."""
    if not math.isfinite(candidate.far):
        return say("choice.far_unknown")
    return say("choice.far", far=f"{max(candidate.far, 0.0):.2g}")


def mark_pareto(candidates: Sequence[Candidate], by: By) -> list[Candidate]:
    """Marks the candidates that no other one beats on both gain and largest change (both measured)."""

    def beats(a: Candidate, b: Candidate) -> bool:
        no_worse = gain(a, by) >= gain(b, by) and a.largest_change <= b.largest_change
        return no_worse and (gain(a, by) > gain(b, by) or a.largest_change < b.largest_change)

    measured = [c for c in candidates if math.isfinite(gain(c, by)) and math.isfinite(c.largest_change)]
    best = [c for c in measured if not any(beats(other, c) for other in measured)]
    return [c.model_copy(update={"pareto": c in best}) for c in candidates]


def _candidate(document: Document, policy: Policy, model: str, strategy: str) -> Candidate:
    """One variant of one model, from its rows and what was measured of it and of its base."""
    facts, base = document.variant(model, strategy), document.variant(model, NONE)
    speed = speed_ratio(base.speed if base else None, facts.speed if facts else None)
    size = float(facts.speed.memory_bytes or math.nan) if facts and facts.speed else math.nan
    found = Candidate(model=model, strategy=strategy, gate=0, speed=speed, size=size, largest_change=0.0, far=0.0)
    if is_base(strategy):
        return found
    gate = Gate((*lacking(document, model, NONE), *variant_checks(document, policy, model, strategy)))
    bad = next((check for check in gate.checks if check.status == "fail"), None)
    bad = bad or next((check for check in gate.checks if check.status == "unjudged"), None)
    rows = [row for row in document.rows if (row.model, row.strategy) == (model, strategy)]
    judged = [row.change for row in rows if row.change and row.change.verdict.judged]
    return found.but(
        gate=gate.exit_code,
        largest_change=max((moved for c in judged if math.isfinite(moved := in_margins(c))), default=math.nan),
        far=max((c.far for c in judged), default=math.nan) if all(math.isfinite(c.far) for c in judged) else math.nan,
        why_not=join("join.colon", [bad.cell, bad.message]) if bad else "",
    )


def speed_ratio(base: Speed | None, variant: Speed | None) -> float:
    """Decoding speed over the base's: the ratio of interleaved rounds where they were timed (a machine that slows
    down slows both), else of the two figures; NaN where either was not measured."""
    if base is None or variant is None:
        return math.nan
    paired = variant.decode_speedup.median if variant.decode_speedup else math.nan
    return paired if math.isfinite(paired) else variant.decode_tokens_per_s / base.decode_tokens_per_s


def in_margins(change: Change) -> float:
    """|change| of what the verdict rests on, over its margin; NaN where it is undefined.

    A score that went from one side of its ideal to the other changed, though its distance may not have.
    """
    moved = change.spread.moved if change.spread else change.delta
    return abs(moved) / change.margin if change.margin > 0 else math.nan


def _best(candidates: Sequence[Candidate], by: By) -> tuple[Candidate | None, Message]:
    inside = [c for c in candidates if c.gate == 0 and math.isfinite(c.largest_change)]
    measured = [c for c in inside if math.isfinite(gain(c, by))]
    if not measured:
        names = [c.strategy for c in inside if not is_base(c.strategy)]
        return None, say(f"choice.unmeasured.{by}", names=join("join.names", names)) if names else say("choice.none")
    best = max(measured, key=lambda c: (gain(c, by), -c.largest_change))
    figure = say(f"choice.figure.{by}", x=f"{best.speed if by == 'speed' else best.size / 1e6:.3g}")
    if is_base(best.strategy):
        return best, say(f"choice.base.{by}", figure=figure)
    return best, say(
        f"choice.best.{by}", strategy=best.strategy, figure=figure, change=f"{best.largest_change:.2g}", far=_far(best)
    )
