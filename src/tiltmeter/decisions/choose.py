"""The fastest (or smallest) variant whose change stays inside the policy, and the Pareto set.

Only measured figures count: a variant whose speed was simulated or never measured is listed without one and cannot be
the fastest. The Pareto picture sets what is gained (speed or size) against the largest change, in margins: |change|
over the smallest change that matters, of the quantity the verdict rests on, the largest over the variant's rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tiltmeter.decisions.controls import is_control
from tiltmeter.decisions.gate import Check, Gate, row_checks
from tiltmeter.decisions.policy import Policy
from tiltmeter.messages import Message, join, say
from tiltmeter.schema import Choice, Row, Speed, Variant
from tiltmeter.schema.results import Candidate, Chosen

By = Literal["speed", "size"]
DEFAULT_POLICY = Policy(default={"allow_partial": True})  # nothing worse; a choice among what was asked so far


def gain(candidate: Candidate, by: By) -> float:
    """Larger is better: speed over the base's, or the bytes saved. NaN: not measured here."""
    return candidate.speed if by == "speed" else -candidate.size


def choose(rows: Sequence[Row], variants: Sequence[Variant], policy: Policy, by: By = "speed") -> Choice:
    """Judge every variant alone, and pick per model. The base stands among the candidates: it changes nothing."""
    candidates: list[Candidate] = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        facts = {variant.strategy: variant for variant in variants if variant.model == model}
        found = [
            _candidate([row for row in mine if row.strategy == name], facts.get(name), facts.get("none"), policy)
            for name in dict.fromkeys(row.strategy for row in mine)
            if name == "none" or not (is_control(name) or policy.ignores(name))
        ]
        candidates += mark_pareto(found, by)
    chosen, sentences = [], []
    for model in dict.fromkeys(c.model for c in candidates):
        best, sentence = _best([c for c in candidates if c.model == model], by)
        chosen += [Chosen(model=best.model, strategy=best.strategy)] if best else []
        sentences.append(say("choice.of", model=model, what=sentence))
    text = join("join.sentences", sentences)
    return Choice(by=by, text=text, chosen=tuple(chosen), candidates=tuple(candidates))


def mark_pareto(candidates: Sequence[Candidate], by: By) -> list[Candidate]:
    """Marks the candidates that no other one beats on both gain and largest change (both measured)."""

    def beats(a: Candidate, b: Candidate) -> bool:
        no_worse = gain(a, by) >= gain(b, by) and a.largest_change <= b.largest_change
        return no_worse and (gain(a, by) > gain(b, by) or a.largest_change < b.largest_change)

    measured = [c for c in candidates if math.isfinite(gain(c, by)) and math.isfinite(c.largest_change)]
    best = [c for c in measured if not any(beats(other, c) for other in measured)]
    return [c.model_copy(update={"pareto": c in best}) for c in candidates]


def _candidate(rows: Sequence[Row], facts: Variant | None, base: Variant | None, policy: Policy) -> Candidate:
    """One variant of one model, from its rows and what was measured of it and of its base."""
    model, strategy = rows[0].model, rows[0].strategy
    speed = speed_ratio(base.speed if base else None, facts.speed if facts else None)
    size = float(facts.speed.memory_bytes or math.nan) if facts and facts.speed else math.nan
    if rows[0].place.is_base:
        return Candidate(model=model, strategy=strategy, gate=0, speed=speed, size=size, largest_change=0.0)
    gate = Gate(
        tuple(check for row in rows for check in row_checks(row, policy))
        + tuple(
            Check(name, "present", "unjudged", "the policy names it, this variant has no row of it")
            for name in policy.benchmarks
            if not any(row.benchmark == name for row in rows)
        )
    )
    bad = next(
        (check for check in gate.checks if check.status == "fail"),
        next((check for check in gate.checks if check.status == "unjudged"), None),
    )
    return Candidate(
        model=model,
        strategy=strategy,
        gate=gate.exit_code,
        speed=speed,
        size=size,
        largest_change=max((value for row in rows if math.isfinite(value := in_margins(row))), default=math.nan),
        why_not=f"{bad.cell}: {bad.message}" if bad else "",
    )


def speed_ratio(base: Speed | None, variant: Speed | None) -> float:
    """Decoding speed over the base's: the ratio of interleaved rounds where they were timed (a machine that slows
    down slows both), else of the two figures; NaN where either was not measured."""
    if base is None or variant is None:
        return math.nan
    paired = variant.decode_speedup.median if variant.decode_speedup else math.nan
    return paired if math.isfinite(paired) else variant.decode_tokens_per_s / base.decode_tokens_per_s


def in_margins(row: Row) -> float:
    """|change| of what the verdict rests on over its margin; NaN where there is none or the cell was not exercised."""
    change = row.change
    if change is None or not change.verdict.judged:
        return math.nan
    return abs(change.toward_bias) / change.margin if change.margin > 0 else math.nan


def _best(candidates: Sequence[Candidate], by: By) -> tuple[Candidate | None, Message]:
    inside = [c for c in candidates if c.gate == 0]
    measured = [c for c in inside if math.isfinite(gain(c, by))]
    if not measured:
        names = [c.strategy for c in inside if c.strategy != "none"]
        return None, say(f"choice.unmeasured.{by}", names=join("join.names", names)) if names else say("choice.none")
    best = max(measured, key=lambda c: (gain(c, by), -c.largest_change))
    figure = say(f"choice.figure.{by}", x=f"{best.speed if by == 'speed' else best.size / 1e6:.3g}")
    if best.strategy == "none":
        return best, say(f"choice.base.{by}", figure=figure)
    return best, say(f"choice.best.{by}", strategy=best.strategy, figure=figure, change=f"{best.largest_change:.2g}")
