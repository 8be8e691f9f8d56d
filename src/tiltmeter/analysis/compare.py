"""The paired change of one benchmark between a base and one variant: `compare(Comparison) -> Change`.

Interval   Tango's score interval for single decisions (crows-pairs); expanded percentile of 10,000 paired cluster
           draws; estimate +- 1.96 bootstrap standard deviations (Gini); two-way clustered t (dt-stereotyping,
           worldbench); none where simulation found no valid one, with the reason.
p          exact McNemar for single decisions; swap of whole clusters, two-sided (1 + #) / (1 + draws); two-way: its t.
Attributes movement, size and scale-free size of each (`attributes.py`), where the verdict rests on them.
MDE        smallest true change found with 80 % power, (z + .84) standard errors (two-way: t), or the smallest movement;
           `settle` puts in the level that the row is judged by. NaN where nothing at all changed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.arms import arm_changes, projected
from tiltmeter.analysis.attributes import spread_change
from tiltmeter.analysis.bootstrap import bootstrap, normal_interval, percentile_interval, swap_test
from tiltmeter.analysis.change import UNDEFINED, Change, GroupChange, Interval, SpreadChange
from tiltmeter.analysis.distributions import norm, student
from tiltmeter.analysis.flips import count_flips, mcnemar_p
from tiltmeter.analysis.movement import detectable
from tiltmeter.analysis.multiplicity import holm
from tiltmeter.analysis.proportions import one_sided, paired_interval
from tiltmeter.analysis.slope import beyond, slope_change
from tiltmeter.analysis.statistics import cluster_sums, divide, mean_statistic
from tiltmeter.analysis.twoway import two_way_mean
from tiltmeter.analysis.types import TOST, Array, Comparison, GroupTable, Spread, Statistic, TwoWay, Unanswered
from tiltmeter.messages import Text, named, say
from tiltmeter.seeds import seed_for

DRAWS_OF_A_DEVIATION = 2_000  # a standard deviation is known to 1.6 %; only percentiles need 10,000
ANSWERED_MARGIN = (
    0.05  # share of answers, overall and between groups; smaller changes of who is answered are equivalent
)
FEWEST_ASKED = 30
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
    taken = min(draws, DRAWS_OF_A_DEVIATION) if c.interval == "normal" else draws
    values = bootstrap(tables, c.n_clusters, seed=boot_seed, draws=taken) if tables and c.n_clusters > 1 else []
    ci, limits, level_ci, se, df = _score_interval(c, base, variant, values[0] if wanted and values else None, reason)
    slope = slope_change(c.slope) if c.slope is not None else None
    spreads = tuple(
        spread_change(s, slope, seed=seed_for(seed, "spread", c.benchmark, s.attribute), draws=draws) for s in c.spreads
    )
    p_score = _score_p(c, swap_seed, draws)
    distance_delta, distance_ci = _distance(c, base, variant, ci, level_ci)
    groups = _groups(
        c,
        dict(zip(map(id, shared), values[-len(shared) :] if shared else [], strict=bool(values))),
        seed=swap_seed,
        boot_seed=boot_seed,
        draws=draws,
    )
    change = Change(
        **c.described(),
        base=base,
        variant=variant,
        delta=variant - base,
        ci=ci,
        limits=limits,
        distance_delta=distance_delta,
        distance_ci=distance_ci,
        level_ci=level_ci,
        spreads=spreads,
        p=p_score,
        p_score=p_score,
        mde=float("nan"),
        groups=groups,
        flips=count_flips(c.flips) if c.flips else None,
        unanswered=_unanswered(c, c.unanswered, seed=seed, draws=draws) if c.unanswered else None,
        mcnemar_p=mcnemar_p(*c.decisions) if c.decisions else float("nan"),
        slope=slope,
        beyond_slope=beyond(*c.ratios, slope) if c.ratios is not None and slope is not None else UNDEFINED,
        hidden=c.hidden,
        arms=arm_changes(c.arms, c.n_clusters, c.benchmark, seed=seed, draws=draws),
        se=se,
        df=df,
    )
    return detectable_change(leading(change), 0.05)


def leading(change: Change) -> Change:
    """With the attribute that tells most first, and p and margin of what the verdict rests on."""
    judged = change.judged
    if not judged:
        return change
    first = min(judged, key=_telling)
    rest = tuple(s for s in change.spreads if s is not first)
    p = [s.p for s in judged] + ([change.p_score] if change.rests_on == "both" else [])
    told = [x for x in p if np.isfinite(x)]
    return replace(
        change,
        spreads=(first, *rest),
        p=min(told) if told else float("nan"),
        margin=change.margin if change.rests_on == "both" else first.margin,
    )


def _telling(spread: SpreadChange) -> tuple[float, float]:
    """Sorts attributes: smallest adjusted p first (before `settle`: smallest p), then the largest movement."""
    p = spread.p_adjusted if np.isfinite(spread.p_adjusted) else spread.p
    return (p if np.isfinite(p) else 2.0, -spread.movement / spread.margin if np.isfinite(spread.movement) else 0.0)


def detectable_change(change: Change, alpha: float) -> Change:
    """With the smallest change found with 80 % power at level alpha, of the score and of every attribute."""
    spreads = tuple(replace(s, mde=detectable(s.noise, alpha) if s.noise else float("nan")) for s in change.spreads)
    if change.rests_on == "spread":
        mde = spreads[0].mde if spreads else float("nan")
    else:
        quantile = student.ppf if np.isfinite(change.df) else lambda q, _: norm.ppf(q)
        factor = float(quantile(1 - alpha / 2, change.df) + quantile(0.80, change.df))
        mde = factor * change.se if change.se > 0 else float("nan")
    return replace(change, spreads=spreads, mde=mde)


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
    if c.interval == "absent":
        return c.interval_reason or say("missing.no_valid")
    if c.n_paired == 0:
        return say("missing.no_pair")
    if c.n_clusters < 2:
        return say("missing.one_cluster")
    return None


def _score_interval(
    c: Comparison, base: float, variant: float, values: tuple[Array, Array] | None, reason: Text | None
) -> tuple[Interval, Interval, Interval, float, float]:
    """(interval of the change, its one-sided limits, interval of (variant + base)/2 - ideal, standard error, df)."""
    nan, inf = float("nan"), float("inf")
    none = Interval(np.nan, np.nan, 0.95, reason or say("missing.not_computed"))
    if reason:
        return none, none, none, nan, inf
    if c.interval == "score" and c.decisions is not None:
        b, v = (x.astype(float) for x in c.decisions)
        scale, n = _scale(c), len(b)
        level, half = scale * float(np.mean((b + v) / 2)) - c.ideal, 1.96 * scale * _se((b + v) / 2)
        se = scale * max(_se(v - b), 1 / n if (b != v).any() else 0.0)
        change, limits = paired_interval(*c.decisions, scale=scale), one_sided(*c.decisions, scale=scale)
        return change, limits, Interval(level - half, level + half), se, inf
    if c.two_way is not None:
        t = c.two_way
        mean, wide = (
            two_way_mean(t.variant - t.base, t.rows, t.columns, scale=_scale(c), level=share) for share in (0.95, TOST)
        )
        return mean.interval, wide.interval, none, mean.se, mean.df
    if values is None:
        return none, none, none, nan, inf
    draws_b, draws_v = values
    change_draws, level_draws = draws_v - draws_b, (draws_v + draws_b) / 2 - c.ideal
    se = float(np.nanstd(change_draws, ddof=1)) if np.isfinite(change_draws).sum() > 1 else nan
    if c.interval == "normal":
        change, limits = (normal_interval(variant - base, change_draws, share) for share in (0.95, TOST))
        return change, limits, none, se, inf
    n = c.n_clusters if c.n_usable is None else c.n_usable
    change, limits = (percentile_interval(change_draws, n, share) for share in (0.95, TOST))
    return change, limits, percentile_interval(level_draws, n), se, inf


def _se(values: Array) -> float:
    """Standard error of the mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _scale(c: Comparison) -> float:
    return 100.0 if c.unit == "percent" else 1.0


def _distance(c: Comparison, base: float, variant: float, ci: Interval, level_ci: Interval) -> tuple[float, Interval]:
    """Change of the distance from the ideal, and its interval.

    An ideal at the end of the scale (0): the change itself. In the middle (50): percentile intervals of |score - 50|
    cover 86-91 % when one model sits near 50, so the interval is projected from those of d = v - b and
    mu = (v + b)/2 - 50.
    """
    distance = abs(variant - c.ideal) - abs(base - c.ideal)
    if c.ideal_at == "high end":
        return distance, Interval(-ci.high, -ci.low, ci.level, ci.reason)
    if not c.ideal_inside:
        return distance, ci
    return distance, projected(ci, level_ci)


def _score_p(c: Comparison, seed: int, draws: int) -> float:
    if c.two_way is not None:
        t = c.two_way
        return two_way_mean(t.variant - t.base, t.rows, t.columns).p
    if not c.swap_test or c.n_clusters < 2 or c.n_paired == 0:
        return float("nan")
    if c.interval == "score" and c.decisions is not None:
        return mcnemar_p(*c.decisions)  # what swapping single decisions comes to, without draws
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


def _unanswered(c: Comparison, u: Unanswered, *, seed: int, draws: int) -> Change:
    """ "Who is answered": the share without a usable answer as a change of its own, overall and by group."""
    n = int(u.clusters.max()) + 1 if len(u.clusters) else 0
    of_cluster = [
        divide(*cluster_sums(np.stack([x, np.ones(len(x))], axis=1), u.clusters, n).T) for x in (u.base, u.variant)
    ]
    spreads = tuple(_silence(attribute, codes, names, of_cluster, u, n) for attribute, codes, names in u.groups)
    answered = Comparison(
        benchmark=c.benchmark,
        unit="fraction",
        ideal=0.0,
        margin=ANSWERED_MARGIN,
        n_clusters=n,
        n_paired=len(u.base),
        statistic=mean_statistic(u.base, u.variant, u.clusters, n),
        rests_on="both" if spreads else "score",
        spreads=spreads,
        minimum_paired=FEWEST_ASKED,
        rare=3 / max(n, 1),
    )
    bounds = (u.variant_bounds[0] - u.base_bounds[1], u.variant_bounds[1] - u.base_bounds[0])
    return replace(compare(answered, seed=seed_for(seed, "unanswered"), draws=draws), score_bounds=bounds)


def _silence(
    attribute: str, codes: NDArray[np.intp], names: tuple[str, ...], shares: list[Array], u: Unanswered, n: int
) -> Spread:
    """Shares without an answer (clusters, groups) of clusters that lie in one group each."""
    own = np.full(n, -1)
    own[u.clusters] = codes
    held = own[own >= 0][:, None] == np.arange(len(names))
    size = held.sum(axis=0)
    tables = [np.where(held, x[own >= 0][:, None], np.nan) for x in shares]
    return Spread(
        say("spread.silence", attribute=named("attribute", attribute)),
        "fraction",
        tables[0],
        tables[1],
        size / max(size.sum(), 1),
        ANSWERED_MARGIN,
        layout="nested",
        attribute=attribute,
        groups=names,
    )
