"""One attribute's change: movement, size, scale-free size, and the groups that carry it.

The movement says whether groups are treated otherwise, the size whether the gap between them grew. Where the benchmark
has decisions whose slope is known, the movement must also be more than one slope for every decision explains: with
v = beta b + noise every gap is beta times the base's and nobody is favoured otherwise. The slope within its interval
that explains most is taken off, then the rest is tested; the larger of the two p counts. The scale-free size is the
variant's divided by the slope: the spread in units of how strongly the model decides, noise that the variant added
not counted as decisiveness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.bootstrap import sign_flip_test
from tiltmeter.analysis.change import UNDEFINED, Interval, SlopeChange, SpreadChange
from tiltmeter.analysis.movement import Square, carried_by, detectable, movement_p, square
from tiltmeter.analysis.spread import one_flip_variance, quadratic_change
from tiltmeter.analysis.types import NAN, Spread
from tiltmeter.messages import Text, say

FEWEST_CLUSTERS = 5  # below, nothing is computed; for a verdict a design asks for more (`Spread.fewest_clusters`)


def spread_change(spread: Spread, slope: SlopeChange | None = None, *, seed: int, draws: int = 10_000) -> SpreadChange:
    """The attribute's change; every number NaN with the reason where too few clusters hold a group in both models."""
    held = np.isfinite(spread.base) & np.isfinite(spread.variant)
    usable = held.any(axis=1)
    named: Mapping[str, Any] = {
        "attribute": spread.attribute,
        "name": spread.name,
        "unit": spread.unit,
        "margin": spread.margin,
        "n_clusters": int(usable.sum()),
        "fewest_clusters": spread.fewest_clusters,
        "hidden": spread.hidden,
    }
    reason = _why_undefined(spread, held)
    if reason:
        return SpreadChange(**named, reason=reason, ci=Interval(NAN, NAN, reason=reason))
    counts = np.where(held, 1.0 if spread.counts is None else spread.counts, 0.0)[usable]
    base, variant = (np.where(held, x, np.nan)[usable] for x in (spread.base, spread.variant))
    spread = replace(spread, base=base, variant=variant, counts=counts)
    squares = [square(x, counts, spread.weights, spread.layout) for x in (base, variant, variant - base)]
    before, after, moved = squares[0], squares[1], _with_pseudo_flips(squares[2], spread)
    change = quadratic_change(base, variant, spread.weights, spread.layout, counts)
    more = spread.pseudo_flips * one_flip_variance(spread) if spread.pseudo_flips else 0.0
    p_movement = movement_p(variant - base, counts, spread.weights, spread.layout, seed=seed, draws=draws)
    p, scaled = p_movement, (NAN, NAN, UNDEFINED)
    if slope is not None and np.isfinite(slope.value) and slope.value > 0:
        p = max(p, _beyond_slope(spread, before, after, slope, seed, draws))
        scaled = _scale_free(spread, slope)
    unseen, unturned = _none_turned(spread)
    names = spread.groups or tuple(map(str, range(base.shape[1])))
    return SpreadChange(
        **named,
        movement=_root(moved.value),
        movement_high=unseen if np.isfinite(unseen) else float(np.sqrt(moved.upper())),
        unturned=unturned,
        p=p,
        p_movement=p_movement,
        d_base=_root(before.value),
        d_variant=_root(after.value),
        base_low=float(np.sqrt(before.lower())),
        delta=change.delta,
        ci=change.interval(more),
        p_size=sign_flip_test(change.contributions, seed=seed, draws=draws),
        scale_free_variant=scaled[0],
        scale_free_delta=scaled[1],
        scale_free_ci=scaled[2],
        noise=moved.noise,
        mde=detectable(moved.noise, 0.05),
        groups=carried_by(moved, spread.attribute, names, counts, before.means),
    )


def _beyond_slope(spread: Spread, before: Square, after: Square, slope: SlopeChange, seed: int, draws: int) -> float:
    """p of the movement that is left when the slope (within its interval) that explains most of it is taken off."""
    assert spread.counts is not None  # filled by the caller
    strength = float(before.weights @ before.means**2)
    projected = float(before.weights @ (before.means * after.means)) / strength if strength > 0 else slope.value
    factor = float(np.clip(projected, slope.ci.low, slope.ci.high))
    left = spread.variant - factor * spread.base
    return movement_p(left, spread.counts, spread.weights, spread.layout, seed=seed, draws=draws)


def _scale_free(spread: Spread, slope: SlopeChange) -> tuple[float, float, Interval]:
    """(size of the variant, squared change, its interval), the variant in units of the base's decisions."""
    change = quadratic_change(spread.base, spread.variant / slope.value, spread.weights, spread.layout, spread.counts)
    zero = np.where(np.isnan(spread.base), np.nan, 0.0)
    after = quadratic_change(zero, spread.variant / slope.value, spread.weights, spread.layout, spread.counts).delta
    of_slope = (
        2 * max(after, 0.0) * _slope_se(slope) / slope.value
    ) ** 2  # delta method: d(U / beta^2) = -2 U / beta^3
    return _root(after), change.delta, change.interval(of_slope)


def _slope_se(slope: SlopeChange) -> float:
    return max(slope.se, (slope.ci.high - slope.ci.low) / 3.92)


def _with_pseudo_flips(moved: Square, spread: Spread) -> Square:
    """Single choices: the covariance as if `pseudo_flips` more of them had turned, in no particular direction."""
    if not spread.pseudo_flips:
        return moved
    groups, n = moved.covariance.shape[0], len(spread.base)
    return replace(moved, covariance=moved.covariance + spread.pseudo_flips / n**2 * (np.eye(groups) - 1 / groups))


def _none_turned(spread: Spread) -> tuple[float, int]:
    """Single choices of which none turned: (upper limit of the movement, choices at which it comes down to the margin).

    Exact: 1 - .05^(1/n) of them may have turned unseen, at worst all from one group to one other. (inf, 0) where any
    turned, or where entries are no choices.
    """
    if not spread.pseudo_flips or not np.array_equal(spread.base, spread.variant, equal_nan=True):
        return float("inf"), 0
    one = float(np.sqrt(np.sort(spread.weights)[-2:].sum()))  # movement were all of them turned so
    share = spread.margin / one
    needed = int(np.ceil(np.log(0.05) / np.log1p(-share) - 1e-9)) if 0 < share < 1 else 0
    return (1 - 0.05 ** (1 / len(spread.base))) * one, needed


def _root(value: float) -> float:
    return float(np.sqrt(max(value, 0.0)))


def _why_undefined(spread: Spread, held: NDArray[np.bool_]) -> Text | None:
    clusters = int(held.any(axis=1).sum())
    if clusters < FEWEST_CLUSTERS:
        return say("missing.few_clusters", n=clusters, least=FEWEST_CLUSTERS)
    per_group = held.sum(axis=0)
    if spread.layout == "nested" and (per_group < 3).any():
        return say("missing.small_group")
    if not (per_group > 1).all():
        return say("missing.no_group")
    return None
