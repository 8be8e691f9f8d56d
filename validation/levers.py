"""What makes fewer rows `inconclusive` at unchanged margins, lever by lever; and what max-T would buy over Holm.

A lever is kept only where, at a true change of exactly the margin, no more than 5 % are called equivalent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from tiltmeter.analysis.change import Change
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.designs import Grouping, agreement, choices, preferences
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.types import Array, Comparison
from tiltmeter.schema.verdict import Verdict
from tiltmeter.seeds import seed_for
from validation.populations import OF, Scenario, readings

DRAWS = 400
Draw = Callable[[np.random.Generator, bool], Comparison]  # (rng, whether the change is as large as the margin)
Reading = Callable[[Change, Comparison], bool]  # whether it is called equivalent


@dataclass(frozen=True)
class Lever:
    benchmark: str
    situation: str  # nothing changed, in the columns of what is left open
    lever: str
    draw: Draw
    reading: Reading
    kept: str  # "is the rule", "was the rule", "on request", "not kept: why"


def levers(replicates: int) -> list[tuple[str, str, str, float, float, str]]:
    """(benchmark, situation, lever, share left open where nothing changed, share falsely equivalent, kept)."""
    rows = []
    for name, group in _grouped(list(_levers())):
        found = {lever: [0, 0] for lever in group}
        for at_margin in (False, True):
            for replicate in range(replicates):
                rng = np.random.default_rng(seed_for("levers", name, at_margin, replicate))
                comparison = group[0].draw(rng, at_margin)
                change = compare(comparison, seed=replicate % 4, draws=DRAWS)
                for lever in group:
                    found[lever][at_margin] += lever.reading(change, comparison)
        for lever, (null, margin) in found.items():
            open_, false = 1 - null / replicates, margin / replicates
            rows.append((lever.benchmark, lever.situation, lever.lever, open_, false, lever.kept))
    return rows


def _grouped(all_levers: list[Lever]) -> Iterator[tuple[str, list[Lever]]]:
    """Levers that read the same data, together."""
    draws = dict.fromkeys(lever.draw for lever in all_levers)
    for place, draw in enumerate(draws):
        group = [lever for lever in all_levers if lever.draw is draw]
        yield f"{group[0].benchmark} {group[0].situation} {place}", group


def _levers() -> Iterator[Lever]:
    for noise in (0.2, 0.25, 0.5):
        flips = 100 * np.arctan(noise) / np.pi
        where = f"{flips:.0f} % of the decisions turn"
        shifted, near = (_crows(noise, shape) for shape in ("shift", "near"))
        yield Lever("crows-pairs", where, "both ends of the 95 % interval", shifted, _two_sided, "was the rule")
        yield Lever("crows-pairs", where, "one-sided limits of 5 %", shifted, _now, "is the rule")
        yield Lever("crows-pairs", where, "log-ratios; all pairs move alike", shifted, _smoothed, "see the next line")
        why = "not kept: blind to pairs that tip near undecided"
        yield Lever("crows-pairs", where, "log-ratios; only pairs near undecided move", near, _smoothed, why)
    for base, about in ((-1.7, "12 %"), (-0.35, "40 %")):
        greedy = _dt(base, None)
        where = f"base about {about}"
        yield Lever("dt-stereotyping", where, "both ends of the 95 % interval", greedy, _two_sided, "was the rule")
        yield Lever("dt-stereotyping", where, "one-sided limits of 5 %", greedy, _now, "is the rule")
        for samples in (5, 25):
            drawn = _dt(base, samples)
            yield Lever("dt-stereotyping", where, f"{samples} sampled answers a prompt", drawn, _now, "on request")
        why = "cannot be had: phrase lists read a text of 150 tokens, no one token"
        yield Lever("dt-stereotyping", where, "probabilities (endless samples)", _dt(base, 0), _now, why)
    asked = "on request (`--orders all`)"
    for base, about in ((0.0, "even choices"), (0.8, "concentrated choices")):
        for orders, samples, lever, kept in (
            (1, 0, "one order of the three people, greedy", "is the rule"),
            (6, 0, "all six orders, greedy", asked),
            (1, 25, "one order, 25 sampled answers", "on request"),
            (6, 5, "all six orders, 5 sampled answers each", asked),
            (6, 25, "all six orders, 25 sampled answers each", asked),
        ):
            yield Lever("discrim-eval-gen", about, lever, _gen(base, orders, samples), _now, kept)


def _now(change: Change, comparison: Comparison) -> bool:
    return settle([Row("m", "s", "plain", "greedy", comparison.benchmark, change)])[0].verdict == Verdict.EQUIVALENT


def _two_sided(change: Change, comparison: Comparison) -> bool:
    return _now(replace(change, limits=change.ci), comparison)


def _smoothed(change: Change, comparison: Comparison) -> bool:
    """Every pair counted by Phi(log-ratio / half a standard deviation) instead of by its sign, where both agree.

    Limits are divided by what such a count keeps of an outright turn, and widened by 3 / n for what is too rare.
    """
    if _now(change, comparison):
        return True
    assert comparison.ratios is not None
    b, v = comparison.ratios
    before, after = (norm.cdf(x / (0.5 * np.median(np.abs(x - np.median(x))) / 0.6745)) for x in (b, v))
    moved, turned = after - before, (v > 0).astype(float) - (b > 0)
    errors = [float(x.std(ddof=1)) / len(b) ** 0.5 for x in (moved, turned - moved)]
    if abs(float((turned - moved).mean())) > 1.96 * errors[1] or abs(change.delta) > comparison.margin:
        return False
    half = 1.645 * errors[0] + 3 / len(b)
    ends = 100 * (float(moved.mean()) + half * np.array([-1, 1])) / float(np.mean(np.abs(2 * before - 1)))
    return bool(np.abs(ends).max() <= comparison.margin)


def _crows(noise: float, shape: str) -> Draw:
    """1,508 log-ratios N(0, 1); at the margin 2 points more lie above 0: all moved alike, or those within .4 of it."""
    sd = float(np.sqrt(1 + noise**2))
    alike = float(norm.ppf(0.52)) * sd
    tipped = 0.02 / (0.5 - norm.cdf(-0.4 / sd))

    def draw(rng: np.random.Generator, at_margin: bool) -> Comparison:
        b = rng.standard_normal(1508)
        v = b + noise * rng.standard_normal(1508)
        if at_margin and shape == "shift":
            v = v + alike
        elif at_margin:
            v = np.where((v < 0) & (v > -0.4) & (rng.random(1508) < tipped), -v, v)
        decisions = ((x > 0).astype(float) for x in (b, v))
        return preferences(OF["crows-pairs"], *decisions, margin=2.0, ratios=(b, v))

    return draw


def _dt(base: float, samples: int | None) -> Draw:
    """Exchangeable, noise .2 on both; None: greedy answers, 0: the probabilities themselves.

    The topics and groups are drawn anew for each pair of models; at the margin two points more of *these* prompts agree
    in expectation.
    """

    def agrees(x: Array) -> Array:
        return (x > 0).astype(float) if samples is None else 1 / (1 + np.exp(-1.7 * x))

    def expected(x: Array) -> float:
        """Mean of `agrees` over the prompts and the noise."""
        if samples is None:
            return float(norm.cdf(x / 0.2).mean())
        return float(np.mean([agrees(x + 0.2 * z).mean() for z in norm.ppf((np.arange(15) + 0.5) / 15)]))

    def draw(rng: np.random.Generator, at_margin: bool) -> Comparison:
        scenario = Scenario("", 0.2, "N0", base=base)
        group, topic = np.repeat(np.arange(24), 48), np.tile(np.repeat(np.arange(16), 3), 24)
        tendency = base + 0.7 * rng.standard_normal(24)[group] + 0.7 * rng.standard_normal(16)[topic]
        tendency = tendency + 0.4 * rng.standard_normal((24, 16))[group, topic] + rng.standard_normal(1152)
        b, v = readings(rng, tendency, scenario)
        if at_margin:
            v = v + brentq(lambda e: expected(tendency + e) - expected(tendency) - 0.02, 0, 3)
        p = [agrees(x) for x in (b, v)]
        if samples:
            p = [(rng.random((len(x), samples)) < x[:, None]).astype(float) for x in p]
        names = (tuple(map(str, range(24))), tuple(map(str, range(16))))
        groupings = (Grouping("target_group", group, names[0]), Grouping("topic", topic, names[1]))
        return replace(agreement(OF["dt-stereotyping"], *p, *groupings, margin=2.0), groups=())

    return draw


def _gen(base: float, orders: int, samples: int) -> Draw:
    """70 questions; noise .2 on every prompt of both; half of what a question prefers depends on the order.

    samples: 0, the preferred person; else so many drawn with the probabilities exp(preference / .5). At the margin one
    question in 17 turns from the first group to the second, in every order and sample.
    """

    def draw(rng: np.random.Generator, at_margin: bool) -> Comparison:
        lean = base * np.array([1.0, 0.0, -1.0])
        own = rng.standard_normal((70, 1, 3)) + rng.standard_normal((70, orders, 3))
        sides = readings(rng, lean + np.sqrt(0.5) * own, Scenario("", 0.2, "N0"))
        if samples:
            sides = tuple(np.repeat(x, samples, axis=1) for x in sides)
            sides = tuple(x + 0.5 * rng.gumbel(size=x.shape) for x in sides)
        b, v = (x.argmax(axis=2) for x in sides)
        if at_margin:
            turned = (rng.random((70, 1)) < 0.10 / np.sqrt(3)).astype(np.intp)
            b, v = np.zeros_like(b), np.repeat(turned, b.shape[1], axis=1)
        comparison = choices(OF["discrim-eval-gen"], b, v, ("a", "b", "c"), "gender", margin=0.1)
        return replace(comparison, groups=())

    return draw


def needed() -> list[tuple[float, int]]:
    """(share of decisions that turn, items for 85 % `equivalent` where nothing changed), margin 2 points.

    A count of independent decisions of which a share f turns is known to sqrt(f / n); both one-sided limits lie inside
    the margin in 85 % when (1.645 + 1.440) sqrt(f / n) = .02. No unbiased estimate from decisions alone does better.
    """
    return [(f, int(np.ceil(f * ((norm.ppf(0.95) + norm.ppf(0.925)) / 0.02) ** 2))) for f in (0.04, 0.06, 0.08, 0.15)]


def max_t(runs: int = 4_000, shuffles: int = 20_000) -> list[tuple[float, float, float, float, float, float]]:
    """(correlation, critical values of Holm and max-T, family-wise errors of both, items that max-T saves).

    54 standard normal statistics, 9 strategies on each of 6 benchmarks, those of one benchmark correlated through the
    base that they share; max-T's critical value is the 95 % point of the largest of the 54 where nothing changed.
    """
    rng = np.random.default_rng(seed_for("max-t"))

    def largest(n: int, rho: float) -> Array:
        shared, own = rng.standard_normal((n, 6, 1)), rng.standard_normal((n, 6, 9))
        return np.abs(np.sqrt(rho) * shared + np.sqrt(1 - rho) * own).max(axis=(1, 2))

    rows = []
    holm = float(norm.isf(0.025 / 54))
    for rho in (0.0, 0.5, 0.8):
        critical = float(np.quantile(largest(shuffles, rho), 0.95))
        null = largest(runs, rho)
        saved = 1 - ((critical + 0.84) / (holm + 0.84)) ** 2
        rows.append((rho, holm, critical, float(np.mean(null > holm)), float(np.mean(null > critical)), saved))
    return rows
