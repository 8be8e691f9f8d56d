"""Movement: by how much did the group effects themselves change, whoever was favoured before?

The size of a spread (`spread.py`) is unsigned: a gap that changes sides keeps its size. The movement is the same
estimator on the differences. Per cluster q let e_q (groups,) be the variant's group effects less the base's:

    M = U(e) = sum_k w_k [(sum_q e_qk)^2 - sum_q e_qk^2] / (n_k (n_k - 1)),   unbiased for sum_k w_k change_k^2

Products of different clusters only, so noise that is independent between clusters cancels. It sees a reversal, a
rotation from one group to another and a new gap alike. With x = (sqrt(w_k) mean e_k) and its covariance matrix V,

    M = |x|^2 - trace V,     var M = 4 u lambda + 2 trace V^2   at most, where the true value is u (lambda: V's largest)

Test    the sign of every e_q is a fair coin under "nothing moved": one matrix product (nested: of e less its mean).
Limit   the u for which M would lie t standard deviations, taken AT u, below (a score limit, as Wilson's for a share):
        u = c + sqrt(c^2 - M^2 + 2 t^2 trace V^2),  c = M + 2 t^2 lambda.
        It does not borrow its width from M, so it is not short just where M came out small.
Who     the groups' own changes, x without its weights, with t intervals; Holm within the attribute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.bootstrap import TIE, swap_weights
from tiltmeter.analysis.change import GroupChange, Interval, Noise
from tiltmeter.analysis.distributions import chi2, student
from tiltmeter.analysis.multiplicity import holm
from tiltmeter.analysis.types import Array, Layout

FIRST_DRAWS_SETTLE = 10  # fewer permutations than this reach the observed value: ten times as many are drawn
MORE_DRAWS = 10


@dataclass(frozen=True)
class Square:
    """The sum of squared group effects of one table of effects, with what its limits need."""

    value: float  # unbiased; may be negative
    means: Array  # (groups,): effects, deviations from their weighted mean where clusters are nested
    covariance: Array  # (groups, groups) of `means`
    weights: Array  # (groups,)
    df: int

    @property
    def noise(self) -> Noise:
        root = np.sqrt(self.weights)
        values = np.linalg.eigvalsh(root[:, None] * self.covariance * root)
        return Noise(float(values.sum()), float(2 * np.sum(values**2)), float(max(values[-1], 0.0)), self.df)

    def upper(self, level: float = 0.95) -> float:
        """One-sided upper limit of the true value, not below 0."""
        return max(_limits(self.value, self.noise, level)[1], 0.0)

    def lower(self, level: float = 0.975) -> float:
        """One-sided lower limit; 0 where the value is not told from 0."""
        if self.value <= critical(self.noise, 1 - level):
            return 0.0
        return max(_limits(self.value, self.noise, level)[0], 0.0)


def _limits(value: float, noise: Noise, level: float) -> tuple[float, float]:
    """Both u with |value - u| = t sqrt(4 u lambda + 2 trace V^2)."""
    t2 = float(student.ppf(level, noise.df)) ** 2
    centre = value + 2 * t2 * noise.largest
    half = float(np.sqrt(max(centre**2 - value**2 + t2 * noise.degenerate, 0.0)))
    return centre - half, centre + half


def critical(noise: Noise, alpha: float) -> float:
    """The squared movement exceeded with probability alpha where nothing moved: a scaled chi-square (Satterthwaite)."""
    if not noise.trace > 0:
        return 0.0
    df = 2 * noise.trace**2 / noise.degenerate
    return float(noise.trace * (chi2.isf(alpha, df) / df - 1))


def detectable(noise: Noise, alpha: float, power: float = 0.80) -> float:
    """Root of the smallest movement found with this power at level alpha; NaN where nothing varied."""
    if not noise.trace > 0:
        return float("nan")
    return float(np.sqrt(_limits(critical(noise, alpha), noise, power)[1]))


def square(table: Array, counts: Array, weights: Array, layout: Layout) -> Square:
    """table (clusters, groups): mean effects of a cluster's items, NaN where it holds none; counts: those items."""
    held = counts > 0
    sums = np.where(held, table, 0.0) * counts
    n, n2 = counts.sum(axis=0), (counts**2).sum(axis=0)
    means = sums.sum(axis=0) / n
    residuals = sums - counts * means
    clusters = held.sum(axis=0)
    if layout == "nested":
        own = np.sum(residuals**2, axis=0) / n**2 * clusters / np.maximum(clusters - 1, 1)
        centring = np.eye(len(weights)) - weights
        means, covariance = centring @ means, (centring * own) @ centring.T
        df = int(clusters.sum() - len(weights))
    else:
        scaled = residuals / n
        df = len(table) - 1
        covariance = scaled.T @ scaled * (df + 1) / df
    return Square(float(_forms(sums, n, n2, weights, layout)), means, covariance, weights, df)


def _forms(sums: Array, n: Array, n2: Array, weights: Array, layout: Layout) -> Array:
    """U of cluster sums (..., clusters, groups) whose signs were not flipped; the definition the test permutes."""
    return _quadratic(sums.sum(axis=-2), np.sum(sums**2, axis=-2), n, n2, weights, layout)


def _quadratic(totals: Array, squares: Array, n: Array, n2: Array, weights: Array, layout: Layout) -> Array:
    """totals (..., groups) of cluster sums, squares (groups,) their sums of squares -> U (...)."""
    pairs = n**2 - n2
    scale = np.where(pairs > 0, 1 / np.where(pairs > 0, pairs, 1.0), 0.0)
    if layout == "crossed":
        return (totals**2 - squares) @ (weights * scale)
    within = (totals**2 - squares) @ (weights * (1 - weights) * scale)
    shares = totals * (weights / n)
    between: Array = shares.sum(axis=-1) ** 2 - np.sum(shares**2, axis=-1)
    return within - between


def movement_p(table: Array, counts: Array, weights: Array, layout: Layout, *, seed: int, draws: int) -> float:
    """One-sided sign-flip p of a large movement: (1 + #{M* >= M}) / (1 + draws).

    Where fewer than ten of the draws reach M, ten times as many are drawn, so that a correction over a thousand rows
    can still be survived.
    """
    sums = np.where(counts > 0, table, 0.0) * counts
    n, n2 = counts.sum(axis=0), (counts**2).sum(axis=0)
    if layout == "nested":
        sums = sums - counts * (weights @ (sums.sum(axis=0) / n))
    squares = np.sum(sums**2, axis=0)
    observed = float(_quadratic(sums.sum(axis=0), squares, n, n2, weights, layout))
    if not np.isfinite(observed) or len(sums) < 2:
        return float("nan")
    threshold = observed - TIE * max(abs(observed), float(squares @ weights) / max(float(n.max()) ** 2, 1.0))
    lean = sums.size > 20_000  # float32 halves the time of a large table, and its rounding is far below what draws tell
    table32: NDArray[Any] = sums.astype(np.float32 if lean else np.float64)
    p = 1.0
    for count in (draws, MORE_DRAWS * draws):
        reached = 0
        for swapped in swap_weights(len(sums), count, seed):
            totals: Array = (1 - 2 * swapped.astype(table32.dtype)) @ table32
            reached += int(np.sum(_quadratic(totals, squares, n, n2, weights, layout) >= threshold))
        p = (1 + reached) / (1 + count)
        if reached >= FIRST_DRAWS_SETTLE:
            break
    return p


def carried_by(
    moved: Square, attribute: str, names: tuple[str, ...], counts: Array, base: Array
) -> tuple[GroupChange, ...]:
    """Every group's own change, base effects (groups,) beside it; p of t, adjusted by Holm within the attribute."""
    rows = []
    for place, name in enumerate(names):
        delta, se = float(moved.means[place]), float(np.sqrt(max(moved.covariance[place, place], 0.0)))
        half = float(student.ppf(0.975, moved.df)) * se
        p = float(2 * student.sf(abs(delta) / se, moved.df)) if se > 0 else 1.0
        before = float(base[place])
        n = int(counts[:, place].sum())
        rows.append(
            GroupChange(attribute, name, before, before + delta, delta, Interval(delta - half, delta + half), n, p)
        )
    return tuple(
        GroupChange(r.attribute, r.group, r.base, r.variant, r.delta, r.ci, r.n, r.p, adjusted)
        for r, adjusted in zip(rows, holm([row.p for row in rows]), strict=True)
    )
