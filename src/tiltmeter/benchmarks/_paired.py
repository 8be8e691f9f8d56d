"""From two aligned lists of outcomes to the arrays `tiltmeter.analysis.designs` takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.designs import Grouping
from tiltmeter.analysis.types import FlipTable, Unanswered
from tiltmeter.benchmarks.base import NAN, Outcome, Score, mean

Vector = NDArray[np.float64]


def scores(outcomes: Sequence[Outcome]) -> Vector:
    """Item scores (items, samples), NaN unscored; samples that are missing are NaN too."""
    width = max((len(outcome.samples) for outcome in outcomes), default=1)
    table = np.full((len(outcomes), max(width, 1)), NAN)
    for row, outcome in zip(table, outcomes):
        row[: len(outcome.samples)] = [sample.score for sample in outcome.samples]
    return table


def values(outcomes: Sequence[Outcome], name: str) -> Vector:
    """One entry of the first sample's values, (items,); NaN where it has none."""
    return np.array(
        [outcome.samples[0].values.get(name, NAN) if outcome.samples else NAN for outcome in outcomes], dtype=float
    )


def mean_values(outcomes: Sequence[Outcome], name: str) -> Vector:
    """One entry of the values, mean over the samples that have it, (items,); NaN where none has."""
    return np.array([mean([s.values[name] for s in outcome.samples if name in s.values]) for outcome in outcomes])


def codes(names: Sequence[str | None]) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """(codes, names in the order they first appear); None becomes -1."""
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name in names if name is not None))}
    return np.array([-1 if name is None else order[name] for name in names], dtype=np.intp), tuple(order)


def grouping(outcomes: Sequence[Outcome], attribute: str) -> Grouping:
    return Grouping(attribute, *codes([outcome.groups.get(attribute) for outcome in outcomes]))


def clusters(outcomes: Sequence[Outcome]) -> NDArray[np.intp]:
    return codes([outcome.cluster for outcome in outcomes])[0]


def extra_changes(base: Score, variant: Score) -> dict[str, float]:
    """Change of every extra column both models have a number for."""
    return {
        name: value - base.extra[name]
        for name, value in variant.extra.items()
        if math.isfinite(value) and math.isfinite(base.extra.get(name, NAN))
    }


def flip_table(
    base: Sequence[Outcome],
    variant: Sequence[Outcome],
    label: Callable[[Outcome], str | None],
    toward: Callable[[int, str, str], int],
    shift: Callable[[int], float],
    uncertainty: Callable[[Outcome], float] = lambda outcome: outcome.uncertainty,
) -> FlipTable:
    """Decisions of the items labelled in both. toward(place, base label, variant label) is asked for turned ones."""
    labels = [(label(b), label(v)) for b, v in zip(base, variant)]
    both = [(place, b, v) for place, (b, v) in enumerate(labels) if b is not None and v is not None]
    return FlipTable(
        ids=tuple(base[place].item for place, _, _ in both),
        base=tuple(b for _, b, _ in both),
        variant=tuple(v for _, _, v in both),
        toward=np.array([toward(place, b, v) if b != v else 0 for place, b, v in both], dtype=np.int8),
        uncertainty=np.array([uncertainty(base[place]) for place, _, _ in both], dtype=float),
        shift=np.array([shift(place) for place, _, _ in both], dtype=float),
        n_unscored=len(base) - len(both),
    )


def most_common_label(outcome: Outcome) -> str | None:
    """The label most samples have; None when two are equally frequent or none has one."""
    found = Counter(sample.label for sample in outcome.samples if sample.label is not None).most_common(2)
    return None if not found or (len(found) == 2 and found[0][1] == found[1][1]) else found[0][0]


def unanswered(
    base: Sequence[Outcome],
    variant: Sequence[Outcome],
    missing: Callable[[Outcome], Sequence[bool]],
    bounds: Callable[[Sequence[Outcome]], tuple[float, float]],
) -> Unanswered:
    """Share of an item's samples without a usable answer; bounds(outcomes) -> (lowest, highest) score."""
    shares = [
        np.array([np.mean(missing(outcome)) if outcome.samples else 1.0 for outcome in outcomes], dtype=float)
        for outcomes in (base, variant)
    ]
    found = clusters(base)
    groups = tuple(
        (by.attribute, by.codes, by.names)
        for attribute in dict.fromkeys(attribute for outcome in base for attribute in outcome.groups)
        if _constant(by := grouping(base, attribute), found)
    )
    return Unanswered(shares[0], shares[1], found, bounds(base), bounds(variant), groups)


def _constant(by: Grouping, found: NDArray[np.intp]) -> bool:
    """Whether all items of a cluster lie in the same group, and several groups have clusters."""
    pairs = {(int(cluster), int(code)) for cluster, code in zip(found, by.codes)}
    return len(pairs) == len({cluster for cluster, _ in pairs}) and len({code for _, code in pairs if code >= 0}) > 1
