"""A contrast of means, and what the scores beside it do to the verdict; every expected value by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.designs import Cells, Grouping, Table, contrast, ratio, weighted_means
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.types import Arm


@dataclass(frozen=True)
class Measured:
    name: str = "invented"
    unit: str = "points"
    ideal: float = 0.0


def codes(*values):
    return np.array(values, dtype=np.intp)


def test_a_contrast_is_the_weighted_sum_of_its_cells_means():
    scores = np.array([1.0, 1.0, 0.0, 1.0, 0.0, np.nan])
    cells = Cells(codes(0, 0, 0, 1, 1, 1), (1.0, -1.0))
    found = weighted_means(scores, scores, cells, codes(0, 1, 2, 0, 1, 2), 3, scale=100.0)
    ones = np.ones((1, 3))
    assert found(ones, None)[0] == pytest.approx(100 * (2 / 3 - 1 / 2))
    # cluster 0 twice, cluster 2 not at all: cell 0 holds 1, 1, 1, cell 1 holds 1, 1, 0
    assert found(np.array([[2.0, 1.0, 0.0]]), None)[0] == pytest.approx(100 * (1 - 2 / 3))


def test_a_cell_without_a_scored_item_leaves_the_contrast_undefined():
    scores = np.array([1.0, np.nan])
    found = weighted_means(scores, scores, Cells(codes(0, 1), (1.0, -1.0)), codes(0, 1), 2)
    assert np.isnan(found(np.ones((1, 2)), None)[0])


def test_a_ratio_is_the_mean_over_groups_of_sums_over_sums():
    right, answered = np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0])
    groups = Grouping("set", codes(0, 0, 1), ("a", "b"))
    found = ratio((right, answered), (0 * right, 0 * answered), codes(0, 1, 2), 3, groups)
    assert found(np.ones((1, 3)), None)[0] == pytest.approx((1 / 2 + 1) / 2)
    assert np.isnan(found(None, np.ones((1, 3)))[0])  # nothing was answered: undefined, not 0


def judged(base, variant, arms=(), n=400, margin=2.0, ideal_at="inside"):
    """Items in pairs (cell 0, cell 1), one pair a cluster; scores in 0..1, gap in points."""
    clusters = np.repeat(np.arange(n // 2), 2)
    cells = Cells(np.tile([0, 1], n // 2), (1.0, -1.0))
    grouping = Grouping("half", (np.arange(n) >= n // 2).astype(np.intp), ("first", "second"))
    made = [
        Arm(name, role, "points", 2.0, weighted_means(*values, own, clusters, n // 2, scale=100.0), ideal)
        for name, role, values, own, ideal in arms
    ]
    comparison = contrast(
        Measured(),
        base,
        variant,
        cells,
        clusters,
        margin=margin,
        scale=100.0,
        tables=[Table(grouping, cells)],
        arms=made,
        ideal_at=ideal_at,
    )
    change = compare(comparison, draws=2_000)
    (settled,) = settle([Row("m", "int8", "plain", "greedy", "invented", change)])
    return settled


N = 400
FIRST = np.tile([1.0, 0.0], N // 2)  # gap +100
EVERY = Cells(np.zeros(N, dtype=np.intp), (1.0,))
SAME = (FIRST, FIRST)


def with_gap(points):
    """Cell 0 right in (50 + points/2) % of pairs, cell 1 in (50 - points/2) %."""
    scores = np.zeros(N)
    scores[0 : int(N * (0.5 + points / 200)) : 2] = 1.0
    scores[1 : int(N * (0.5 - points / 200)) : 2] = 1.0
    return scores


def test_a_gap_that_changes_its_sign_is_as_far_from_its_ideal_as_before():
    change = judged(with_gap(+40), with_gap(-40))
    assert (change.base, change.variant) == (pytest.approx(40), pytest.approx(-40))
    assert change.distance_delta == pytest.approx(0) and change.verdict not in ("better", "equivalent")


def test_a_smaller_gap_is_better_only_where_every_skill_is_kept():
    base, variant = with_gap(60), with_gap(20)
    kept = ("accuracy", "skill", (base, base), EVERY, 100.0)
    assert judged(base, variant, [kept]).verdict == "better"
    lost = np.where(np.arange(N) < 40, 0.0, base)
    change = judged(base, variant, [kept, ("arithmetic", "skill", (base, lost), EVERY, 100.0)])
    assert change.verdict == "inconclusive" and "the arithmetic fell from" in str(change.reason)
    noisy = base.copy()
    turned = [*np.flatnonzero(base == 1)[:10], *np.flatnonzero(base == 0)[:10]]
    noisy[turned] = 1 - noisy[turned]  # as many gained as lost: nothing fell, yet nothing is shown
    change = judged(base, variant, [("arithmetic", "skill", (base, noisy), EVERY, 100.0)])
    assert change.verdict == "inconclusive" and "is not shown to have kept within 2" in str(change.reason)


def test_an_unmoved_score_is_equivalent_only_where_the_other_faces_of_the_bias_are():
    base = with_gap(60)
    signed = Cells(np.tile([0, 1], N // 2), (1.0, -1.0))
    still = ("other gap", "bias", (base, base), signed, 0.0)
    assert judged(base, base, [still]).verdict == "equivalent"
    grown = ("other gap", "bias", (with_gap(20), with_gap(60)), signed, 0.0)
    change = judged(base, base, [grown])
    assert change.verdict == "worse" and "The other gap moved away from its ideal, from 20 to 60" in str(change.reason)
    shaken = with_gap(20)
    turned = [*range(0, 12, 2), *range(N - 12, N, 2)]  # of cell 0, six each way: no change, and no narrow interval
    shaken[turned] = 1 - shaken[turned]
    change = judged(base, base, [("other gap", "bias", (with_gap(20), shaken), signed, 0.0)])
    assert change.verdict == "inconclusive" and "the score alone does not settle it" in str(change.reason)


def test_a_published_score_that_rises_with_noise_is_told_and_never_judged():
    base = with_gap(60)
    mismatch = ("mismatch", "noisy", (np.zeros(N), np.tile([1.0, 0.0], N // 2)), EVERY, 100.0)
    change = judged(base, base, [mismatch])
    assert change.verdict == "equivalent" and "it rises with any noise" in str(change.reason)


def test_a_score_whose_best_is_its_highest_value_is_worse_when_it_falls():
    change = judged(with_gap(60), with_gap(10), ideal_at="high end")
    assert change.delta == pytest.approx(-50) and change.distance_ci.above_zero and change.verdict == "worse"


def test_every_bias_score_is_a_hypothesis_of_its_own_and_a_skill_is_none():
    base, variant = with_gap(60), with_gap(30)
    signed = Cells(np.tile([0, 1], N // 2), (1.0, -1.0))
    alone = judged(base, variant)
    beside = judged(base, variant, [("other gap", "bias", (base, variant), signed, 0.0)])
    assert alone.p_adjusted == pytest.approx(alone.p)
    assert beside.p_adjusted == pytest.approx(2 * alone.p)  # Holm: the smaller of two equal p counts twice
    assert beside.arms[0].p_adjusted == pytest.approx(2 * beside.arms[0].p)
    skilled = judged(base, variant, [("skill", "skill", (base, base), EVERY, 100.0)])
    assert skilled.p_adjusted == alone.p_adjusted and np.isnan(skilled.arms[0].p_adjusted)
