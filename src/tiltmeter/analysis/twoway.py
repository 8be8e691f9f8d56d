"""Mean of items that vary along two crossed factors: dt-stereotyping's target groups and topics.

Items of one target group share what the model thinks of that group, items of one topic what it thinks of the topic, so
one-way clusters of either kind cover 46-96 % where 95 is meant. The two-way sandwich adds both and takes off what is
counted twice (the cells):

    variance = V_group + V_topic - V_cell,  not below V_group or V_topic
    V_f = c_f / n^2 sum_levels (sum of residuals in the level)^2,   c_f = levels / (levels - 1)

with t quantiles at (smaller number of levels - 1) degrees of freedom, 15 in the full data (16 topics).
Below a base rate of about 2 % agreement it covers 89-91 % (docs/validity.md).
Source: Cameron, Gelbach & Miller 2011, Robust Inference with Multiway Clustering.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.change import Interval
from tiltmeter.analysis.distributions import student
from tiltmeter.analysis.types import Array
from tiltmeter.messages import Message, say


@dataclass(frozen=True)
class TwoWayMean:
    estimate: float
    se: float
    df: int
    p: float
    interval: Interval


def two_way_mean(
    values: Array, rows: NDArray[np.intp], columns: NDArray[np.intp], *, scale: float = 1.0, level: float = 0.95
) -> TwoWayMean:
    """scale x mean of values (items,), NaN left out, with its two-way clustered t interval and two-sided p.

    With no variation at all (no item changed) the interval is the point itself and p is 1.
    """
    scored = np.isfinite(values)
    x, rows, columns = values[scored], rows[scored], columns[scored]
    if not len(x):
        return _undefined(float("nan"), level, say("missing.no_pair"))
    estimate = scale * float(x.mean())
    n_levels = [len(np.unique(f)) for f in (rows, columns)]
    df = min(n_levels) - 1
    if df < 1:
        return _undefined(estimate, level, say("missing.one_level"))
    residuals = x - x.mean()
    by_row, by_column = _variance(residuals, rows), _variance(residuals, columns)
    cell = _variance(residuals, rows * (int(columns.max()) + 1) + columns)
    se = scale * float(np.sqrt(max(by_row + by_column - cell, by_row, by_column)))
    half = float(student.ppf((1 + level) / 2, df)) * se
    if se > 0:
        p = float(2 * student.sf(abs(estimate) / se, df))
    else:
        p = 1.0 if estimate == 0 else 0.0  # every item alike: nothing moved, or all of it did
    p = max(p, 2.0 ** -min(n_levels)) if estimate else p  # below what as many coins could show no t is to be believed
    return TwoWayMean(estimate, se, df, p, Interval(estimate - half, estimate + half, level))


def _variance(residuals: Array, factor: NDArray[np.intp]) -> float:
    """One-way cluster-robust variance of the mean, with the small-sample factor levels / (levels - 1)."""
    _, codes = np.unique(factor, return_inverse=True)
    totals = np.bincount(codes, residuals)
    levels = len(totals)
    return float(np.sum(totals**2)) * levels / (levels - 1) / len(residuals) ** 2


def _undefined(estimate: float, level: float, reason: Message) -> TwoWayMean:
    nan = float("nan")
    return TwoWayMean(estimate, nan, 0, nan, Interval(nan, nan, level, reason))
