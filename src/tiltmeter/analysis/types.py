"""What a benchmark hands to the analysis, and what it gets back. Arrays and names only: no models, no files.

A benchmark describes ONE pair (base, variant), already aligned item by item, as a `Comparison`. `compare` answers with
a `Change`: every number of a result row's "change" object except what needs the other rows of the run (adjusted p,
noise floor, verdict), which `settle` fills in over all rows.

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
Statistic = Callable[[Array | None, Array | None], Array]
"""(base_weights, variant_weights), each (draws, clusters) or None for all zero -> (draws,) or (draws, k). NaN where
undefined. At least one of the two is given."""

IntervalKind = Literal["percentile", "normal", "two-way", "none"]
Verdict = Literal["worse", "better", "equivalent", "inconclusive", "not exercised", "no usable signal"]


@dataclass(frozen=True)
class Spread:
    """Group effects whose noise-corrected spread is compared between the models (the companion score).

    base, variant   (clusters, groups): effect of each group in each cluster, NaN where the cluster does not hold the
                    group. `crossed`: deviations from the cluster's own mean (a question and its countries).
                    `nested`: every cluster holds exactly one group (a country lies in one region); plain values.
    weights         (groups,): what each squared group effect counts; for `nested`, shares that sum to 1.
    margin          smallest change of the square root of the spread that matters, in `unit`; NaN: no margin set.
    pseudo_flips    answers imagined to flip, added to the variance where the cells are single choices (0, 1).
    """

    name: Text  # as it is printed: "spread between groups"
    unit: str  # of the square root: "log-odds", "nat", "share", "fraction"
    base: Array
    variant: Array
    weights: Array
    margin: float
    layout: Literal["crossed", "nested"] = "crossed"
    pseudo_flips: int = 0


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
    base_bounds: tuple[float, float] = (float("nan"), float("nan"))
    variant_bounds: tuple[float, float] = (float("nan"), float("nan"))


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
    rests_on: Literal["score", "spread"] = "score"
    companion_reason: Text | None = None  # why there is no spread where one was wanted
    minimum_paired: int = 2  # fewer paired items give no verdict
    rises_with_noise: bool = False  # paper score moves under group-free noise (max - min, Gini)
    accuracy_like: bool = False  # a rate or error that noise makes worse without any bias: the reason says so
    one_flip: float = 0.0  # how far one item's flip can move the score; 0 where items are not single choices
    extra: Mapping[str, float] = field(default_factory=dict)  # further changes, ready to print

    def described(self) -> dict[str, Any]:
        """These fields by name, to be kept in another object."""
        return {f.name: getattr(self, f.name) for f in fields(Described)}


@dataclass(frozen=True, kw_only=True)
class Comparison(Described):
    """All that is needed to compare one benchmark between a base and one variant, items aligned by id."""

    statistic: Statistic
    interval: IntervalKind = "percentile"
    interval_reason: Text | None = None  # why there is none, when interval == "none"
    two_way: TwoWay | None = None  # with interval == "two-way"
    spreads: tuple[Spread, ...] = ()  # the first is the companion; the verdict rests on it when rests_on == "spread"
    groups: tuple[GroupTable, ...] = ()
    flips: FlipTable | None = None
    unanswered: Unanswered | None = None
    decisions: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None  # base, variant (items,): McNemar
    swap_test: bool = True  # False where the statistic is too dear and the verdict does not rest on it


@dataclass(frozen=True)
class Interval:
    """A two-sided interval. Ends are NaN when there is none, and `reason` then says why."""

    low: float
    high: float
    level: float = 0.95
    reason: Text | None = None

    @property
    def defined(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def above_zero(self) -> bool:
        return self.defined and self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.defined and self.high < 0

    @property
    def excludes_zero(self) -> bool:
        return self.above_zero or self.below_zero

    def inside(self, margin: float) -> bool:
        """Whether the whole interval lies within +-margin (ends included)."""
        return self.defined and bool(np.isfinite(margin)) and -margin <= self.low and self.high <= margin


@dataclass(frozen=True)
class SpreadChange:
    """Change of one noise-corrected spread. `delta` is in squared units; `d_base`, `d_variant` are what people read."""

    name: Text
    unit: str
    d_base: float  # sqrt(max(U, 0)) of the base
    d_variant: float
    delta: float  # U of the variant minus U of the base
    ci: Interval  # 95 %, of delta
    bound: float  # m (2 D_low + m): delta inside +-bound is equivalent
    p: float
    mde: float  # in the unit of d_base
    margin: float
    reason: Text | None = None  # why undefined


@dataclass(frozen=True)
class GroupChange:
    attribute: str
    group: str
    base: float
    variant: float
    delta: float
    ci: Interval
    n: int
    p: float = float("nan")
    p_adjusted: float = float("nan")


@dataclass(frozen=True)
class Flip:
    """One decision that turned."""

    id: str
    base: str
    variant: str
    toward: int
    uncertainty: float
    shift: float


@dataclass(frozen=True)
class Flips:
    n: int
    of: int
    toward_bias: int
    away_from_bias: int
    unscored: int
    rate_by_uncertainty: tuple[float, ...]  # quintiles of the base's uncertainty, surest first; NaN when empty
    examples: tuple[Flip, ...]  # largest shift first

    @property
    def net(self) -> int:
        return self.toward_bias - self.away_from_bias


@dataclass(frozen=True)
class UnansweredChange:
    base: float  # share without a usable answer, 0..1
    variant: float
    delta: float
    ci: Interval
    p: float  # swap permutation over clusters
    score_bounds: tuple[float, float]  # lowest and highest change of the score the unanswered could hide


@dataclass(frozen=True, kw_only=True)
class Change(Described):
    """A row's "change" object. Built by `compare`; `settle` replaces p_adjusted, noise, verdict, reason."""

    base: float  # score over the items scored in both
    variant: float
    delta: float
    ci: Interval
    distance_delta: float
    distance_ci: Interval
    level_ci: Interval  # middle = (variant + base)/2 - ideal; crows-pairs' second condition
    spreads: tuple[SpreadChange, ...]
    p: float  # of what the verdict rests on
    p_score: float  # swap permutation of the paper score; NaN when not run
    mde: float  # margin, mde and noise are in the unit of what the verdict rests on (a spread: of its square root)
    groups: tuple[GroupChange, ...]
    flips: Flips | None
    unanswered: UnansweredChange | None
    mcnemar_p: float
    p_adjusted: float = float("nan")
    noise: float = float("nan")  # NaN: not measured
    verdict: Verdict = "inconclusive"
    reason: Text = ""

    def largest(self, sign: int) -> GroupChange | None:
        """The group that rose (+1) or fell (-1) most, among those whose interval excludes 0; None when none does."""
        told = [g for g in self.groups if g.ci.excludes_zero and g.delta * sign > 0]
        return max(told, key=lambda g: abs(g.delta), default=None)

    @property
    def companion(self) -> SpreadChange | None:
        return self.spreads[0] if self.spreads else None


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
