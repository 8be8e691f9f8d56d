"""The fastest (or smallest) variant whose change stays inside the policy, and the Pareto set.

Only measured figures count: a variant whose speed was simulated or never measured is listed without one and cannot be
the fastest. The Pareto picture sets what is gained (speed or size) against the largest change, in margins: |change|
over the smallest change that matters, of the quantity the verdict rests on, the largest over the variant's rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tiltmeter.decisions.gate import Check, Gate, Row, row_checks
from tiltmeter.decisions.policy import Policy
from tiltmeter.messages import Message, Text, join, say
from tiltmeter.messages import as_json as message_json

By = Literal["speed", "size"]
DEFAULT_POLICY = Policy(default={"allow_partial": True})  # nothing worse; a choice among what was asked so far
SPEED_KEYS = ("decode_tokens_per_s", "decode_tokens_per_second")
SIZE_KEYS = ("memory_bytes", "weight_bytes", "bytes")


@dataclass(frozen=True)
class Candidate:
    """One variant of one model. NaN: not measured here.

    speed: decoded tokens/s over the base's, measured in alternation with it (1 is the base); size: bytes of weights.
    """

    model: str
    strategy: str
    gate: int  # exit code of the gate over this variant alone
    speed: float
    size: float
    largest_change: float  # in margins; NaN when no row has one
    why_not: str  # the first check that does not pass, "" when all do
    pareto: bool = False

    def gain(self, by: By) -> float:
        """Larger is better."""
        return self.speed if by == "speed" else -self.size


@dataclass(frozen=True)
class Choice:
    by: By
    chosen: tuple[Candidate, ...]  # at most one per model
    candidates: tuple[Candidate, ...]
    text: Text


def choose(rows: Sequence[Row], variants: Sequence[Mapping[str, Any]], policy: Policy, by: By = "speed") -> Choice:
    """Judge every variant alone, and pick per model. The base stands among the candidates: it changes nothing."""
    candidates: list[Candidate] = []
    for model in dict.fromkeys(row["model"] for row in rows):
        found = [
            _candidate(model, name, rows, variants, policy)
            for name in dict.fromkeys(r["strategy"] for r in rows if r["model"] == model)
            if name == "none" or not policy.ignores(name)
        ]
        candidates += mark_pareto(found, by)
    chosen, sentences = [], []
    for model in dict.fromkeys(c.model for c in candidates):
        best, sentence = _best([c for c in candidates if c.model == model], by)
        chosen += [best] if best else []
        sentences.append(say("choice.of", model=model, what=sentence))
    return Choice(by, tuple(chosen), tuple(candidates), join("join.sentences", sentences))


def mark_pareto(candidates: Sequence[Candidate], by: By) -> list[Candidate]:
    """Marks the candidates that no other one beats on both gain and largest change (both measured)."""

    def beats(a: Candidate, b: Candidate) -> bool:
        no_worse = a.gain(by) >= b.gain(by) and a.largest_change <= b.largest_change
        return no_worse and (a.gain(by) > b.gain(by) or a.largest_change < b.largest_change)

    measured = [c for c in candidates if math.isfinite(c.gain(by)) and math.isfinite(c.largest_change)]
    best = [c for c in measured if not any(beats(other, c) for other in measured)]
    return [Candidate(**{**c.__dict__, "pareto": c in best}) for c in candidates]


def _candidate(
    model: str, strategy: str, rows: Sequence[Row], variants: Sequence[Mapping[str, Any]], policy: Policy
) -> Candidate:
    mine = [row for row in rows if row["model"] == model and row["strategy"] == strategy]
    facts = next((v for v in variants if v["model"] == model and v["strategy"] == strategy), {})
    measured = facts.get("speed") or {}
    base = next((v.get("speed") or {} for v in variants if v["model"] == model and v["strategy"] == "none"), {})
    speed, size = speed_ratio(base, measured), _first(measured, SIZE_KEYS)
    if strategy == "none":
        return Candidate(model, strategy, 0, speed, size, 0.0, "")
    gate = Gate(
        tuple(check for row in mine for check in row_checks(row, policy))
        + tuple(
            Check(name, "present", "unjudged", "the policy names it, this variant has no row of it")
            for name in policy.benchmarks
            if not any(row["benchmark"] == name for row in mine)
        )
    )
    bad = next(
        (check for check in gate.checks if check.status == "fail"),
        next((check for check in gate.checks if check.status == "unjudged"), None),
    )
    changes = [value for row in mine if math.isfinite(value := in_margins(row))]
    return Candidate(
        model,
        strategy,
        gate.exit_code,
        speed,
        size,
        max(changes, default=math.nan),
        f"{bad.cell}: {bad.message}" if bad else "",
    )


def speed_ratio(base: Mapping[str, Any], variant: Mapping[str, Any]) -> float:
    """Decoding speed over the base's: the ratio of interleaved rounds where they were timed (a machine that slows
    down slows both), else of the two figures; NaN where either was not measured."""
    paired = (variant.get("decode_speedup") or {}).get("median")
    return float(paired) if paired else _first(variant, SPEED_KEYS) / _first(base, SPEED_KEYS)


def in_margins(row: Row) -> float:
    """|change| of what the verdict rests on over its margin; NaN where there is none or the cell was not exercised."""
    change = row.get("change")
    if not change or change["verdict"] in ("not exercised", "no usable signal"):
        return math.nan
    moved = signed_change(change)
    margin = change.get("margin")
    return abs(moved) / margin if margin and math.isfinite(moved) else math.nan


def signed_change(change: Mapping[str, Any]) -> float:
    """Change toward bias (+) or away (-): of the distance from the ideal, or of the square root of the spread."""
    if change.get("rests_on") == "spread":
        spread = (change.get("spreads") or [None])[0]
        if not spread or spread.get("variant") is None or spread.get("base") is None:
            return math.nan
        return float(spread["variant"] - spread["base"])
    value = change.get("distance_delta")
    return math.nan if value is None else float(value)


def _best(candidates: Sequence[Candidate], by: By) -> tuple[Candidate | None, Message]:
    inside = [c for c in candidates if c.gate == 0]
    measured = [c for c in inside if math.isfinite(c.gain(by))]
    if not measured:
        names = [c.strategy for c in inside if c.strategy != "none"]
        return None, say(f"choice.unmeasured.{by}", names=join("join.names", names)) if names else say("choice.none")
    best = max(measured, key=lambda c: (c.gain(by), -c.largest_change))
    figure = say(f"choice.figure.{by}", x=f"{best.speed if by == 'speed' else best.size / 1e6:.3g}")
    if best.strategy == "none":
        return best, say(f"choice.base.{by}", figure=figure)
    return best, say(f"choice.best.{by}", strategy=best.strategy, figure=figure, change=f"{best.largest_change:.2g}")


def _first(facts: Mapping[str, Any], names: Sequence[str]) -> float:
    value = next((facts[name] for name in names if isinstance(facts.get(name), (int, float))), math.nan)
    return float(value)


def as_json(choice: Choice) -> dict[str, Any]:
    return {
        "schema": "tiltmeter/choice/1",
        "by": choice.by,
        "text": str(choice.text),
        "text_message": message_json(choice.text),
        "chosen": [{"model": c.model, "strategy": c.strategy} for c in choice.chosen],
        "candidates": [dict(c.__dict__) for c in choice.candidates],
    }
