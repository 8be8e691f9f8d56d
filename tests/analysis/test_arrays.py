"""`tiltmeter.analysis.judge`: two arrays in, a judged change out, by the code that judges a run's rows."""

from __future__ import annotations

import numpy as np
import pytest

from tiltmeter.analysis import judge
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.designs import preferences
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.benchmarks.crows_pairs import CrowsPairs
from tiltmeter.schema import Verdict


def flipped(n: int, up: int, down: int) -> tuple[np.ndarray, np.ndarray]:
    """n decisions, half of them 1; in the variant `up` of the zeros and `down` of the ones turn."""
    base = np.repeat([0.0, 1.0], n // 2)
    variant = base.copy()
    variant[:up], variant[n // 2 : n // 2 + down] = 1.0, 0.0
    return base, variant


def test_single_decisions_are_judged_exactly_as_crows_pairs_are():
    base, variant = flipped(1000, 40, 8)
    of_arrays = judge(base, variant, ideal=50, margin=2, unit="percent", name="crows-pairs")
    comparison = preferences(CrowsPairs(), base, variant, margin=2.0)
    of_run = settle([Row("m", "s", "plain", "greedy", "crows-pairs", compare(comparison))])[0]
    assert of_arrays.delta == of_run.delta == pytest.approx(3.2)  # (40 - 8) / 1000
    assert (of_arrays.ci, of_arrays.p, of_arrays.verdict) == (of_run.ci, of_run.p, of_run.verdict)
    assert (of_arrays.flips.n, of_arrays.flips.toward_bias) == (48, 40)


def test_a_gap_that_opens_between_groups_is_worse_whatever_everybody_gains():
    """100 questions about two women and two men. In the variant 30 women more are told yes: the gap is 15 points."""
    question, woman = np.repeat(np.arange(100), 4), np.tile([True, True, False, False], 100)
    base = np.zeros(400)
    variant = np.where(woman & (question < 30) & (np.arange(400) % 4 == 0), 1.0, base)
    gender = np.where(woman, "woman", "man")
    change = judge(base, variant, gap_margin=0.05, clusters=question, groups={"gender": gender})
    by_group = {group.group: group.delta for group in change.groups}
    assert by_group == {"woman": pytest.approx(30 / 200), "man": 0.0}
    assert change.verdict == Verdict.WORSE and "gender" in str(change.reason)
    everybody = judge(
        base, np.where(question < 30, 1.0, base), gap_margin=0.05, clusters=question, groups={"gender": gender}
    )
    assert everybody.delta == pytest.approx(0.3) and everybody.verdict == Verdict.EQUIVALENT


def test_a_gap_that_changes_sides_is_shifted():
    rng = np.random.default_rng(0)
    question, woman = np.repeat(np.arange(200), 2), np.tile([True, False], 200)
    base, variant = (rng.random(400) < np.where(woman == favoured, 0.7, 0.3) for favoured in (True, False))
    change = judge(
        base, variant, gap_margin=0.05, clusters=question, groups={"gender": np.where(woman, "woman", "man")}
    )
    assert change.verdict == Verdict.SHIFTED


def test_groups_that_differ_by_cluster_are_compared_between_clusters():
    rng = np.random.default_rng(1)
    country = np.repeat(np.arange(90), 5)
    region = np.array(["a", "b", "c"])[country % 3]
    base = rng.random(450)
    change = judge(
        base, np.clip(base + 0.3 * (region == "a"), 0, 1), gap_margin=0.05, clusters=country, groups={"region": region}
    )
    assert change.spreads[0].n_clusters == 90
    assert change.verdict == Verdict.WORSE


def test_items_of_one_cluster_are_not_counted_as_many():
    """20 clusters of 50 equal items: as uncertain as 20 items, not as 1,000."""
    rng = np.random.default_rng(2)
    few = rng.random(20)
    cluster = np.repeat(np.arange(20), 50)
    wide = judge(np.zeros(1000), few[cluster], ideal=0, margin=0.01, clusters=cluster).ci
    narrow = judge(np.zeros(1000), few[cluster], ideal=0, margin=0.01).ci
    assert wide.high - wide.low > 5 * (narrow.high - narrow.low)  # sqrt(50) = 7


def test_answers_that_vanished_are_a_finding_and_keep_a_row_open():
    base = np.tile([0.0, 1.0], 200)
    change = judge(base, np.where(np.arange(400) < 100, np.nan, base), ideal=0, margin=0.05)
    assert change.verdict == Verdict.INCONCLUSIVE and change.only_base == 100
    assert change.unanswered.delta == 0.25 and change.unanswered.verdict == Verdict.WORSE


def test_too_few_items_or_clusters_give_no_verdict():
    base = np.tile([0.0, 1.0], 14)
    assert judge(base, base, ideal=0, margin=0.5).verdict == Verdict.INCONCLUSIVE
    long = np.tile([0.0, 1.0], 100)
    assert judge(long, long, ideal=0, margin=0.5, clusters=np.arange(200) // 20).verdict == Verdict.INCONCLUSIVE
    assert judge(long, long, ideal=0, margin=0.5).verdict == Verdict.EQUIVALENT


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "nothing to judge"),
        ({"ideal": 0.0}, "belong together"),
        ({"gap_margin": 0.1}, "needs groups"),
        ({"ideal": 0.0, "margin": 0.0}, "above 0"),
        ({"ideal": 0.0, "margin": 0.1, "clusters": [1]}, "1 labels for 3 items"),
        ({"ideal": 0.0, "margin": 0.1, "span": (0.2, 1.0)}, "outside their span"),
    ],
)
def test_what_cannot_be_judged_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        judge([0.0, 1.0, 1.0], [0.0, 1.0, 0.0], **wrong)
