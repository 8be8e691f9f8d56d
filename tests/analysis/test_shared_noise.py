"""Clusters that share noise, and who carries a movement: an audit's cases, each with the right answer."""

import numpy as np
import pytest

from tiltmeter.analysis.attributes import spread_change
from tiltmeter.analysis.movement import movement_p, square
from tiltmeter.analysis.twoway import two_way_mean
from tiltmeter.analysis.types import Spread


def test_a_change_of_every_statistic_for_itself_is_covered_by_two_way_clusters():
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        country, statistic = np.repeat(np.arange(60), 10), np.tile(np.arange(10), 60)
        change = rng.normal(0, 0.05, 10)[statistic] + rng.normal(0, 0.05, len(country))
        interval = two_way_mean(change, country, statistic).interval
        covered.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) > 0.90  # one-way by country: about .13


def test_noise_that_a_battery_shares_is_not_taken_for_a_movement():
    batteries = np.repeat(np.arange(40), 8)
    told = {"questions": 0, "batteries": 0}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        e = rng.normal(0, 1, (40, 5))[batteries] + rng.normal(0, 1, (320, 5))
        e = e - e.mean(axis=1, keepdims=True)
        means = np.stack([e[batteries == k].mean(axis=0) for k in range(40)])
        weights = np.full(5, 0.2)
        for name, table, counts in (("questions", e, np.ones(e.shape)), ("batteries", means, np.full((40, 5), 8.0))):
            told[name] += movement_p(table, counts, weights, "crossed", seed=seed, draws=200) < 0.05
    assert told["questions"] > 30 and told["batteries"] <= 14  # of 120; 5 %: more than 14 once in 2,000


def test_movement_is_the_mean_product_of_different_clusters_changes():
    rng = np.random.default_rng(13)
    e, weights = rng.normal(0.1, 1, (9, 3)), np.array([0.5, 0.3, 0.2])
    pairs = [weights @ (e[p] * e[q]) for p in range(9) for q in range(9) if p != q]
    assert square(e, np.ones(e.shape), weights, "crossed").value == pytest.approx(np.mean(pairs))


def test_the_upper_limit_of_a_movement_is_wide_enough_at_the_margin():
    inside = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        e = 0.05 * np.array([1.0, -1.0]) + rng.normal(0, 0.1, (20, 1)) * np.array([1.0, -1.0])
        inside += square(e, np.ones(e.shape), np.full(2, 0.5), "crossed").upper() <= 0.05**2
    assert inside <= 0.05 * 400 + 3 * np.sqrt(400 * 0.05 * 0.95)


def test_the_group_that_moved_carries_the_movement():
    rng = np.random.default_rng(14)
    base = rng.normal(0, 0.1, (70, 5))
    variant = base + np.array([0.4, -0.1, -0.1, -0.1, -0.1]) + rng.normal(0, 0.05, base.shape)
    spread = Spread("age", "log-odds", base, variant, np.full(5, 0.2), 0.05, groups=tuple("abcde"))
    first = spread_change(spread, seed=1, draws=200).carriers[0]
    assert first.group == "a" and first.ci.low < 0.4 < first.ci.high
