"""Pooled statistics against the plain definitions they stand for."""

import numpy as np
import pytest

from tiltmeter.analysis.bootstrap import bootstrap, bootstrap_weights, swap_weights
from tiltmeter.analysis.statistics import (
    CountryMedians,
    gini,
    group_means,
    largest_minus_smallest,
    mean_statistic,
)

RNG = np.random.default_rng(3)


def plain_gini(values):
    """Half the relative mean absolute difference over all n x n pairs."""
    differences = [abs(a - b) for a in values for b in values]
    return np.mean(differences) / 2 / np.mean(values)


def test_gini_is_half_the_relative_mean_absolute_difference():
    values = RNG.random((4, 9))
    np.testing.assert_allclose(gini(values), [plain_gini(row) for row in values], rtol=1e-12)
    assert gini(np.array([[1.0, 1.0, 1.0]]))[0] == 0
    assert np.isnan(gini(np.array([[0.0, 0.0]]))[0])


def test_country_medians_equal_numpy_medians_of_the_repeated_distances():
    base, variant = RNG.random((2, 40, 6))
    base[RNG.random(base.shape) < 0.5] = np.nan
    base[:, 2] = np.nan  # a country nobody asked
    base[:, 1] = np.round(base[:, 1], 1)  # ties
    medians = CountryMedians(base, variant)
    for weights in bootstrap_weights(40, 30, seed=1):
        for row, got in zip(weights.astype(int), medians(weights, None), strict=True):
            repeated = np.repeat(base, row, axis=0)
            expected = [np.median(c[~np.isnan(c)]) if (~np.isnan(c)).any() else np.nan for c in repeated.T]
            np.testing.assert_allclose(got, expected, rtol=0, atol=0)


def test_country_medians_of_swapped_rows_pool_both_models():
    base, variant = RNG.random((2, 15, 3))
    swapped = next(swap_weights(15, 5, seed=2))
    got = CountryMedians(base, variant)(swapped, 1 - swapped)
    expected = [np.median(np.where(row[:, None] == 1, base, variant), axis=0) for row in swapped]
    np.testing.assert_allclose(got, expected)


def test_bootstrap_of_a_mean_equals_resampling_whole_clusters_by_hand():
    scores_b, scores_v = RNG.random((2, 12, 2))
    scores_b[0, 0] = np.nan
    clusters = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4])
    statistic = mean_statistic(scores_b, scores_v, clusters, 5, scale=100)
    ((base, variant),) = bootstrap([statistic], 5, seed=9, draws=20)
    for weights, got_b, got_v in zip(next(bootstrap_weights(5, 20, seed=9)), base, variant, strict=True):
        rows = np.concatenate([np.flatnonzero(clusters == k) for k in range(5) for _ in range(int(weights[k]))])
        assert got_b == pytest.approx(100 * np.nanmean(scores_b[rows], axis=0).mean(), rel=1e-12)
        assert got_v == pytest.approx(100 * scores_v[rows].mean(axis=0).mean(), rel=1e-12)


def test_group_means_leave_out_unscored_items_and_items_without_a_group():
    scores = np.array([1.0, 3.0, np.nan, 8.0, 100.0])
    groups = np.array([0, 0, 1, 1, -1])
    statistic = group_means(scores, scores, np.arange(5), 5, groups, 3)
    values = statistic(np.ones((1, 5)), None)[0]
    assert values.tolist()[:2] == [2.0, 8.0] and np.isnan(values[2])
    assert largest_minus_smallest(values[None])[0] == 6.0
    assert np.isnan(largest_minus_smallest(np.array([[1.0, np.nan]]))[0])


def test_a_group_score_of_an_item_with_samples_is_their_mean():
    scores = np.array([[1.0, 0.0], [1.0, np.nan]])
    statistic = group_means(scores, scores, np.arange(2), 2, np.array([0, 0]), 1)
    assert statistic(np.ones((1, 2)), None)[0, 0] == 0.75  # (0.5 + 1.0) / 2


def test_weights_are_the_same_whatever_the_block_and_rows_sum_to_the_clusters(monkeypatch):
    from tiltmeter.analysis import bootstrap

    whole = np.concatenate(list(bootstrap_weights(7, 50, seed=4)))
    assert (whole.sum(axis=1) == 7).all()
    coins = np.concatenate(list(swap_weights(7, 50, seed=4)))
    monkeypatch.setattr(bootstrap, "BLOCK_CELLS", 70)
    np.testing.assert_array_equal(np.concatenate(list(bootstrap_weights(7, 50, seed=4))), whole)
    np.testing.assert_array_equal(np.concatenate(list(swap_weights(7, 50, seed=4))), coins)
