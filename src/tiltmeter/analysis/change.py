"""What `compare` and `settle` answer: the change of one benchmark between a base and one variant, number by number.

Undefined values are NaN, with a reason where a person may read them; they are never 0 and never dropped in silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiltmeter.analysis.distributions import norm
from tiltmeter.analysis.types import NAN, Described, Role
from tiltmeter.messages import Text
from tiltmeter.schema.verdict import Verdict


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


UNDEFINED = Interval(NAN, NAN)
FEWEST_FLIPS = 3  # `equivalent` asks for enough items to have shown a flip: none of 3 / n has a chance of 5 %
ONE_SIDED = 1.6448536269514722  # norm.ppf(0.95), which would need scipy to read a result


def reach(half: float, hidden: float, one_flip: float) -> float:
    """From an estimate to its limit, `half` away, were the answers that vanished at their worst.

    hidden: by how much they could move the estimate. How many vanish is chance, too: m of them that count `one_flip`
    each have a standard deviation of sqrt(m) one_flip = sqrt(hidden one_flip).
    """
    return hidden + float(np.sqrt(half**2 + ONE_SIDED**2 * max(hidden, 0.0) * one_flip)) if hidden else half


def at_worst(limits: Interval, estimate: float, hidden: tuple[float, float], one_flip: float) -> Interval:
    """Limits of a change were the answers that vanished at their worst, down and up."""
    if hidden == (0.0, 0.0):
        return limits
    low = estimate - reach(estimate - limits.low, -hidden[0], one_flip)
    return Interval(low, estimate + reach(limits.high - estimate, hidden[1], one_flip), limits.level, limits.reason)


@dataclass(frozen=True)
class ArmChange:
    """Change of a further score (`types.Arm`)."""

    name: Text
    role: Role
    unit: str
    ideal: float
    margin: float
    base: float
    variant: float
    delta: float
    ci: Interval
    distance_ci: Interval  # of the change of the distance from the ideal
    p: float
    limits: Interval = UNDEFINED  # both one-sided 95 % limits of the change
    one_flip: float = 0.0  # how far one item's flip can move it
    hidden: tuple[float, float] = (0.0, 0.0)  # how far vanished answers could have moved it, down and up
    p_adjusted: float = NAN

    @property
    def least(self) -> float:
        """Half width below which so few items show nothing."""
        return FEWEST_FLIPS * self.one_flip

    @property
    def kept(self) -> bool:
        """A skill shown not to have fallen by its margin."""
        return self.limits.defined and self.worst.low >= -self.margin

    @property
    def within(self) -> bool:
        return self.limits.defined and self.worst.inside(self.margin)

    @property
    def nearer(self) -> bool:
        """Whether it came nearer to its ideal however the answers that vanished would have come out."""
        return self.distance_ci.below_zero and self._distance_at_worst(0.0) < 0

    @property
    def far(self) -> float:
        """The most that it may have gone from its ideal, vanished answers at their worst; NaN where not bounded."""
        return self._distance_at_worst(self.least) if self.distance_ci.defined else NAN

    @property
    def worst(self) -> Interval:
        """`limits`, at least as wide as few items allow, and with the answers that vanished at their worst."""
        low, high = min(self.limits.low, self.delta - self.least), max(self.limits.high, self.delta + self.least)
        return at_worst(Interval(low, high, self.limits.level), self.delta, self.hidden, self.one_flip)

    def _distance_at_worst(self, least: float) -> float:
        farther = max(-self.hidden[0], self.hidden[1]) if self.ideal == 0 else -self.hidden[0]
        distance = abs(self.variant - self.ideal) - abs(self.base - self.ideal)
        return distance + reach(max(self.distance_ci.high - distance, least), farther, self.one_flip)


@dataclass(frozen=True)
class Noise:
    """What noise does to a sum of squared effects: trace, 2 trace V^2 and largest eigenvalue of V (`movement.py`)."""

    trace: float
    degenerate: float
    largest: float
    df: int


@dataclass(frozen=True)
class SlopeChange:
    """By which factor decisions weakened (below 1) or strengthened; NaN where undefined, the interval says why."""

    value: float
    ci: Interval  # 95 %
    se: float

    @property
    def fainter(self) -> bool:
        return self.ci.defined and self.ci.high < 1

    @property
    def sharper(self) -> bool:
        return self.ci.defined and self.ci.low > 1


@dataclass(frozen=True, kw_only=True)
class SpreadChange:
    """What happened to one attribute: movement (who is treated otherwise, by how much), size, scale-free size.

    Squared quantities are said to be; all others are in `unit`. NaN with `reason` where undefined.
    """

    attribute: str
    name: Text
    unit: str
    margin: float
    n_clusters: int  # usable ones
    fewest_clusters: int
    movement: float = NAN  # root of the movement, 0 where its estimate is negative
    movement_high: float = NAN  # its one-sided 95 % upper limit
    hidden: float = 0.0  # what answers that vanished could add to it
    p: float = NAN  # that the groups did not move, beyond what one slope for all explains
    p_movement: float = NAN  # the same without regard to a slope
    d_base: float = NAN  # size of the spread, sqrt(max(U, 0))
    d_variant: float = NAN
    base_low: float = NAN  # lower end of the base's, 0 where no gap is told from noise
    delta: float = NAN  # squared: U of the variant less U of the base
    ci: Interval = UNDEFINED  # 95 %, of delta
    p_size: float = NAN  # sign-flip p of delta
    scale_free_variant: float = NAN  # the variant's size in units of the base's decisions (d_variant / slope)
    scale_free_delta: float = NAN  # squared: U of the variant / slope^2 less U of the base
    scale_free_ci: Interval = UNDEFINED
    mde: float = NAN  # root of the smallest movement found with 80 % power, at the level the row is judged by
    noise: Noise | None = None  # what `mde` is computed from
    unturned: int = 0  # of single choices none of which turned: so many would have shown that little moves; else 0
    groups: tuple[GroupChange, ...] = ()  # each group's own change of effect; p adjusted within the attribute
    p_adjusted: float = NAN  # over attributes and rows; filled by `settle`
    reason: Text | None = None  # why undefined

    @property
    def carriers(self) -> tuple[GroupChange, ...]:
        """The groups whose own change is told from chance, largest first."""
        told = [g for g in self.groups if g.p_adjusted < 0.05]
        return tuple(sorted(told, key=lambda g: -abs(g.delta)))

    def larger(self, attributes: int = 1) -> bool:
        """Whether the size grew, as it is or in units of the model's decisions; 5 % over so many attributes."""
        raw = self.p_size * attributes < 0.05 and _told(self.delta, self.ci, attributes) > 0
        return raw or _told(self.scale_free_delta, self.scale_free_ci, attributes) > 0

    def smaller(self, attributes: int = 1) -> bool:
        """Whether the size as it is shrank, and the base's own gap is told from noise."""
        return self.base_low > 0 and self.p_size * attributes < 0.05 and _told(self.delta, self.ci, attributes) < 0

    @property
    def smaller_whatever_vanished(self) -> bool:
        """Whether the size stays below the base's with the answers that vanished at their worst: they could add as much
        as `hidden` to the root."""
        return self.ci.high + 2 * self.d_variant * self.hidden + self.hidden**2 < 0

    def scale_free_smaller(self, attributes: int = 1) -> bool:
        return _told(self.scale_free_delta, self.scale_free_ci, attributes) < 0


def _told(delta: float, ci: Interval, attributes: int) -> int:
    """Sign of a change whose 95 % interval, widened for a choice among so many, excludes 0; else 0."""
    half = (ci.high - ci.low) / 2 * float(norm.ppf(1 - 0.025 / attributes) / norm.ppf(0.975))
    return int(np.sign(delta)) if ci.defined and abs(delta) > half else 0


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


@dataclass(frozen=True, kw_only=True)
class Change(Described):
    """A row's "change" object. Built by `compare`; `settle` replaces p_adjusted, noise, verdict, reason."""

    base: float  # score over the items scored in both
    variant: float
    delta: float
    ci: Interval
    limits: Interval  # both one-sided 95 % limits of the change, which `equivalent` asks to lie inside the margin
    distance_delta: float
    distance_ci: Interval
    level_ci: Interval  # middle = (variant + base)/2 - ideal; crows-pairs' second condition
    spreads: tuple[SpreadChange, ...]
    p: float  # smallest of what the verdict rests on
    p_score: float  # swap permutation of the paper score; NaN when not run
    mde: float  # margin, mde and noise are in the unit of what the verdict rests on (a spread: of its square root)
    groups: tuple[GroupChange, ...]
    flips: Flips | None
    unanswered: Change | None = None  # "who is answered": the share without a usable answer as a row of its own
    mcnemar_p: float = NAN
    slope: SlopeChange | None = None  # None: the benchmark has no decisions whose strength could be compared
    beyond_slope: Interval = UNDEFINED  # mean log-ratio less slope x the base's, for every slope in its interval
    hidden: tuple[float, float] = (0.0, 0.0)  # how far the change would move were the vanished answers at their worst
    score_bounds: tuple[float, float] = (NAN, NAN)  # lowest and highest change of the score the unanswered could hide
    se: float = NAN  # standard error of `delta`
    df: float = float("inf")  # degrees of freedom behind it
    arms: tuple[ArmChange, ...] = ()
    p_adjusted: float = NAN
    noise: float = NAN  # NaN: not measured
    engine_noise: float = NAN  # what the base's own weights in another engine move; NaN: not measured
    verdict: Verdict = Verdict.INCONCLUSIVE
    reason: Text = ""

    def largest(self, sign: int) -> GroupChange | None:
        """The group that rose (+1) or fell (-1) most, among those whose interval excludes 0; None when none does."""
        told = [g for g in self.groups if g.ci.excludes_zero and g.delta * sign > 0]
        return max(told, key=lambda g: abs(g.delta), default=None)

    @property
    def companion(self) -> SpreadChange | None:
        """The attribute the verdict was decided by; before `settle`, the first."""
        return self.spreads[0] if self.spreads else None

    @property
    def judged(self) -> tuple[SpreadChange, ...]:
        """The attributes the verdict rests on: those with a margin."""
        return tuple(s for s in self.spreads if np.isfinite(s.margin)) if self.rests_on != "score" else ()
