"""The paired change of one benchmark between a base and one variant: `compare(Comparison) -> Change`.

Interval   expanded percentile of 10,000 paired cluster draws; estimate +- 1.96 bootstrap standard deviations (Gini);
           two-way clustered t (dt-stereotyping); none where simulation found no valid one, with the reason.
p          swap of whole clusters, two-sided (1 + #) / (1 + draws); for a spread its sign flips; dt-stereotyping its t.
MDE        smallest true change found with 80 % power at the 5 % level: 2.80 se (two-way 3.0 se), a spread
           sqrt(D^2 + 2.84 se_U) - D. NaN where nothing at all changed: no variance, so no honest figure.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from tiltmeter.analysis.bootstrap import bootstrap, normal_interval, percentile_interval, swap_test
from tiltmeter.analysis.flips import count_flips, mcnemar_p
from tiltmeter.analysis.multiplicity import holm
from tiltmeter.analysis.spread import spread_change
from tiltmeter.analysis.statistics import mean_statistic
from tiltmeter.analysis.twoway import two_way_mean
from tiltmeter.analysis.types import (
    Array,
    Change,
    Comparison,
    GroupChange,
    GroupTable,
    Interval,
    Statistic,
    TwoWay,
    Unanswered,
    UnansweredChange,
)
from tiltmeter.messages import Text, say
from tiltmeter.seeds import seed_for

MDE_LINEAR, MDE_TWO_WAY = 2.80, 3.0
FEWEST_IN_GROUP = 10  # paired items; smaller groups get their change but no interval


def compare(comparison: Comparison, *, seed: int = 0, draws: int = 10_000) -> Change:
    """Every number of the change that one pair of models gives; verdict, noise and adjusted p come from `settle`."""
    c = comparison
    base, variant = point(c.statistic, c.n_clusters)
    shared = [t for t in c.groups if t.n_clusters is None and not t.two_way]
    boot_seed, swap_seed = seed_for(seed, "bootstrap", c.benchmark), seed_for(seed, "swap", c.benchmark)
    reason = _no_interval_reason(c)
    wanted = c.interval in ("percentile", "normal") and reason is None
    tables: list[Statistic] = ([c.statistic] if wanted else []) + [t.statistic for t in shared]
    values = bootstrap(tables, c.n_clusters, seed=boot_seed, draws=draws) if tables and c.n_clusters > 1 else []
    ci, level_ci, se = _score_interval(c, base, variant, values[0] if wanted and values else None, reason)
    spreads = tuple(
        spread_change(s, seed=seed_for(seed, "spread", c.benchmark, s.name), draws=draws) for s in c.spreads
    )
    p_score = _score_p(c, swap_seed, draws)
    companion = spreads[0] if spreads else None
    on_spread = c.rests_on == "spread"
    distance_delta, distance_ci = _distance(c, base, variant, ci, level_ci)
    mde = MDE_TWO_WAY * se if c.interval == "two-way" else MDE_LINEAR * se
    groups = _groups(
        c,
        dict(zip(map(id, shared), values[-len(shared) :] if shared else [], strict=bool(values))),
        seed=swap_seed,
        boot_seed=boot_seed,
        draws=draws,
    )
    rests_on_margin = (companion.margin if companion else float("nan")) if on_spread else c.margin
    return Change(
        **c.described() | {"margin": rests_on_margin},
        base=base,
        variant=variant,
        delta=variant - base,
        ci=ci,
        distance_delta=distance_delta,
        distance_ci=distance_ci,
        level_ci=level_ci,
        spreads=spreads,
        p_score=p_score,
        p=(companion.p if companion else float("nan")) if on_spread else p_score,
        mde=(companion.mde if companion else float("nan")) if on_spread else mde if se > 0 else float("nan"),
        groups=groups,
        flips=count_flips(c.flips) if c.flips else None,
        unanswered=_unanswered(c.unanswered, seed=seed, draws=draws) if c.unanswered else None,
        mcnemar_p=mcnemar_p(*c.decisions) if c.decisions else float("nan"),
    )


def point(statistic: Statistic, n_clusters: int) -> tuple[float, float]:
    """(base, variant) value of the statistic on the data as they are."""
    if not n_clusters:
        return float("nan"), float("nan")
    ones = np.ones((1, n_clusters))
    return float(statistic(ones, None)[0]), float(statistic(None, ones)[0])


def level_interval(comparison: Comparison, *, seed: int = 0, draws: int = 10_000) -> Interval:
    """95 % interval of ONE model's score: give a Comparison of the model with itself.

    The Gini's level and DiscrimEvalGen's paper score have none that covers: their Comparison says so.
    """
    c = comparison
    reason = _no_interval_reason(c)
    if c.interval == "normal" and reason is None:
        reason = say("missing.level")
    if reason:
        return Interval(np.nan, np.nan, 0.95, reason)
    if c.two_way is not None:
        return two_way_mean(c.two_way.base, c.two_way.rows, c.two_way.columns, scale=_scale(c)).interval
    ((values, _),) = bootstrap([c.statistic], c.n_clusters, seed=seed_for(seed, "bootstrap", c.benchmark), draws=draws)
    return percentile_interval(values, c.n_clusters)


def _no_interval_reason(c: Comparison) -> Text | None:
    if c.interval == "none":
        return c.interval_reason or say("missing.no_valid")
    if c.n_paired == 0:
        return say("missing.no_pair")
    if c.n_clusters < 2:
        return say("missing.one_cluster")
    return None


def _score_interval(
    c: Comparison, base: float, variant: float, values: tuple[Array, Array] | None, reason: Text | None
) -> tuple[Interval, Interval, float]:
    """(interval of the change, interval of (variant + base)/2 - ideal, standard error of the change)."""
    none = Interval(np.nan, np.nan, 0.95, reason or say("missing.not_computed"))
    if reason:
        return none, none, float("nan")
    if c.two_way is not None:
        t = c.two_way
        change = two_way_mean(t.variant - t.base, t.rows, t.columns, scale=_scale(c))
        return change.interval, none, change.se
    if values is None:
        return none, none, float("nan")
    draws_b, draws_v = values
    change_draws, level_draws = draws_v - draws_b, (draws_v + draws_b) / 2 - c.ideal
    se = float(np.nanstd(change_draws, ddof=1)) if np.isfinite(change_draws).sum() > 1 else float("nan")
    if c.interval == "normal":
        return normal_interval(variant - base, change_draws), none, se
    return (percentile_interval(change_draws, c.n_clusters), percentile_interval(level_draws, c.n_clusters), se)


def _scale(c: Comparison) -> float:
    return 100.0 if c.unit == "percent" else 1.0


def _distance(c: Comparison, base: float, variant: float, ci: Interval, level_ci: Interval) -> tuple[float, Interval]:
    """Change of the distance from the ideal, and its interval.

    An ideal at the end of the scale (0): the change itself. In the middle (50): percentile intervals of |score - 50|
    cover 86-91 % when one model sits near 50, so the interval is projected from those of d = v - b and
    mu = (v + b)/2 - 50: |mu + d/2| - |mu - d/2| is monotone in each, so its extremes lie on the corners.
    """
    distance = abs(variant - c.ideal) - abs(base - c.ideal)
    if c.ideal == 0:
        return distance, ci
    if not (ci.defined and level_ci.defined):
        return distance, Interval(np.nan, np.nan, 0.95, ci.reason)
    corners = [abs(mu + d / 2) - abs(mu - d / 2) for d in (ci.low, ci.high) for mu in (level_ci.low, level_ci.high)]
    return distance, Interval(min(corners), max(corners))


def _score_p(c: Comparison, seed: int, draws: int) -> float:
    if c.two_way is not None:
        t = c.two_way
        return two_way_mean(t.variant - t.base, t.rows, t.columns).p
    if not c.swap_test or c.n_clusters < 2 or c.n_paired == 0:
        return float("nan")
    return float(swap_test([c.statistic], c.n_clusters, seed=seed, draws=draws)[0])


def _groups(
    c: Comparison, values: dict[int, tuple[Array, Array]], *, seed: int, boot_seed: int, draws: int
) -> tuple[GroupChange, ...]:
    """Paired change of every group of every attribute; p adjusted by Holm within this row's groups."""
    rows: list[GroupChange] = []
    for table in c.groups:
        if table.two_way:
            rows += [_two_way_group(table, place, way, c) for place, way in enumerate(table.two_way)]
            continue
        clusters = table.n_clusters or c.n_clusters
        if clusters < 1:
            continue
        ones = np.ones((1, clusters))
        base, variant = table.statistic(ones, None)[0], table.statistic(None, ones)[0]
        drawn = values.get(id(table))
        if drawn is None and clusters > 1:
            drawn = bootstrap([table.statistic], clusters, seed=boot_seed, draws=draws)[0]
        change_draws = None if drawn is None else drawn[1] - drawn[0]
        p = _group_p(table, variant - base, change_draws, clusters, seed, draws)
        for place, group in enumerate(table.groups):
            delta = float(variant[place] - base[place])
            ci = _group_interval(table, place, delta, change_draws, clusters)
            rows.append(
                GroupChange(
                    table.attribute,
                    group,
                    float(base[place]),
                    float(variant[place]),
                    delta,
                    ci,
                    table.n[place],
                    float(p[place]) if ci.defined else float("nan"),
                )
            )
    adjusted = holm([row.p for row in rows])
    return tuple(
        GroupChange(r.attribute, r.group, r.base, r.variant, r.delta, r.ci, r.n, r.p, a)
        for r, a in zip(rows, adjusted, strict=True)
    )


def _group_p(
    table: GroupTable, delta: Array, change_draws: Array | None, clusters: int, seed: int, draws: int
) -> Array:
    if change_draws is None:
        return np.full(len(table.groups), np.nan)
    if table.interval == "percentile":
        return swap_test([table.statistic], clusters, seed=seed, draws=draws)[0]
    sd = np.nanstd(change_draws, axis=0, ddof=1)  # medians are dear to permute: the interval's normal approximation
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sd > 0, 2 * norm.sf(np.abs(delta) / sd), np.where(delta == 0, 1.0, np.nan))


def _group_interval(table: GroupTable, place: int, delta: float, change_draws: Array | None, clusters: int) -> Interval:
    if table.n[place] < FEWEST_IN_GROUP:
        return Interval(np.nan, np.nan, 0.95, say("missing.few_paired", n=FEWEST_IN_GROUP))
    if change_draws is None:
        return Interval(np.nan, np.nan, 0.95, say("missing.one_cluster"))
    if table.interval == "normal":
        return normal_interval(delta, change_draws[:, place])
    return percentile_interval(change_draws[:, place], clusters)


def _two_way_group(table: GroupTable, place: int, way: TwoWay, c: Comparison) -> GroupChange:
    change = two_way_mean(way.variant - way.base, way.rows, way.columns, scale=_scale(c))
    base, variant = (
        float(_scale(c) * np.nanmean(x)) if np.isfinite(x).any() else float("nan") for x in (way.base, way.variant)
    )
    return GroupChange(
        table.attribute, table.groups[place], base, variant, change.estimate, change.interval, table.n[place], change.p
    )


def _unanswered(u: Unanswered, *, seed: int, draws: int) -> UnansweredChange:
    n_clusters = int(u.clusters.max()) + 1 if len(u.clusters) else 0
    statistic = mean_statistic(u.base, u.variant, u.clusters, n_clusters)
    base, variant = point(statistic, n_clusters)
    ci, p = Interval(np.nan, np.nan, 0.95, say("missing.two_clusters")), float("nan")
    if n_clusters > 1:
        drawn_b, drawn_v = bootstrap([statistic], n_clusters, seed=seed_for(seed, "unanswered"), draws=draws)[0]
        ci = percentile_interval(drawn_v - drawn_b, n_clusters)
        p = float(swap_test([statistic], n_clusters, seed=seed_for(seed, "unanswered swap"), draws=draws)[0])
    bounds = (u.variant_bounds[0] - u.base_bounds[1], u.variant_bounds[1] - u.base_bounds[0])
    return UnansweredChange(base, variant, variant - base, ci, p, bounds)
