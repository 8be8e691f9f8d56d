"""The rules of verdict before movements were judged, as one plain function: what the power table compares with.

A score: equivalent where its two-sided 95 % interval, at least 1.96 sqrt(2) flips wide, lies inside the margin; worse
or better where p < .05 and the distance from the ideal grew or shrank (crows-pairs: both v - b and (v + b)/2 - 50 away
from 0). WorldBench rested on its mean error, clustered by country. A spread: one root over all attributes; with D_low^2
the smaller U less its standard error, equivalent where the 95 % interval of U_v - U_b lies inside m (2 D_low + m),
worse or better by its sign where p < .05. No `shifted`, no slope, no missing answers, no minimum but 15 clusters for
equivalence of a spread. p is of one row alone, as in the table beside it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from tiltmeter.analysis.arms import projected
from tiltmeter.analysis.bootstrap import bootstrap, percentile_interval, sign_flip_test, swap_test
from tiltmeter.analysis.change import Change, Interval
from tiltmeter.analysis.spread import one_flip_variance, quadratic_change
from tiltmeter.analysis.types import Array, Comparison
from tiltmeter.schema.verdict import Verdict

DEGENERATE_SHARE = 0.75  # of the jackknife's second-order term was taken off
FEWEST_CLUSTERS = 15


def old_verdict(c: Comparison, change: Change, *, seed: int, draws: int) -> Verdict:
    """What the rules of then say of this comparison; `change` is today's, for what has not changed (two-way t)."""
    if c.benchmark == "worldbench" or c.rests_on == "score":
        return _of_score(c, change, seed, draws)
    return _of_spread(c, seed, draws)


def _of_score(c: Comparison, change: Change, seed: int, draws: int) -> Verdict:
    middle = None
    if c.benchmark == "dt-stereotyping":
        interval, p = change.ci, change.p_score
    else:
        ((base, variant),) = bootstrap([c.statistic], c.n_clusters, seed=seed, draws=draws)
        interval = percentile_interval(variant - base, c.n_clusters)
        p = float(swap_test([c.statistic], c.n_clusters, seed=seed, draws=draws)[0])
        middle = percentile_interval((base + variant) / 2 - c.ideal, c.n_clusters) if c.ideal_inside else None
    least, margin = 1.96 * 2**0.5 * c.one_flip, 0.02 if c.benchmark == "worldbench" else c.margin
    if Interval(min(interval.low, change.delta - least), max(interval.high, change.delta + least)).inside(margin):
        return Verdict.EQUIVALENT
    if not p < 0.05 or (middle is not None and not (interval.excludes_zero and middle.excludes_zero)):
        return Verdict.INCONCLUSIVE
    return _by_sign(projected(interval, middle) if middle is not None else interval)


def _of_spread(c: Comparison, seed: int, draws: int) -> Verdict:
    if not c.spreads:
        return Verdict.INCONCLUSIVE
    first = c.spreads[0]
    stacked = c.spreads if c.benchmark == "discrim-eval" else (first,)
    table = [np.hstack([s.base for s in stacked]), np.hstack([s.variant for s in stacked])]
    held = (np.isfinite(table[0]) & np.isfinite(table[1])).any(axis=1)
    base, variant = (x[held] for x in table)
    weights = np.concatenate([s.weights for s in stacked])
    if held.sum() < 5:
        return Verdict.INCONCLUSIVE
    zero = np.where(np.isnan(base), np.nan, 0.0)
    sizes = [quadratic_change(zero, x, weights, "crossed") for x in (base, variant)]
    deviations = [np.sqrt(_variance(zero, x, weights, s.variance)) for x, s in zip((base, variant), sizes, strict=True)]
    change = quadratic_change(base, variant, weights, "crossed")
    spread = replace(first, base=base, variant=variant, weights=weights, counts=None)
    more = spread.pseudo_flips * one_flip_variance(spread) if spread.pseudo_flips else 0.0
    half = float(student.ppf(0.975, change.df) * np.sqrt(_variance(base, variant, weights, change.variance) + more))
    smaller = int(sizes[1].delta < sizes[0].delta)
    low = float(np.sqrt(max(sizes[smaller].delta - deviations[smaller], 0.0)))
    interval = Interval(change.delta - half, change.delta + half)
    if interval.inside(first.margin * (2 * low + first.margin)) and held.sum() >= FEWEST_CLUSTERS:
        return Verdict.EQUIVALENT
    p = sign_flip_test(change.contributions, seed=seed, draws=draws)
    return _by_sign(interval) if p < 0.05 else Verdict.INCONCLUSIVE


def _by_sign(interval: Interval) -> Verdict:
    if interval.above_zero:
        return Verdict.WORSE
    return Verdict.BETTER if interval.below_zero else Verdict.INCONCLUSIVE


def _variance(base: Array, variant: Array, weights: Array, jackknife: float) -> float:
    """The jackknife variance less three quarters of its second-order part, not below a quarter of the whole."""
    held = np.isfinite(base) & np.isfinite(variant)
    n = held.sum(axis=0)
    root = np.sqrt(np.where(n > 1, weights / np.maximum(n * (n - 1), 1), 0.0))
    both = (np.where(held, variant + base, 0.0), np.where(held, variant - base, 0.0))
    rs, re = ((x - np.where(held, x.sum(axis=0) / np.maximum(n, 1), 0.0)) * root for x in both)
    mixed = re.T @ rs
    pairs = (np.sum((rs.T @ rs) * (re.T @ re)) + np.sum(mixed * mixed.T)) / 2
    second = max(float(pairs - np.sum(np.sum(rs * re, axis=1) ** 2)), 0.0)
    return max(jackknife - DEGENERATE_SHARE * second, jackknife / 4)
