"""Arrays that every layout needs: groups of items, entries scored in both models, means by group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.statistics import SumStatistic, divide, group_means
from tiltmeter.analysis.types import Array, GroupTable

Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Grouping:
    """One attribute: codes (items,) into names, -1 for items without a group."""

    attribute: str
    codes: Codes
    names: tuple[str, ...]


def crossed(one: Grouping, other: Grouping) -> Grouping:
    """The combinations of two attributes that occur; items without either have none."""
    both = (one.codes >= 0) & (other.codes >= 0)
    pairs = np.where(both, one.codes * len(other.names) + other.codes, -1)
    present = np.unique(pairs[both])
    codes = np.where(both, np.searchsorted(present, pairs), -1)
    names = tuple(f"{one.names[k // len(other.names)]}, {other.names[k % len(other.names)]}" for k in present)
    return Grouping(f"{one.attribute} x {other.attribute}", codes, names)


def paired_only(base: Array, variant: Array) -> tuple[Array, Array]:
    """Both arrays with every entry that is NaN in either made NaN in both."""
    both = np.isfinite(base) & np.isfinite(variant)
    return np.where(both, base, np.nan), np.where(both, variant, np.nan)


class ItemCounts(TypedDict):
    """Fields of a `Comparison`: items scored in both models, and in one alone."""

    n_paired: int
    only_base: int
    only_variant: int


def item_counts(base: Array, variant: Array) -> ItemCounts:
    """n_paired, only_base, only_variant of item scores (items,) or (items, samples)."""
    later = tuple(range(1, base.ndim))
    scored_b, scored_v = (np.isfinite(x).any(axis=later) for x in (base, variant))
    paired = np.isfinite(base + variant).any(axis=later)
    return {
        "n_paired": int(paired.sum()),
        "only_base": int((scored_b & ~paired).sum()),
        "only_variant": int((scored_v & ~paired).sum()),
    }


def group_table(
    grouping: Grouping, base: Array, variant: Array, clusters: Codes, n_clusters: int, *, scale: float = 1.0
) -> GroupTable:
    scored = np.isfinite(item_mean(base))
    sizes = tuple(int((scored & (grouping.codes == code)).sum()) for code in range(len(grouping.names)))
    return GroupTable(
        grouping.attribute,
        grouping.names,
        sizes,
        group_means(base, variant, clusters, n_clusters, grouping.codes, len(grouping.names), scale=scale),
    )


def column_means(base: Array, variant: Array) -> SumStatistic:
    """Mean over clusters of each column (clusters, groups), NaN entries left out."""

    def sums(table: Array) -> Array:
        held = np.isfinite(table)
        return np.concatenate([np.where(held, table, 0.0), held.astype(float)], axis=1)

    k = base.shape[1]
    return SumStatistic(sums(base), sums(variant), lambda s: divide(s[:, :k], s[:, k:]))


def item_mean(scores: Array) -> Array:
    return scores if scores.ndim == 1 else nan_mean(scores, (1,))


def nan_mean(values: Array, axes: tuple[int, ...]) -> Array:
    held = np.isfinite(values)
    return divide(np.where(held, values, 0.0).sum(axis=axes), held.sum(axis=axes).astype(float))


def hidden_change(base: Array, variant: Array, lowest: float, highest: float) -> tuple[float, float]:
    """How far the change of a mean could move, down and up, were the answers that vanished at their worst.

    base, variant (items,) or (items, samples), NaN unscored: bounds of the change over the answers that the base
    scored, less the change over those scored in both. (0, 0) where the variant scored all of them. Sample by sample: an
    item of which one answer in five is left has lost four.
    """
    both, lost = np.isfinite(base) & np.isfinite(variant), vanished(base, variant)
    n, more = int(both.sum()), int(lost.sum())
    if not n or not more:
        return 0.0, 0.0
    change = float((variant - base)[both].sum())
    least, most = (change + float((worst - base[lost]).sum()) for worst in (lowest, highest))
    return min(least / (n + more) - change / n, 0.0), max(most / (n + more) - change / n, 0.0)


def vanished(base: Array, variant: Array) -> NDArray[np.bool_]:
    """Entries that the base scored and the variant did not."""
    return np.isfinite(base) & ~np.isfinite(variant)
