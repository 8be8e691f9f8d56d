"""Every variant row against its base row: paired item by item, judged over all rows of the run.

The numbers are `tiltmeter.analysis`'s; here rows are paired, cells that a strategy cannot have touched,
variants whose text degenerated and ready-made checkpoints that were asked something else than their base
are marked, and the JSON form of design section 6 is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

from tiltmeter import schema
from tiltmeter.analysis import judge_all
from tiltmeter.analysis.change import FEWEST_FLIPS, Change, GroupChange, Interval, reach
from tiltmeter.analysis.coherence import unusable
from tiltmeter.analysis.compare import compare, level_interval
from tiltmeter.analysis.signal import without_signal
from tiltmeter.analysis.types import align
from tiltmeter.analysis.verdict import too_few
from tiltmeter.benchmarks.base import Benchmark, Outcome
from tiltmeter.messages import Text, say
from tiltmeter.models.difference import incomparable, same_tokens
from tiltmeter.registry import build
from tiltmeter.results.displacement import displacement
from tiltmeter.schema import Place, Row, Variant
from tiltmeter.schema.change import FlipExample, GroupEffect, GroupMove, Unanswered
from tiltmeter.schema.place import kind_of
from tiltmeter.strategies.chain import parse, without_seed
from tiltmeter.study import Study

FLIP_EXAMPLES = 200  # kept per row, most telling first


class Changes:
    """Collects the rows of a run one by one, with the outcomes they need at that moment, and judges them together.

    variants: the variants' stored facts (text quality, proof).
    """

    def __init__(self, variants: Sequence[Variant], study: Study) -> None:
        self._study = study
        self._variants = {(variant.model, variant.strategy): variant for variant in variants}
        self._level: dict[Place, tuple[float, float] | None] = {}
        self._found: dict[Place, tuple[judge_all.Row, dict[str, float]]] = {}

    def add(self, row: Row, outcomes: Sequence[Outcome], base: Sequence[Outcome] | None) -> None:
        """Measure the row's own interval and its change from `base`; None where it has none.

        Both sequences hold the robustness variations too. Nothing of them is kept.
        """
        benchmark, place = build("benchmark", row.benchmark), row.place
        self._level[place] = _level(benchmark, protocol(outcomes), self._study)
        if base is None:
            return
        before, after = (self._quality(place.model, which) for which in (place.base.strategy, place.strategy))
        facts = self._variants.get((place.model, place.strategy))
        proof = facts.proof.as_stored() if facts else {}
        differs = incomparable(proof, place.benchmark, benchmark.request_kind, place.format)
        if not same_tokens(proof):
            after = {**after, "perplexity": None}
        silent = no_signal(base, place.format)
        found = judge_all.Row(
            model=place.model,
            strategy=place.strategy,
            format=place.format,
            decoding=place.decoding,
            benchmark=place.benchmark,
            change=paired_change(benchmark, protocol(base), protocol(outcomes), self._study),
            not_exercised=not_exercised(place.strategy, benchmark),
            unusable=differs
            or (say("signal.of_base", why=silent) if silent else None)
            or _nothing(row, outcomes)
            or unusable(before, after, place.benchmark, place.format, place.decoding),
            other_engine=bool(proof.get("control")),
            hypothesis=without_seed(place.strategy),
            **noise_of(place.strategy),
        )
        variations = dict.fromkeys(o.variation for o in outcomes if o.variation)
        beside = {f"robust:{v}": _score_change(benchmark, base, outcomes, v) for v in variations}
        if facts and facts.fidelity:
            beside |= displacement(facts.fidelity.on(place), benchmark, protocol(base), protocol(outcomes))
        self._found[place] = found, beside

    def _quality(self, model: str, strategy: str) -> dict[str, object]:
        facts = self._variants.get((model, strategy))
        return facts.text_quality.as_json() if facts and facts.text_quality else {}

    def settle(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with their intervals, and what was added judged: with their change and the groups' changes."""
        places = [row.place for row in rows if row.place in self._found]
        judged = judge_all.settle([self._found[place][0] for place in places], method=self._study.correction)
        changes = dict(zip(places, judged, strict=True))
        return [self._filled(row, changes.get(row.place)) for row in rows]

    def _filled(self, row: Row, change: Change | None) -> Row:
        update: dict[str, object] = {"ci": self._level.get(row.place)}
        if change is not None:
            update["change"] = stored_change(change, self._found[row.place][1])
            update["groups"] = with_groups(row.groups, change)
        return row.model_copy(update=update)


def no_signal(outcomes: Sequence[Outcome], text_format: str) -> Text | None:
    """Why the answers behind one row carry no signal; None where they do."""
    return without_signal([sample for outcome in protocol(outcomes) for sample in outcome.samples], text_format)


def _nothing(row: Row, outcomes: Sequence[Outcome]) -> Text | None:
    """Why none of a variant's items has a score (a server that gives none, say), in place of what follows from it."""
    nothing = all(math.isnan(outcome.score) for outcome in protocol(outcomes))
    return row.reasons[0][0] if nothing and row.unscored else None


def protocol(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes the published score is made of."""
    return [outcome for outcome in outcomes if not outcome.variation]


def paired_change(benchmark: Benchmark, base: Sequence[Outcome], variant: Sequence[Outcome], study: Study) -> Change:
    """Align by item id and compare. Items that only one model has are counted in `missing`."""
    in_base, in_variant, missing = align(tuple(o.item for o in base), tuple(o.item for o in variant))
    margin = study.margins.get(benchmark.name, benchmark.margin)
    comparison = benchmark.comparison([base[i] for i in in_base], [variant[i] for i in in_variant], margin=margin)
    return compare(replace(comparison, missing=comparison.missing + missing), seed=study.seed, draws=study.draws)


def not_exercised(strategy: str, benchmark: Benchmark) -> Text | None:
    """Why the strategy cannot have acted on this benchmark's requests; None when it can."""
    if kind_of(strategy) == "checkpoint":
        return None
    return parse(strategy).not_exercised(benchmark.request_kind)


class Noise(TypedDict, total=False):
    """Those fields of a row that say which noise it measures."""

    repeats: str | None
    stands_in: bool


def noise_of(strategy: str) -> Noise:
    """Which noise a row under a canonical strategy measures."""
    if kind_of(strategy) == "checkpoint":
        return {}
    chain = parse(strategy)
    return {"repeats": chain.base_of, "stands_in": chain.is_dtype_alone}


def _level(benchmark: Benchmark, outcomes: Sequence[Outcome], study: Study) -> tuple[float, float] | None:
    """95 % interval of one model's own score; None where no valid one exists."""
    found = level_interval(
        benchmark.comparison(outcomes, outcomes, margin=benchmark.margin), seed=study.seed, draws=study.draws
    )
    return ends(found)


def _score_change(benchmark: Benchmark, base: Sequence[Outcome], variant: Sequence[Outcome], name: str) -> float:
    """Change of the score under one robustness variation."""
    before, after = ([o for o in outcomes if o.variation == name] for outcomes in (base, variant))
    return benchmark.score(after).value - benchmark.score(before).value if before and after else math.nan


def ends(interval: Interval) -> tuple[float, float] | None:
    return (interval.low, interval.high) if interval.defined else None


def stored_change(change: Change, robust: Mapping[str, float]) -> schema.Change:
    """A change as it is stored; `robust`: the change of the score under other ways of asking."""
    companion, flips, unanswered = change.companion, change.flips, change.unanswered
    return schema.Change(
        delta=change.delta,
        ci=ends(change.ci),
        distance_delta=change.distance_delta,
        distance_ci=ends(change.distance_ci),
        companion=companion.name if companion else None,
        companion_delta=companion.delta if companion else math.nan,
        companion_ci=ends(companion.ci) if companion else None,
        p=change.p,
        p_adjusted=change.p_adjusted,
        margin=change.margin,
        mde=change.mde,
        noise=change.noise,
        engine_noise=change.engine_noise,
        n_paired=change.n_paired,
        verdict=schema.Verdict(change.verdict),
        reason=change.reason,
        flips=None
        if flips is None
        else schema.Flips(
            n=flips.n,
            of=flips.of,
            toward_bias=flips.toward_bias,
            away_from_bias=flips.away_from_bias,
            unscored=flips.unscored,
            by_uncertainty=tuple(flips.rate_by_uncertainty),
        ),
        base=change.base,
        variant=change.variant,
        far=far_end(change),
        rests_on="score" if change.rests_on == "score" else "spread",
        slope=change.slope.value if change.slope else math.nan,
        slope_ci=ends(change.slope.ci) if change.slope else None,
        ci_reason=change.ci.reason,
        p_score=change.p_score,
        mcnemar_p=change.mcnemar_p,
        only_base=change.only_base,
        only_variant=change.only_variant,
        missing=change.missing,
        spreads=_spreads(change),
        arms=tuple(
            schema.Arm(
                name=arm.name,
                role=arm.role,
                unit=arm.unit,
                ideal=arm.ideal,
                base=arm.base,
                variant=arm.variant,
                delta=arm.delta,
                ci=ends(arm.ci),
                p=arm.p,
                p_adjusted=arm.p_adjusted,
                margin=arm.margin,
            )
            for arm in change.arms
        ),
        largest_rise=_group(change.largest(+1)),
        largest_fall=_group(change.largest(-1)),
        unanswered=None
        if unanswered is None
        else Unanswered(
            base=unanswered.base,
            variant=unanswered.variant,
            delta=unanswered.delta,
            ci=ends(unanswered.ci),
            p=unanswered.p,
            score_bounds=unanswered.score_bounds,
            p_adjusted=unanswered.p_adjusted,
            verdict=unanswered.verdict,
            far=far_end(unanswered),
            verdict_reason=unanswered.reason,
            spreads=_spreads(unanswered),
        ),
        flip_examples=()
        if flips is None
        else tuple(FlipExample(**flip.__dict__) for flip in flips.examples[:FLIP_EXAMPLES]),
        extra={**change.extra, **robust},
    )


def _spreads(change: Change) -> tuple[schema.Spread, ...]:
    """What happened to each attribute."""
    return tuple(
        schema.Spread(
            name=s.name,
            unit=s.unit,
            base=s.d_base,
            variant=s.d_variant,
            delta=s.delta,
            ci=ends(s.ci),
            p=s.p,
            mde=s.mde,
            margin=s.margin,
            reason=s.reason,
            attribute=s.attribute,
            movement=s.movement,
            movement_high=s.movement_high,
            hidden=s.hidden,
            p_movement=s.p_movement,
            p_adjusted=s.p_adjusted,
            p_size=s.p_size,
            base_low=s.base_low,
            scale_free=s.scale_free_variant,
            scale_free_delta=s.scale_free_delta,
            scale_free_ci=ends(s.scale_free_ci),
            n_clusters=s.n_clusters,
            groups=tuple(
                GroupEffect(group=g.group, base=g.base, delta=g.delta, ci=ends(g.ci), p_adjusted=g.p_adjusted)
                for g in s.groups
            ),
        )
        for s in change.spreads
    )


def far_end(change: Change) -> float:
    """The most harm that the intervals leave open, in margins; NaN where something is not bounded.

    Of a score: how much farther from its ideal it may have gone; of single choices as many flips wide as for
    equivalence (a run too small to show a flip excludes none), and with the answers that vanished at their worst; of
    what decides beside it (arms of the same bias) likewise. Of attributes: how far any of them may have moved,
    whomever it favours. Too few items or clusters for a verdict bound nothing.
    """
    if too_few(change):
        return math.nan
    far = [arm.far / arm.margin for arm in change.arms if arm.role == "bias"]
    if change.rests_on != "spread":
        half = max(change.distance_ci.high - change.distance_delta, FEWEST_FLIPS * change.one_flip) + change.rare
        high = change.distance_delta + reach(half, max(map(abs, change.hidden)), change.one_flip)
        far += [high / change.margin if change.distance_ci.defined else math.nan]
    if change.rests_on != "score":
        far += [
            math.nan if s.reason or s.n_clusters < s.fewest_clusters else (s.movement_high + s.hidden) / s.margin
            for s in change.judged
        ] or [math.nan]
    return max(far) if all(map(math.isfinite, far)) else math.nan


def _group(moved: GroupChange | None) -> GroupMove | None:
    """A group's change; None where no group is told from chance."""
    if moved is None:
        return None
    return GroupMove(attribute=moved.attribute, group=moved.group, delta=moved.delta, ci=ends(moved.ci))


def with_groups(listed: Sequence[schema.Group], change: Change) -> tuple[schema.Group, ...]:
    """The groups the score listed, with their paired changes; groups that only the change knows come after them."""
    found = {(group.attribute, group.group): group for group in listed}
    for moved in change.groups:
        group = found.get((moved.attribute, moved.group)) or schema.Group(
            attribute=moved.attribute, group=moved.group, score=moved.variant, n=moved.n
        )
        found[moved.attribute, moved.group] = group.model_copy(
            update={"delta": moved.delta, "ci": ends(moved.ci), "p": moved.p, "p_adjusted": moved.p_adjusted}
        )
    return tuple(found.values())
