"""What a benchmark hands to the analysis, and what it gets back. Arrays and names only: no models, no files.

A benchmark describes ONE pair (base, variant), already aligned item by item, as a `Comparison`. `compare` answers with
a `Change` (`change.py`): every number of a result row's "change" object except what needs the other rows of the run
(adjusted p, noise floor, verdict), which `settle` fills in over all rows.

The central idea is the pooled statistic. A `Statistic` is a function of two weight matrices over the same clusters,

    statistic(base_weights, variant_weights) -> values        weights (draws, clusters), values (draws,) or (draws, k)

computed on the pooled rows of both models, a base row counting base_weights times (None: not at all). It serves

    the base's score        statistic(1, None)       the variant's   statistic(None, 1)
    the paired bootstrap    statistic(None, W) - statistic(W, None), the same draw W for both models
    the swap permutation    statistic(S, 1 - S) - statistic(1 - S, S), S in {0, 1} per cluster

so that no estimator can use a different definition of the score than the table prints.

Undefined values are NaN, with a reason where a person may read them; they are never 0 and never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tiltmeter.messages import Text

Array = NDArray[np.float64]
NAN = float("nan")
Statistic = Callable[[Array | None, Array | None], Array]
"""(base_weights, variant_weights), each (draws, clusters) or None for all zero -> (draws,) or (draws, k). NaN where
undefined. At least one of the two is given."""

TOST = 0.90  # `equivalent` asks both one-sided 95 % limits to lie inside the margin: two tests at 5 % each
FEWEST_CLUSTERS = 15  # fewer give percentile intervals that cover less than they say

IntervalKind = Literal["percentile", "score", "normal", "two-way", "absent"]
RestsOn = Literal["score", "spread", "both"]  # the printed score, the attributes, or all of them
Layout = Literal["crossed", "nested"]


@dataclass(frozen=True)
class Spread:
    """Group effects of one attribute, whose movement and noise-corrected size are compared between the models.

    base, variant   (clusters, groups): mean effect of each group in each cluster, NaN where the cluster does not hold
                    the group. `crossed`: deviations from the cluster's own mean (a question and its countries).
                    `nested`: every cluster holds exactly one group (a country lies in one region); plain values.
    weights         (groups,): what each squared group effect counts; for `nested`, shares that sum to 1.
    margin          smallest movement that matters, in `unit`; NaN: no margin set, no verdict on this attribute.
    counts          (clusters, groups): items behind each entry where clusters hold several; None: one each.
    pseudo_flips    choices imagined to turn, added to the variance where the cells are single choices (0, 1).
    hidden          how far, in `unit`, answers that vanished could have moved the groups at their worst.
    """

    name: Text  # as it is printed: "spread between groups"
    unit: str  # of the square root: "log-odds", "nat", "share", "fraction"
    base: Array
    variant: Array
    weights: Array
    margin: float
    layout: Layout = "crossed"
    pseudo_flips: float = 0.0
    attribute: str = "group"
    groups: tuple[str, ...] = ()
    counts: Array | None = None
    hidden: float = 0.0
    fewest_clusters: int = 15  # usable clusters; below, neither told from chance nor equivalent


@dataclass(frozen=True)
class Slope:
    """Sums whose ratio is the slope of the variant's decisions on the base's; one entry per cluster (`slope.py`).

    reverse: (numerator, denominator) of the far bound, where noise in the base cannot be told from its decisions.
    """

    numerator: Array
    denominator: Array
    reverse: tuple[Array, Array] | None = None


@dataclass(frozen=True)
class TwoWay:
    """Paired differences of a mean that vary along two crossed factors (dt-stereotyping: target group x topic).

    base, variant (items,): item scores; rows, columns (items,): integer codes of the two factors.
    """

    base: Array
    variant: Array
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]


@dataclass(frozen=True)
class GroupTable:
    """One attribute's groups: a statistic with one value per group, over the comparison's clusters.

    clusters overrides the comparison's clusters where the groups need others (dt-stereotyping: a target group's items
    are clustered by topic): then the statistic takes weights over that many clusters.
    """

    attribute: str
    groups: tuple[str, ...]
    n: tuple[int, ...]  # paired items per group
    statistic: Statistic  # -> (draws, groups)
    interval: Literal["percentile", "normal"] = "percentile"
    n_clusters: int | None = None
    two_way: tuple[TwoWay, ...] = ()  # one per group; then these give the intervals instead of the bootstrap
    unit: str | None = None  # where it is not the score's: log-odds against a reference, share of answers


@dataclass(frozen=True)
class FlipTable:
    """Paired decisions, one entry per item labelled in both models.

    toward       +1 when the change of label (if any) is toward bias, -1 away from it, 0 neither
    uncertainty  the base's own uncertainty of its decision, larger = less sure (entropy, |margin| negated ...)
    shift        how far the confidence moved, in the item's own unit; orders the examples
    """

    ids: tuple[str, ...]
    base: tuple[str, ...]
    variant: tuple[str, ...]
    toward: NDArray[np.int8]
    uncertainty: Array
    shift: Array
    n_unscored: int = 0  # items without a label in either model: excluded, counted


@dataclass(frozen=True)
class Unanswered:
    """Refusals and unparsed answers as a paired outcome, and what they could hide.

    base, variant (items,): share of an item's samples without a usable answer, 0..1, over ALL aligned items.
    base_bounds, variant_bounds: (lowest, highest) score were every such answer the best, or the worst, possible.
    """

    base: Array
    variant: Array
    clusters: NDArray[np.intp]  # (items,), codes from 0
    base_bounds: tuple[float, float] = (NAN, NAN)
    variant_bounds: tuple[float, float] = (NAN, NAN)
    groups: tuple[tuple[str, NDArray[np.intp], tuple[str, ...]], ...] = ()
    """(attribute, codes (items,) into names, names) of attributes that all items of a cluster share."""


Role = Literal["bias", "skill", "noisy"]


@dataclass(frozen=True)
class Arm:
    """A further score of the same answers that decides with the first one; see `tiltmeter.analysis.arms`.

    ideal: 0 for a signed one (inside its scale), else the highest value of one whose best is its highest.
    """

    name: Text
    role: Role
    unit: str
    margin: float
    statistic: Statistic  # over the comparison's clusters
    ideal: float = 0.0
    one_flip: float = 0.0  # how far one item's flip can move it
    hidden: tuple[float, float] = (0.0, 0.0)  # lowest and highest move of its change by answers that vanished
    n_usable: int | None = None  # clusters with a paired item of its own; None: as many as the comparison has


class Measure(Protocol):
    """Whose comparison it is: a benchmark's own name, unit and ideal. Every `Benchmark` is one."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def ideal(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a comparison states about itself and its change keeps."""

    benchmark: str
    unit: str
    ideal: float
    margin: float  # smallest effect of interest; a change's is in the unit of what its verdict rests on
    n_clusters: int
    n_paired: int  # items scored in both
    only_base: int = 0  # scored in the base alone
    only_variant: int = 0
    missing: int = 0  # item ids that one of the two does not have at all
    rests_on: RestsOn = "score"
    companion_reason: Text | None = None  # why there is no spread where one was wanted
    minimum_paired: int = 2  # fewer paired items give no verdict
    fewest_clusters: int = 1  # fewer clusters with a paired item give none either
    n_usable: int | None = None  # clusters with a paired item; None: all of them
    rises_with_noise: bool = False  # paper score moves under group-free noise (max - min, Gini)
    evens_with_noise: bool = False  # noise alone makes groups more alike, and no scale tells it from fairness
    accuracy_like: bool = False  # a rate or error that noise makes worse without any bias: the reason says so
    rare: float = 0.0  # how far what is too rare to be seen in these items could move the score (3 / clusters)
    one_flip: float = 0.0  # how far one item's flip can move the score; 0 where items are not single choices
    ideal_at: Literal["low end", "inside", "high end"] | None = None  # None: 0 is the low end, all else inside
    extra: Mapping[str, float] = field(default_factory=dict)  # further changes, ready to print

    @property
    def ideal_inside(self) -> bool:
        """Whether a score can lie on either side of its ideal (crows-pairs' 50, a signed gap's 0)."""
        return self.ideal_at == "inside" or (self.ideal_at is None and self.ideal != 0)

    def described(self) -> dict[str, Any]:
        """These fields by name, to be kept in another object."""
        return {f.name: getattr(self, f.name) for f in fields(Described)}


@dataclass(frozen=True, kw_only=True)
class Comparison(Described):
    """All that is needed to compare one benchmark between a base and one variant, items aligned by id."""

    statistic: Statistic
    interval: IntervalKind = "percentile"
    interval_reason: Text | None = None  # why there is none, when interval == "absent"
    two_way: TwoWay | None = None  # with interval == "two-way"
    spreads: tuple[Spread, ...] = ()  # the first is the companion; the verdict rests on it when rests_on == "spread"
    groups: tuple[GroupTable, ...] = ()
    flips: FlipTable | None = None
    unanswered: Unanswered | None = None
    decisions: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None  # base, variant (items,): McNemar
    arms: tuple[Arm, ...] = ()  # further scores that decide with this one
    swap_test: bool = True  # False where the statistic is too dear and the verdict does not rest on it
    slope: Slope | None = None
    ratios: tuple[Array, Array] | None = None  # base, variant (items,): log-ratios behind the decisions
    hidden: tuple[float, float] = (0.0, 0.0)  # lowest and highest move of the change by answers that vanished


def align(base_ids: tuple[str, ...], variant_ids: tuple[str, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Positions of the items both models have, in the base's order, and how many ids only one of them has.

    Raises ValueError when an id occurs twice in either: pairing would be arbitrary.
    """
    for ids in (base_ids, variant_ids):
        if len(set(ids)) != len(ids):
            raise ValueError("item ids must be unique within a model's answers")
    place = {item: position for position, item in enumerate(variant_ids)}
    pairs = [(position, place[item]) for position, item in enumerate(base_ids) if item in place]
    rows = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return rows[:, 0], rows[:, 1], len(base_ids) + len(variant_ids) - 2 * len(pairs)
