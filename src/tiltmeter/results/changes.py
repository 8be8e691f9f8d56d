"""Every variant row against its base row: paired item by item, judged over all rows of the run.

The numbers are `tiltmeter.analysis`'s; here rows are paired, cells that a strategy cannot have touched,
variants whose text degenerated and ready-made checkpoints that were asked something else than their base
are marked, and the JSON form of design section 6 is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiltmeter.analysis.coherence import unusable
from tiltmeter.analysis.compare import compare, level_interval
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.types import Change, GroupChange, Interval, align
from tiltmeter.benchmarks.base import Benchmark, Outcome
from tiltmeter.messages import Text, spoken
from tiltmeter.messages import as_json as stored
from tiltmeter.models.difference import incomparable, same_tokens
from tiltmeter.registry import build
from tiltmeter.study import CHECKPOINT, Study, VariantSpec

RowKey = tuple[str, str, str, str, str]  # model, strategy, format, decoding, benchmark
FLIP_EXAMPLES = 200  # kept per row, most telling first


class Changes:
    """Collects the rows of a run one by one, with the outcomes they need at that moment, and judges them together.

    variants: the variants' stored facts (text quality, proof).
    """

    def __init__(self, variants: Sequence[Mapping[str, Any]], study: Study) -> None:
        self._study = study
        self._quality = {(v["model"], v["strategy"]): v.get("text_quality", {}) for v in variants}
        self._proof = {(v["model"], v["strategy"]): v.get("proof", {}) for v in variants}
        self._found: dict[RowKey, tuple[Row, dict[str, float]]] = {}

    def add(self, row: dict[str, Any], outcomes: Sequence[Outcome], base: Sequence[Outcome] | None) -> None:
        """Fill the row's own interval and measure its change from `base`; None where it has none.

        Both sequences hold the robustness variations too. Nothing of them is kept.
        """
        benchmark = build("benchmark", row["benchmark"])
        row["ci"] = _level(benchmark, protocol(outcomes), self._study)
        if base is None:
            return
        key = model, strategy, cell_format, decoding, name = key_of(row)
        before, after = (self._quality.get((model, which), {}) for which in ("none", strategy))
        proof = self._proof.get((model, strategy), {})
        differs = incomparable(proof, name, cell_format)
        if not same_tokens(proof):
            after = {**after, "perplexity": None}
        found = Row(
            model=model,
            strategy=strategy,
            format=cell_format,
            decoding=decoding,
            benchmark=name,
            change=paired_change(benchmark, protocol(base), protocol(outcomes), self._study),
            not_exercised=not_exercised(strategy, benchmark),
            unusable=differs or unusable(before, after, name, cell_format, decoding),
            hypothesis=without_seed(strategy),
        )
        variations = dict.fromkeys(o.variation for o in outcomes if o.variation)
        self._found[key] = found, {f"robust:{v}": _score_change(benchmark, base, outcomes, v) for v in variations}

    def settle(self, rows: Sequence[dict[str, Any]]) -> list[Change]:
        """Judge what was added, in the order of `rows`; fill their `change` and the groups' changes, in place."""
        judged = [(row, *self._found[key]) for row in rows if (key := key_of(row)) in self._found]
        settled = settle([found for _, found, _ in judged], method=self._study.correction)
        for (row, _, moved), change in zip(judged, settled, strict=True):
            row["change"] = as_json(change, moved)
            _fill_groups(row, change)
        return settled


def key_of(row: Mapping[str, Any]) -> RowKey:
    return (row["model"], row["strategy"], row["format"], row["decoding"], row["benchmark"])


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
    if strategy.startswith(CHECKPOINT):
        return None
    return VariantSpec(model="", strategy=strategy, source="").chain.not_exercised(benchmark.request_kind)


def without_seed(strategy: str) -> str:
    """The strategy with its calibration seeds at their defaults: replicates share one hypothesis."""
    if strategy.startswith(CHECKPOINT):
        return strategy
    chain = VariantSpec(model="", strategy=strategy, source="").chain
    defaults = {f.name: f.default for part in chain.parts for f in part.__dataclass_fields__.values()}
    parts = tuple(replace(part, seed=defaults["seed"]) if hasattr(part, "seed") else part for part in chain.parts)  # type: ignore[call-arg]
    return replace(chain, parts=parts).canonical


def _level(benchmark: Benchmark, outcomes: Sequence[Outcome], study: Study) -> list[float] | None:
    """95 % interval of one model's own score; None where no valid one exists."""
    found = level_interval(
        benchmark.comparison(outcomes, outcomes, margin=benchmark.margin), seed=study.seed, draws=study.draws
    )
    return ends(found)


def _score_change(benchmark: Benchmark, base: Sequence[Outcome], variant: Sequence[Outcome], name: str) -> float:
    """Change of the score under one robustness variation."""
    before, after = ([o for o in outcomes if o.variation == name] for outcomes in (base, variant))
    return benchmark.score(after).value - benchmark.score(before).value if before and after else math.nan


def ends(interval: Interval) -> list[float] | None:
    return [interval.low, interval.high] if interval.defined else None


def as_json(change: Change, robust: Mapping[str, float]) -> dict[str, Any]:
    """A change in the form of design section 6; further keys come after the named ones."""
    companion = change.companion
    flips = change.flips
    return spoken(
        {  # type: ignore[no-any-return]
            "delta": change.delta,
            "ci": ends(change.ci),
            "distance_delta": change.distance_delta,
            "distance_ci": ends(change.distance_ci),
            "companion": stored(companion.name) if companion else None,
            "companion_delta": companion.delta if companion else None,
            "companion_ci": ends(companion.ci) if companion else None,
            "p": change.p,
            "p_adjusted": change.p_adjusted,
            "margin": change.margin,
            "mde": change.mde,
            "noise": change.noise,
            "n_paired": change.n_paired,
            "verdict": change.verdict,
            "reason": stored(change.reason),
            "flips": None
            if flips is None
            else {
                "n": flips.n,
                "of": flips.of,
                "toward_bias": flips.toward_bias,
                "away_from_bias": flips.away_from_bias,
                "unscored": flips.unscored,
                "by_uncertainty": list(flips.rate_by_uncertainty),
            },
            "base": change.base,
            "variant": change.variant,
            "rests_on": change.rests_on,
            "ci_reason": stored(change.ci.reason),
            "p_score": change.p_score,
            "mcnemar_p": change.mcnemar_p,
            "only_base": change.only_base,
            "only_variant": change.only_variant,
            "missing": change.missing,
            "spreads": [
                {
                    "name": stored(s.name),
                    "unit": s.unit,
                    "base": s.d_base,
                    "variant": s.d_variant,
                    "delta": s.delta,
                    "ci": ends(s.ci),
                    "p": s.p,
                    "mde": s.mde,
                    "margin": s.margin,
                    "reason": stored(s.reason),
                }
                for s in change.spreads
            ],
            "largest_rise": _group(change.largest(+1)),
            "largest_fall": _group(change.largest(-1)),
            "unanswered": None
            if change.unanswered is None
            else {
                "base": change.unanswered.base,
                "variant": change.unanswered.variant,
                "delta": change.unanswered.delta,
                "ci": ends(change.unanswered.ci),
                "p": change.unanswered.p,
                "score_bounds": list(change.unanswered.score_bounds),
            },
            "flip_examples": [] if flips is None else [flip.__dict__ for flip in flips.examples[:FLIP_EXAMPLES]],
            "extra": {**change.extra, **robust},
        }
    )


def _group(moved: GroupChange | None) -> dict[str, Any] | None:
    """A group's change in JSON form; None where no group is told from chance."""
    if moved is None:
        return None
    return {"attribute": moved.attribute, "group": moved.group, "delta": moved.delta, "ci": ends(moved.ci)}


def _fill_groups(row: dict[str, Any], change: Change) -> None:
    """The groups' paired changes, added to the groups the score listed."""
    listed = {(group["attribute"], group["group"]): group for group in row["groups"]}
    for moved in change.groups:
        place = listed.get((moved.attribute, moved.group))
        if place is None:
            place = {"attribute": moved.attribute, "group": moved.group, "score": moved.variant, "n": moved.n}
            row["groups"].append(place)
        place.update(delta=moved.delta, ci=ends(moved.ci), p=moved.p, p_adjusted=moved.p_adjusted)
