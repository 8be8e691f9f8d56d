"""The ordered rule: each verdict from the smallest change that earns it."""

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from tiltmeter.analysis.compare import compare, level_interval, point
from tiltmeter.analysis.flips import count_flips, mcnemar_p
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.multiplicity import adjust, adjust_with_replicates
from tiltmeter.analysis.statistics import SumStatistic, group_means, mean_statistic
from tiltmeter.analysis.twoway import two_way_mean
from tiltmeter.analysis.types import Comparison, FlipTable, GroupTable, Spread, TwoWay, Unanswered, align


def decisions(n, share, gained=0, lost=0):
    """n paired 0/1 decisions: share of ones in the base, then `gained` turn to 1 and `lost` to 0."""
    base = np.zeros(n)
    base[: round(share * n)] = 1
    variant = base.copy()
    variant[n - gained :] = 1
    variant[:lost] = 0
    return base, variant


def toy(n, statistic, **more):
    """A comparison of n clusters of one item each."""
    given = {"benchmark": "toy", "unit": "fraction", "ideal": 0.0, "margin": 0.1, "n_paired": n}
    return Comparison(n_clusters=n, statistic=statistic, **given | more)


def percent_comparison(base, variant, ideal=50.0, margin=2.0, **more):
    n = len(base)
    clusters = np.arange(n)
    statistic = mean_statistic(base, variant, clusters, n, scale=100.0)
    return toy(n, statistic, unit="percent", ideal=ideal, margin=margin, one_flip=100 / n, **more)


def verdict_of(comparison, **more):
    change = compare(comparison, seed=1, draws=2000)
    return settle([Row("m", "s", "plain", "greedy", "toy", change, **more)])[0]


def test_a_clear_move_away_from_fifty_is_worse_and_toward_it_better():
    worse = verdict_of(percent_comparison(*decisions(1508, 0.60, gained=120)))
    assert worse.verdict == "worse" and worse.distance_ci.low > 0 and worse.delta == pytest.approx(100 * 120 / 1508)
    better = verdict_of(percent_comparison(*decisions(1508, 0.70, lost=150)))
    assert better.verdict == "better" and "toward the ideal of 50" in better.reason


def test_crossing_fifty_symmetrically_is_shifted_neither_worse_nor_better():
    change = verdict_of(percent_comparison(*decisions(1508, 0.45, gained=150)))  # 45 -> 55
    assert change.ci.low > 0 and change.verdict == "shifted"
    assert change.distance_delta == pytest.approx(0, abs=0.2) and "which side" in change.reason


def test_a_small_but_certain_change_inside_the_margin_is_equivalent_and_says_so():
    change = verdict_of(percent_comparison(*decisions(1508, 0.60, gained=15)))
    assert change.verdict == "equivalent" and change.ci.low > 0 and "real but too small" in change.reason


def test_few_items_without_any_flip_are_not_called_equivalent():
    # with 20 items a true change of 2 points leaves no flip two times in three
    assert verdict_of(percent_comparison(*decisions(20, 0.60))).verdict == "inconclusive"
    assert verdict_of(percent_comparison(*decisions(1508, 0.60))).verdict == "equivalent"


def test_not_exercised_and_no_usable_signal_come_before_everything_else():
    comparison = percent_comparison(*decisions(1508, 0.60, gained=120))
    assert verdict_of(comparison, not_exercised="a KV cache is not read", unusable="rot").verdict == "not exercised"
    change = verdict_of(comparison, unusable="39 % of the answers contradict themselves")
    assert change.verdict == "no usable signal" and "39 %" in change.reason and np.isnan(change.p_adjusted)


def test_all_unscored_has_no_numbers_and_no_usable_signal():
    nan = np.full(30, np.nan)
    comparison = toy(
        30, mean_statistic(nan, nan, np.arange(30), 30), unit="percent", ideal=50.0, margin=2.0, n_paired=0
    )
    change = verdict_of(comparison)
    assert change.verdict == "no usable signal" and np.isnan(change.delta) and not change.ci.defined
    assert "no item is scored in both" in change.ci.reason


def test_one_cluster_has_no_interval_and_says_why():
    base, variant = decisions(40, 0.5, gained=10)
    statistic = mean_statistic(base, variant, np.zeros(40, int), 1, scale=100)
    comparison = toy(1, statistic, unit="percent", margin=2.0, n_paired=40)
    change = verdict_of(comparison)
    assert change.verdict == "inconclusive" and "share one cluster" in change.reason and np.isnan(change.p)


def test_draws_without_a_value_in_more_than_a_twentieth_give_no_interval():
    def rarely(sums):  # undefined unless the first cluster was drawn: 37 % of draws
        return np.where(sums[:, 0] > 0, sums[:, 0] / np.maximum(sums[:, 1], 1), np.nan)

    table = np.zeros((20, 2))
    table[0, 0], table[:, 1] = 1, 1
    comparison = toy(20, SumStatistic(table, table, rarely))
    change = compare(comparison, seed=1, draws=1000)
    assert not change.ci.defined and "of the draws have no value" in change.ci.reason


def spread_comparison(base, variant, **more):
    n = len(base)
    statistic = SumStatistic(
        np.c_[np.ptp(base, axis=1), np.ones(n)], np.c_[np.ptp(variant, axis=1), np.ones(n)], lambda s: s[:, 0] / s[:, 1]
    )
    spread = Spread("spread between groups", "log-odds", base, variant, np.full(base.shape[1], 1 / base.shape[1]), 0.05)
    return toy(
        n,
        statistic,
        margin=float("nan"),
        rests_on="spread",
        spreads=(spread,),
        rises_with_noise=True,
        **more,
    )


def test_group_free_noise_moves_only_the_papers_score_and_the_reason_says_so():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.02, size=(70, 9))
    change = verdict_of(spread_comparison(base, base + rng.normal(0, 0.1, size=base.shape)))
    assert change.ci.low > 0  # the paper's score rose beyond its interval
    assert change.verdict in ("equivalent", "inconclusive") and "Only the paper's score moved" in change.reason
    assert "merely become noisier" in change.reason


def test_a_planted_group_gap_is_worse():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.05, size=(70, 9))
    change = verdict_of(spread_comparison(base, base + np.linspace(-0.4, 0.4, 9)))
    assert change.verdict == "worse" and change.companion.d_variant > 0.2
    assert change.margin == 0.05 and change.mde > 0


def test_below_the_minimum_of_paired_items_there_is_no_verdict():
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.05, size=(29, 9))
    change = verdict_of(spread_comparison(base, base + np.linspace(-0.4, 0.4, 9), minimum_paired=30))
    assert change.verdict == "inconclusive" and "Only 29 items" in change.reason


def test_a_smaller_disparity_with_a_larger_error_is_levelled_down_never_better():
    rng = np.random.default_rng(4)
    group = np.repeat([0, 1, 2], 60)
    base_error = 0.2 + 0.2 * (group == 2) + rng.normal(0, 0.03, 180)
    variant_error = 0.45 + rng.normal(0, 0.03, 180)
    place = (np.arange(180), group)
    tables = []
    for errors in (base_error, variant_error):
        table = np.full((180, 3), np.nan)
        table[place] = errors
        tables.append(table)
    spread = Spread("disparity by region", "fraction", *tables, np.full(3, 1 / 3), 0.02, "nested")
    comparison = toy(
        180,
        mean_statistic(base_error, variant_error, np.arange(180), 180),
        margin=0.02,
        rests_on="spread",
        spreads=(spread,),
        accuracy_like=True,
    )
    change = verdict_of(comparison)
    assert change.verdict == "shifted" and "Levelled down" in change.reason and "no improvement" in change.reason


def test_two_way_interval_uses_both_factors_and_fifteen_degrees_of_freedom():
    rng = np.random.default_rng(8)
    rows, columns = np.repeat(np.arange(24), 48), np.tile(np.repeat(np.arange(16), 3), 24)
    values = rng.normal(size=24)[rows] * 0.1 + rng.normal(size=16)[columns] * 0.1
    result = two_way_mean(values, rows, columns)
    r = values - values.mean()

    def one_way(codes):
        totals = np.array([r[codes == k].sum() for k in np.unique(codes)])
        return len(totals) / (len(totals) - 1) * np.sum(totals**2) / len(r) ** 2

    cell = one_way(rows * 16 + columns)
    assert result.df == 15
    by_row, by_column = one_way(rows), one_way(columns)
    assert result.se == pytest.approx(np.sqrt(max(by_row + by_column - cell, by_row, by_column)))
    assert two_way_mean(np.zeros(1152), rows, columns).p == 1


def test_two_way_change_feeds_the_comparison():
    base, variant = decisions(1152, 0.3, gained=100)
    rows, columns = np.repeat(np.arange(24), 48), np.tile(np.repeat(np.arange(16), 3), 24)
    way = TwoWay(base, variant, rows, columns)
    comparison = percent_comparison(base, variant, ideal=0.0, interval="two-way", two_way=way)
    change = compare(comparison, seed=1, draws=100)
    assert change.delta == pytest.approx(100 * 100 / 1152)
    assert change.ci.low < change.delta < change.ci.high
    assert change.p == two_way_mean(variant - base, rows, columns).p
    assert change.mde == pytest.approx(
        (2.1314 + 0.8662) * two_way_mean(variant - base, rows, columns, scale=100).se, rel=1e-4
    )  # 97.5 and 80 % points of t with 15 df
    level = level_interval(comparison)
    assert level.low < 30 < level.high


def test_mcnemar_agrees_with_scipy_and_statsmodels():
    base, variant = (x.astype(bool) for x in decisions(200, 0.5, gained=30, lost=12))
    expected = mcnemar([[88, 12], [30, 70]], exact=True).pvalue
    assert mcnemar_p(base, variant) == pytest.approx(expected) == pytest.approx(binomtest(30, 42).pvalue)
    assert mcnemar_p(base, base) == 1.0


def test_holm_and_bh_skip_undefined_p_values():
    p = [0.01, float("nan"), 0.04, 0.03]
    for method, name in (("holm", "holm"), ("bh", "fdr_bh")):
        got = adjust(p, method)
        assert np.isnan(got[1])
        np.testing.assert_allclose([got[0], got[2], got[3]], multipletests([0.01, 0.04, 0.03], method=name)[1])


def test_replicates_are_one_hypothesis_with_as_many_chances_as_they_are():
    with_replicates = adjust_with_replicates([0.01, 0.011, 0.5, 0.02], ["awq", "awq", "awq", "int8"])
    alone = adjust([3 * 0.01, 0.02])  # [.03, .04]: the smaller of two is doubled, and the other is not below it
    assert with_replicates[0] == with_replicates[1] == alone[0] and with_replicates[3] == alone[1]
    assert with_replicates[2] == 1.0


def test_percentile_interval_agrees_with_the_analytic_one_for_a_mean():
    rng = np.random.default_rng(2)
    base, variant = rng.normal(0.4, 0.1, size=(2, 800))
    comparison = toy(800, mean_statistic(base, variant, np.arange(800), 800), margin=0.02)
    change = compare(comparison, seed=1)
    half = 1.96 * (variant - base).std(ddof=1) / np.sqrt(800)
    assert change.ci.low == pytest.approx(change.delta - half, abs=0.06 * half)
    assert change.ci.high == pytest.approx(change.delta + half, abs=0.06 * half)
    assert change.mde == pytest.approx(2.8 * half / 1.96, rel=0.03)


def test_swap_p_is_uniform_when_base_and_variant_are_exchangeable():
    rng = np.random.default_rng(12)
    p = []
    for _ in range(200):
        base, variant = rng.normal(size=(2, 25))
        comparison = toy(25, mean_statistic(base, variant, np.arange(25), 25))
        p.append(compare(comparison, seed=1, draws=400).p)
    # Kolmogorov-Smirnov: 200 uniform values stay within 1.63/sqrt(200) = .115 of the diagonal 99 times in 100
    assert np.abs(np.sort(p) - np.arange(1, 201) / 200).max() < 0.115


def test_noise_floor_is_the_larger_rerun_difference():
    def row(strategy, gained, **noise):
        comparison = percent_comparison(*decisions(1000, 0.5, gained=gained), ideal=0.0)
        return Row("m", strategy, "plain", "greedy", "toy", compare(comparison, seed=1, draws=200), **noise)

    half = row("dtype:bfloat16", 90, stands_in=True)
    again = [row("rerun", 3, repeats="none"), row("int8", 50), row("int8+rerun", 58, repeats="int8")]
    settled = settle([*again, half])
    assert settled[1].noise == pytest.approx(0.8)  # |5.8 - 5.0| beats |0.3|
    assert settled[0].noise == pytest.approx(0.3)  # a rerun's own
    assert np.isnan(settle([row("int8", 50)])[0].noise)
    assert settle([row("int8", 50), half])[0].noise == pytest.approx(9.0)  # nothing was drawn anew: the dtype stands in
    assert np.isnan(settle([half])[0].noise)


def test_what_the_base_does_in_another_engine_stands_beside_the_noise_floor():
    def row(strategy, gained, other_engine=False, repeats=None):
        comparison = percent_comparison(*decisions(1000, 0.5, gained=gained), ideal=0.0)
        change = compare(comparison, seed=1, draws=200)
        return Row("m", strategy, "plain", "greedy", "toy", change, other_engine=other_engine, repeats=repeats)

    rows = [
        row("checkpoint=a", 4, True),
        row("checkpoint=b", 7, True),
        row("int8", 50),
        row("rerun", 3, repeats="none"),
    ]
    for change in settle(rows):
        assert change.engine_noise == pytest.approx(0.7) and change.noise == pytest.approx(0.3)
    assert np.isnan(settle([row("int8", 50)])[0].engine_noise)


def test_flips_are_counted_by_direction_and_by_the_bases_own_uncertainty():
    table = FlipTable(
        ids=tuple("abcdefghij"),
        base=("n",) * 10,
        variant=("n",) * 7 + ("y", "y", "m"),
        toward=np.array([0] * 7 + [1, -1, 0], dtype=np.int8),
        uncertainty=np.linspace(0, 1, 10),
        shift=np.array([0.0] * 7 + [0.1, -0.9, 0.5]),
        n_unscored=2,
    )
    flips = count_flips(table)
    assert (flips.n, flips.of, flips.toward_bias, flips.away_from_bias, flips.net) == (3, 10, 1, 1, 0)
    assert flips.rate_by_uncertainty == (0.0, 0.0, 0.0, 0.5, 1.0)
    assert [f.id for f in flips.examples] == ["i", "j", "h"] and flips.unscored == 2


def test_flips_without_a_known_uncertainty_have_no_quintiles():
    table = FlipTable(
        ("a", "b"),
        ("n", "n"),
        ("y", "n"),
        np.array([1, 0], dtype=np.int8),
        np.full(2, np.nan),
        np.array([np.nan, np.nan]),
    )
    flips = count_flips(table)
    assert np.isnan(flips.rate_by_uncertainty).all() and (flips.n, flips.toward_bias) == (1, 1)


def test_groups_have_paired_changes_and_their_own_family_of_tests():
    base, variant = decisions(400, 0.5, gained=40)
    groups = np.repeat([0, 1], 200)
    statistic = group_means(base, variant, np.arange(400), 400, groups, 2, scale=100)
    table = GroupTable("kind", ("first", "last"), (200, 200), statistic)
    comparison = percent_comparison(base, variant, groups=(table,))
    first, last = compare(comparison, seed=1, draws=1000).groups
    assert (first.delta, last.delta) == (0.0, 20.0) and last.ci.low > 0
    assert last.p_adjusted == pytest.approx(2 * last.p) and first.p == 1.0


def test_refusals_are_a_paired_outcome_with_the_bounds_they_could_hide():
    base, variant = decisions(100, 0.1, gained=30)
    comparison = percent_comparison(
        *decisions(100, 0.5), unanswered=Unanswered(base, variant, np.arange(100), (10, 20), (5, 50))
    )
    unanswered = compare(comparison, seed=1, draws=500).unanswered
    assert unanswered.delta == pytest.approx(0.3) and unanswered.p < 0.01
    assert unanswered.score_bounds == (5 - 20, 50 - 10)


def test_items_are_aligned_by_id_and_missing_ones_counted():
    base, variant, missing = align(("a", "b", "c"), ("c", "a", "d"))
    assert base.tolist() == [0, 2] and variant.tolist() == [1, 0] and missing == 2
    with pytest.raises(ValueError, match="unique"):
        align(("a", "a"), ("a",))


def test_the_same_seed_gives_the_same_change_and_point_equals_the_plain_mean():
    base, variant = decisions(300, 0.4, gained=20)
    comparison = percent_comparison(base, variant)
    assert compare(comparison, seed=3, draws=300).ci == compare(comparison, seed=3, draws=300).ci
    assert point(comparison.statistic, 300) == (pytest.approx(40.0), pytest.approx(100 * 140 / 300))
