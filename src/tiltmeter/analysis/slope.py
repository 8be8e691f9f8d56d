"""Slope: by which factor did the variant's decisions weaken (below 1) or strengthen (above 1)?

Quantization multiplies decision margins (arXiv 2608.06564): a variant whose logits are all .86 of the base's shows a
smaller gap between groups and treats nobody otherwise. Fainter is not fairer, so every cell with logits has its slope

    beta = sum_q num_q / sum_q den_q,       cov(variant, base) / var(base) of decisions that no group effect is part of

with a t interval over clusters. Regressing on a base that carries noise of its own (another batch, sampling) gives too
small a slope; three estimators that do not:

    repeated    a question put about many people: products of DIFFERENT people of a question, whose noise is its own
    instrument  options: products with what people answered, whose noise is neither model's
    between     single log-ratios have no second reading: the slope lies between the regression of the variant on the
                base and the inverse of that of the base on the variant (Frisch 1934); the interval spans both

Source of the identity: Fuller 1987, Measurement Error Models, 1.4 (instruments) and 1.1 (bounds).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.change import Interval, SlopeChange
from tiltmeter.analysis.distributions import student
from tiltmeter.analysis.types import Array, Slope
from tiltmeter.messages import say

FEWEST_CLUSTERS = 15


def repeated(base: Array, variant: Array) -> Slope:
    """Decisions (questions, people), NaN unscored. People's own means over the questions are taken off first."""
    held = np.isfinite(base) & np.isfinite(variant)
    b, v = (_centred(x, held) for x in (base, variant))
    return Slope(b.sum(axis=1) * v.sum(axis=1) - (b * v).sum(axis=1), b.sum(axis=1) ** 2 - (b**2).sum(axis=1))


def instrument(base: Array, variant: Array, through: Array) -> Slope:
    """Log-probabilities and what people answered, all (questions, options), NaN for options a question lacks."""
    held = np.isfinite(base) & np.isfinite(variant) & np.isfinite(through)
    b, v, z = (_centred(x.T, held.T).T for x in (base, variant, through))
    return Slope((z * v).sum(axis=1), (z * b).sum(axis=1))


def between(base: Array, variant: Array) -> Slope:
    """Log-ratios (items,), NaN unscored."""
    held = np.isfinite(base) & np.isfinite(variant)
    b, v = (_centred(x[:, None], held[:, None])[:, 0] for x in (base, variant))
    return Slope(b * v, b**2, reverse=(v**2, b * v))


def slope_change(slope: Slope, level: float = 0.95) -> SlopeChange:
    """The slope with its interval; NaN with the reason where the base's decisions hardly differ."""
    estimate, low, high, se = _ratio(slope.numerator, slope.denominator, level)
    if not np.isfinite(estimate):
        return SlopeChange(estimate, Interval(np.nan, np.nan, level, say("missing.slope")), np.nan)
    if slope.reverse is not None:
        other, _, far, _ = _ratio(*slope.reverse, level)
        high, estimate = max(high, far), float(np.sqrt(estimate * other)) if estimate * other > 0 else estimate
    return SlopeChange(estimate, Interval(low, high, level), se)


def beyond(base: Array, variant: Array, slope: SlopeChange, level: float = 0.95) -> Interval:
    """Interval of the mean log-ratio (items,) less slope x the base's mean, for every slope in its interval.

    Noise and one factor for every decision leave it at 0; a preference that moved does not.
    """
    held = np.isfinite(base) & np.isfinite(variant)
    if not slope.ci.defined or held.sum() < FEWEST_CLUSTERS:
        return Interval(np.nan, np.nan, level, slope.ci.reason)
    b, v = base[held], variant[held]
    ends = []
    for factor in (slope.ci.low, slope.ci.high):
        left = v - factor * b
        half = float(student.ppf((1 + level) / 2, len(b) - 1) * left.std(ddof=1) / np.sqrt(len(b)))
        ends += [float(left.mean()) - half, float(left.mean()) + half]
    return Interval(min(ends), max(ends), level)


def _ratio(numerator: Array, denominator: Array, level: float) -> tuple[float, float, float, float]:
    """(ratio of sums, low, high, standard error); NaN where the denominator is not told from 0 (Fieller)."""
    used = np.isfinite(numerator) & np.isfinite(denominator) & ((numerator != 0) | (denominator != 0))
    num, den = numerator[used], denominator[used]
    n, total = len(num), float(den.sum())
    nothing = (np.nan,) * 4
    if n < FEWEST_CLUSTERS:
        return nothing
    quantile = float(student.ppf((1 + level) / 2, n - 1))
    if total <= 2 * quantile * np.sqrt(n) * den.std(ddof=1):
        return nothing
    ratio = float(num.sum()) / total
    residual = num - ratio * den
    se = float(np.sqrt(n / (n - 1) * np.sum(residual**2))) / total
    return ratio, ratio - quantile * se, ratio + quantile * se, se


def _centred(x: Array, held: NDArray[np.bool_]) -> Array:
    """x (rows, columns) less its column's mean over held entries, 0 elsewhere."""
    values = np.where(held, x, 0.0)
    return np.where(held, values - values.sum(axis=0) / np.maximum(held.sum(axis=0), 1), 0.0)
