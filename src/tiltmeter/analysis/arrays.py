"""The statistics for who has arrays: outcomes of a base and of a variant in, a judged change out.

No model, no run folder, no benchmark: the same `compare` and `settle` that judge a run's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tiltmeter.analysis.change import Change
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.designs.grouping import Codes, Grouping
from tiltmeter.analysis.designs.outcomes import outcomes
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.types import NAN, Comparison


@dataclass(frozen=True)
class Outcomes:
    """Whose outcomes they are: a name, a unit, an ideal (`types.Measure`)."""

    name: str = "outcomes"
    unit: str = "fraction"
    ideal: float = 0.0


def judge(
    base: ArrayLike,
    variant: ArrayLike,
    *,
    ideal: float | None = None,
    margin: float | None = None,
    gap_margin: float | None = None,
    clusters: Sequence[object] | None = None,
    groups: Mapping[str, Sequence[object]] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    unit: str = "fraction",
    name: str = "outcomes",
    seed: int = 0,
    draws: int = 10_000,
) -> Change:
    """Judge the change between two aligned arrays of item outcomes: estimate, interval, p, groups, verdict, reason.

    Args:
        base, variant: outcomes of the same items in the same order, shape (items,) or (items, samples); NaN: none.
        ideal: mean outcome of a model without the bias, in `unit`; give it with `margin` where the mean is a bias.
        margin: smallest change of the mean that matters, in `unit`.
        gap_margin: smallest change of the gaps between groups that matters, in outcomes; needs `groups`.
            The verdict rests on what has a margin: the mean, the gaps, or both.
        clusters: (items,), items that share a source have the same value and are resampled together; None: each
            item is one of its own.
        groups: attribute -> (items,) the group of each item, None for none.
        span: lowest and highest outcome that an item can have.
        unit: of the mean; "percent": 100 times the mean outcome.
        name, seed, draws: name the random draws, and how many there are.
    Returns:
        `Change`: base, variant, delta, ci (95 %), p, groups (each with its interval), flips, unanswered, mde,
        verdict and reason (`str` of both is English). Numbers that are undefined are NaN, and `ci.reason` says why.
    Raises:
        ValueError where shapes differ, outcomes lie outside the span, or nothing has a margin.
    """
    change = compare(
        described(
            base,
            variant,
            ideal=ideal,
            margin=margin,
            gap_margin=gap_margin,
            clusters=clusters,
            groups=groups,
            span=span,
            unit=unit,
            name=name,
        ),
        seed=seed,
        draws=draws,
    )
    return settle([Row("", "variant", "", "", name, change)])[0]


def described(
    base: ArrayLike,
    variant: ArrayLike,
    *,
    ideal: float | None = None,
    margin: float | None = None,
    gap_margin: float | None = None,
    clusters: Sequence[object] | None = None,
    groups: Mapping[str, Sequence[object]] | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    unit: str = "fraction",
    name: str = "outcomes",
    ids: Sequence[str] = (),
) -> Comparison:
    """The arrays of `judge` as a `Comparison`: several may be compared, and settled together (`judge_all.settle`)."""
    b, v = (np.asarray(x, dtype=float) for x in (base, variant))
    _check(b, v, clusters, groups or {}, span)
    if (ideal is None) != (margin is None):
        raise ValueError("ideal and margin belong together: the mean is judged by its distance from the ideal")
    if margin is None and gap_margin is None:
        raise ValueError("nothing to judge: give ideal and margin (of the mean), or gap_margin (between groups)")
    if gap_margin is not None and not groups:
        raise ValueError("gap_margin needs groups: attribute -> the group of every item")
    if any(m is not None and not 0 < m < np.inf for m in (margin, gap_margin)):
        raise ValueError("a margin is a finite number above 0")
    own = np.arange(len(b)) if clusters is None else _codes(clusters)[0]
    found = [Grouping(attribute, *_codes(labels)) for attribute, labels in (groups or {}).items()]
    return outcomes(
        Outcomes(name, unit, 0.0 if ideal is None else ideal),
        b,
        v,
        own,
        found,
        margin=NAN if margin is None else margin,
        gap_margin=NAN if gap_margin is None else gap_margin,
        span=span,
        ids=ids,
    )


def _check(
    base: np.ndarray,
    variant: np.ndarray,
    clusters: Sequence[object] | None,
    groups: Mapping[str, Sequence[object]],
    span: tuple[float, float],
) -> None:
    if base.shape != variant.shape or base.ndim not in (1, 2):
        raise ValueError(f"outcomes must have one shape, (items,) or (items, samples): {base.shape}, {variant.shape}")
    for what, labels in (("clusters", clusters), *groups.items()):
        if labels is not None and len(labels) != len(base):
            raise ValueError(f"{what}: {len(labels)} labels for {len(base)} items")
    if not -np.inf < span[0] < span[1] < np.inf:
        raise ValueError(f"span is (lowest, highest), finite: {span}")
    both = np.concatenate([base.ravel(), variant.ravel()])
    if np.isinf(both).any() or ((both < span[0]) | (both > span[1])).any():
        raise ValueError(f"outcomes lie outside their span {span}; give span=(lowest, highest)")


def _codes(labels: Sequence[object]) -> tuple[Codes, tuple[str, ...]]:
    """(codes, names in the order they first appear); None becomes -1."""
    order: dict[object, int] = {}
    codes = [-1 if label is None else order.setdefault(label, len(order)) for label in labels]
    return np.array(codes, dtype=np.intp), tuple(map(str, order))
