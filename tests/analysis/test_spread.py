"""The noise-corrected spread against its definition, pair by pair, and against what it must not see."""

import itertools

import numpy as np
import pytest

from tiltmeter.analysis.attributes import spread_change
from tiltmeter.analysis.bootstrap import sign_flip_test
from tiltmeter.analysis.spread import quadratic_change
from tiltmeter.analysis.types import Spread

RNG = np.random.default_rng(11)
WEIGHTS = np.array([0.5, 0.3, 0.2])


def crossed_u(d, weights):
    """U = sum_k w_k * mean over ordered pairs of different clusters holding k of d_qk d_q'k."""
    total = 0.0
    for k, w in enumerate(weights):
        column = d[~np.isnan(d[:, k]), k]
        pairs = [a * b for a, b in itertools.permutations(column, 2)]
        total += w * (sum(pairs) / len(pairs) if pairs else 0.0)
    return total


def nested_u(x, group, weights):
    """sum_k w_k (m_k - m)^2 with every square a mean over pairs of different clusters."""
    k = range(len(weights))
    own = [np.mean([a * b for a, b in itertools.permutations(x[group == g], 2)]) for g in k]
    mean = [x[group == g].mean() for g in k]
    square = sum(weights[a] * weights[b] * (own[a] if a == b else mean[a] * mean[b]) for a in k for b in k)
    return sum(weights[g] * own[g] for g in k) - square


def tables(questions=14, missing=0.3):
    base, variant = RNG.normal(size=(2, questions, 3))
    gone = RNG.random(base.shape) < missing
    base[gone], variant[gone] = np.nan, np.nan
    return base, variant


def nested_tables():
    group = np.array([0] * 5 + [1] * 4 + [2] * 6)
    x, y = RNG.normal(size=(2, 15))
    place = (np.arange(15), group)
    base, variant = np.full((2, 15, 3), np.nan)
    base[place], variant[place] = x, y
    return base, variant, x, y, group


def test_change_of_a_crossed_spread_is_the_difference_of_two_pairwise_definitions():
    base, variant = tables()
    change = quadratic_change(base, variant, WEIGHTS, "crossed")
    assert change.delta == pytest.approx(crossed_u(variant, WEIGHTS) - crossed_u(base, WEIGHTS), rel=1e-10)


def test_change_of_a_nested_spread_is_the_difference_of_two_pairwise_definitions():
    base, variant, x, y, group = nested_tables()
    change = quadratic_change(base, variant, WEIGHTS, "nested")
    assert change.delta == pytest.approx(nested_u(y, group, WEIGHTS) - nested_u(x, group, WEIGHTS), rel=1e-10)


@pytest.mark.parametrize("layout", ["crossed", "nested"])
def test_swapping_one_cluster_flips_the_sign_of_its_contribution_exactly(layout):
    base, variant = tables() if layout == "crossed" else nested_tables()[:2]
    before = quadratic_change(base, variant, WEIGHTS, layout)
    swapped_b, swapped_v = base.copy(), variant.copy()
    swapped_b[3], swapped_v[3] = variant[3], base[3]
    after = quadratic_change(swapped_b, swapped_v, WEIGHTS, layout)
    assert after.delta == pytest.approx(before.delta - 2 * before.contributions[3], rel=1e-10)


@pytest.mark.parametrize("layout", ["crossed", "nested"])
def test_variance_is_the_jackknife_written_out(layout):
    base, variant = tables(missing=0.0) if layout == "crossed" else nested_tables()[:2]
    n = len(base)
    left = np.array(
        [quadratic_change(np.delete(base, q, 0), np.delete(variant, q, 0), WEIGHTS, layout).delta for q in range(n)]
    )
    group = np.zeros(n, int) if layout == "crossed" else np.isfinite(base).argmax(axis=1)
    expected = sum(
        (np.sum(group == g) - 1) / np.sum(group == g) * np.sum((left[group == g] - left[group == g].mean()) ** 2)
        for g in np.unique(group)
    )
    assert quadratic_change(base, variant, WEIGHTS, layout).variance == pytest.approx(expected, rel=1e-9)


def test_noise_unrelated_to_group_raises_max_minus_min_but_not_the_spread():
    rng = np.random.default_rng(5)
    naive, corrected = [], []
    for _ in range(200):
        base = rng.normal(0, 0.05, size=(70, 9))
        variant = base + rng.normal(0, 0.2, size=(70, 9))
        naive.append(np.ptp(variant, axis=1).mean() - np.ptp(base, axis=1).mean())
        corrected.append(quadratic_change(base, variant, np.full(9, 1 / 9), "crossed").delta)
    assert min(naive) > 0.2  # every time
    # unbiased: the mean of 200 is within four standard errors of 0
    assert abs(np.mean(corrected)) < 4 * np.std(corrected) / np.sqrt(200)


def test_a_planted_gap_is_found_and_its_size_read_off():
    rng = np.random.default_rng(6)
    effects = np.array([0.3, -0.3, 0.0])
    base = rng.normal(0, 0.2, size=(70, 3))
    change = spread_change(
        Spread("gap", "log-odds", base, base + effects + rng.normal(0, 0.1, (70, 3)), np.full(3, 1 / 3), 0.05), seed=1
    )
    assert change.d_variant == pytest.approx(np.sqrt(0.06), abs=0.05)  # mean of .09, .09, 0
    assert change.ci.above_zero and change.p < 0.001 and change.movement == pytest.approx(np.sqrt(0.06), abs=0.02)


def test_identical_models_have_no_change_and_p_one():
    base, _ = tables(questions=30)
    change = spread_change(Spread("gap", "log-odds", base, base.copy(), WEIGHTS, 0.05), seed=1)
    assert change.delta == 0 and change.p == 1 and change.ci.inside(0.0) and np.isnan(change.mde)


def test_pseudo_flips_keep_the_interval_open_when_no_choice_changed():
    choice = np.eye(3)[RNG.integers(0, 2, 70)] - 1 / 3
    spread = Spread("choices", "share", choice, choice.copy(), np.full(3, 1.5), 0.10, pseudo_flips=2)
    assert spread_change(spread, seed=1).ci.high > 0


def test_too_few_clusters_or_groups_give_nan_with_the_reason():
    base = np.full((4, 3), 0.1)
    change = spread_change(Spread("gap", "log-odds", base, base, WEIGHTS, 0.05), seed=1)
    assert np.isnan(change.delta) and "4 clusters" in change.reason
    base, variant, *_ = nested_tables()
    keep = [0, 1, *range(5, 15)]
    change = spread_change(Spread("regions", "fraction", base[keep], variant[keep], WEIGHTS, 0.05, "nested"), seed=1)
    assert "fewer than 3 clusters" in change.reason and not change.ci.defined


def test_sign_flip_p_of_three_equal_contributions_is_one_quarter():
    # 2 of 8 sign patterns reach |sum| = 3; 10,000 draws put p within .01 of .25
    assert sign_flip_test(np.ones(3), seed=1) == pytest.approx(0.25, abs=0.015)
