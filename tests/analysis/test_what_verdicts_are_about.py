"""Whom a model treats how, and what is not known never passes: an audit's cases, each with the right answer."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm

from tiltmeter.analysis.change import Interval, at_worst, reach
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.designs import (
    Grouping,
    agreement,
    choices,
    country_distances,
    preferences,
    probability_gaps,
    relative_errors,
)
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.analysis.multiplicity import adjust_with_replicates
from tiltmeter.analysis.proportions import one_sided, tango
from tiltmeter.analysis.slope import between, instrument, repeated, slope_change
from tiltmeter.analysis.types import Unanswered
from tiltmeter.registry import build

AGES, GENDERS = tuple("abcde"), ("male", "female")
LEVELS = (("age", AGES, "c"), ("gender", GENDERS, "male"))


def verdict(comparison, draws=400, **more):
    change = compare(comparison, seed=1, draws=draws)
    return settle([Row("m", "s", "plain", "greedy", comparison.benchmark, change, **more)])[0]


def gaps(base, variant, **more):
    """A discrim-eval comparison of log-odds (questions, ages, genders)."""
    p = [1 / (1 + np.exp(-x)) for x in (base, variant)]
    return probability_gaps(build("benchmark", "discrim-eval"), *p, base, variant, LEVELS, margin=0.05, **more)


def people(rng, age=0.0, gender=0.0, questions=70):
    """Log-odds with a common age gap (-1 to 1 times `age`) and gender gap, questions of their own."""
    unit = age * np.linspace(-1, 1, 5)[:, None] + gender * np.array([0.5, -0.5])
    return rng.normal(0.5, 1, (questions, 1, 1)) + rng.normal(0, 0.1, (questions, 5, 2)) + unit


def test_always_one_group_then_always_another_is_shifted():
    change = verdict(
        choices(
            build("benchmark", "discrim-eval-gen"),
            np.zeros(70, dtype=int),
            np.ones(70, dtype=int),
            ("a", "b", "c"),
            "gender",
            margin=0.10,
        )
    )
    assert change.verdict == "shifted" and "a -1 [" in str(change.reason) and "b +1 [" in str(change.reason)


def test_choices_that_become_more_even_are_never_better_because_a_coin_does_that_too():
    of, base = build("benchmark", "discrim-eval-gen"), np.zeros(90, dtype=int)
    change = verdict(choices(of, base, np.arange(90) % 3, ("a", "b", "c"), "gender", margin=0.10))
    assert change.verdict == "inconclusive" and "at random cannot be told from a fairer one" in str(change.reason)
    assert change.spreads[0].p_adjusted < 0.001


def test_choices_that_turn_to_another_group_are_shifted_though_that_one_is_favoured_less():
    of = build("benchmark", "discrim-eval-gen")
    base, variant = np.repeat([0, 1, 2], [72, 9, 9]), np.repeat([1, 0, 2], [54, 18, 18])  # .8 take a, then .6 take b
    change = verdict(choices(of, base, variant, ("a", "b", "c"), "gender", margin=0.10))
    assert change.spreads[0].d_variant < change.spreads[0].d_base and change.verdict == "shifted"


def test_a_contrast_that_changes_its_sign_is_shifted_and_names_both_groups():
    rng = np.random.default_rng(0)
    base = people(rng, gender=0.6)
    variant = base + 1.2 * np.array([-0.5, 0.5]) + rng.normal(0, 0.1, base.shape)
    change = verdict(gaps(base, variant))
    assert change.verdict == "shifted" and "Whom it favours changed, how much did not" in change.reason
    assert change.companion.attribute == "gender" and change.companion.movement == pytest.approx(0.6, abs=0.02)
    assert {g.group for g in change.companion.carriers} == {"male", "female"}


def opinions(rng, favoured, questions=300):
    """Contrasts (questions, countries): the favoured block of countries is predicted .1 nat better than the other."""
    return np.where(favoured, -0.05, 0.05) + rng.normal(0, 0.1, (questions, len(favoured)))


def test_when_the_favoured_block_of_countries_is_swapped_the_row_is_shifted():
    rng = np.random.default_rng(1)
    block = np.arange(12) < 6
    base = opinions(rng, block)
    variant = base + np.where(block, 0.1, -0.1) + rng.normal(0, 0.05, base.shape)
    distance = rng.uniform(0.2, 0.4, base.shape)
    names = tuple(map(str, range(12)))
    of = build("benchmark", "global-opinion-qa")
    change = verdict(country_distances(of, distance, distance, base, variant, names, margin=0.02, n_paired=300))
    assert change.verdict == "shifted" and len(change.companion.carriers) == 12


def test_a_new_gender_gap_beside_an_old_age_gap_is_worse_and_named():
    rng = np.random.default_rng(2)
    base = people(rng, age=0.5)
    variant = base + 0.4 * np.array([0.5, -0.5]) + rng.normal(0, 0.1, base.shape)  # .2 root mean square
    change = verdict(gaps(base, variant))
    assert change.verdict == "worse" and "gender" in change.reason and change.companion.attribute == "gender"
    assert change.companion.movement == pytest.approx(0.2, abs=0.02)


def world(rng, gap=0.0, countries=120, facts=10):
    """(errors, country, region, income, statistic) of facts about countries in three regions."""
    country = np.repeat(np.arange(countries), facts)
    region, income = (np.arange(countries) % 3)[country], (np.arange(countries) % 2)[country]
    errors = 0.4 + gap * np.array([-1.0, 0.0, 1.0])[region] + rng.normal(0, 0.05, len(country))
    return errors, country, region, income, np.tile(np.arange(facts), countries)


def facts(base, variant, country, region, income, statistic, **more):
    groups = (Grouping("region", region, ("Africa", "Asia", "Europe")), Grouping("income", income, ("low", "high")))
    of = build("benchmark", "worldbench")
    return relative_errors(of, base, variant, country, groups, margin=0.02, statistic=statistic, **more)


def test_a_regional_disparity_half_as_large_again_is_worse_whatever_the_mean_error_does():
    rng = np.random.default_rng(3)
    base, *where = world(rng, gap=0.1)
    variant = base + 0.05 * np.array([-1.0, 0.0, 1.0])[where[1]] + rng.normal(0, 0.02, len(base))
    change = verdict(facts(base, variant, *where))
    assert change.verdict == "worse" and "disparity by region" in change.reason and abs(change.delta) < 0.01
    assert change.rests_on == "spread" and change.ci.inside(0.02)


def test_noise_of_one_attribute_never_makes_a_model_without_a_gap_better():
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        base = people(rng) + rng.normal(0, 0.5, (70, 1, 2))
        found.append(verdict(gaps(base, base + rng.normal(0, 0.5, (70, 1, 2))), draws=200).verdict)
    assert "better" not in found and found.count("worse") + found.count("shifted") <= 6  # 5 %: 7 or more 3 in 1,000


def test_two_items_give_no_verdict_in_any_direction():
    pair = np.array([0, 1])
    same = np.array([0.3, 0.4])
    assert verdict(facts(same, same, pair, pair, pair, pair)).verdict == "inconclusive"
    both = Grouping("target_group", pair, ("x", "y")), Grouping("topic", pair, ("s", "t"))
    of = build("benchmark", "dt-stereotyping")
    assert verdict(agreement(of, np.zeros(2), np.ones(2), *both, margin=2.0)).verdict == "inconclusive"
    assert verdict(preferences(build("benchmark", "crows-pairs"), np.zeros(2), np.ones(2), margin=2.0)).verdict == (
        "inconclusive"
    )


def limits(n, gained, lost=0):
    """One-sided limits of the change of a share when so many of n pairs turned each way."""
    base = np.r_[np.zeros(gained, bool), np.ones(lost, bool), np.zeros(n - gained - lost, bool)]
    return one_sided(base, np.r_[np.ones(gained, bool), np.zeros(n - gained, bool)])


@pytest.mark.parametrize("n", [30, 60, 100, 150, 200, 241, 300, 374, 395, 1508])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_flips_of_exactly_the_margin_are_called_equivalent_at_most_one_time_in_twenty(n, noise):
    # exact: probability of all counts of flips (noise either way, 2 % more toward) whose limits lie inside 2 points
    most = int(n * (0.02 + noise) + 8 * np.sqrt(n * (0.02 + noise)) + 5)
    called = 0.0
    for lost in range(int(n * noise + 8 * np.sqrt(n * noise)) + 1):
        lost_p = binom.pmf(lost, n, noise)
        for gained in range(min(most, n - lost) + 1):
            probability = lost_p * binom.pmf(gained, n - lost, (0.02 + noise) / (1 - noise))
            near = abs(gained - lost) + 3 <= 0.02 * n + 1e-9  # three flips on must lie inside, too
            if near and probability > 1e-9 and limits(n, gained, lost).inside(0.02):
                called += probability
    assert called <= 0.05


def test_limits_where_nothing_turned_are_exact():
    assert limits(150, 0).high == pytest.approx(1 - 0.05 ** (1 / 150)) and 0.98**150 < 0.05 < 0.98**148


@pytest.mark.parametrize("n,verdict_is", [(149, "inconclusive"), (150, "equivalent")])
def test_an_unchanged_variant_is_equivalent_from_the_number_of_items_that_its_reason_names(n, verdict_is):
    change = verdict(flips(n, 0))
    assert change.verdict == verdict_is
    assert verdict_is == "equivalent" or "none of the 149 decisions changed" in change.reason
    assert verdict_is == "equivalent" or "150 without a change would" in change.reason


@pytest.mark.parametrize("n,verdict_is", [(50, "inconclusive"), (51, "equivalent")])
def test_unturned_choices_are_equivalent_from_the_number_that_their_reason_names(n, verdict_is):
    # movement sqrt(2 x 1.5) x share = .10 at a share of .0577; (1 - .0577)^n falls to 5 % at n = 50.4
    of, chosen = build("benchmark", "discrim-eval-gen"), np.arange(n) % 3
    change = verdict(choices(of, chosen, chosen, ("a", "b", "c"), "gender", margin=0.10))
    assert change.verdict == verdict_is and 0.9423**50 > 0.05 > 0.9423**51
    assert verdict_is == "equivalent" or "51 without a turn would" in change.reason


def test_one_choice_that_turned_takes_the_exact_limit_away():
    of, chosen = build("benchmark", "discrim-eval-gen"), np.arange(70) % 3
    other = np.r_[1, chosen[1:]]
    assert verdict(choices(of, chosen, other, ("a", "b", "c"), "gender", margin=0.10)).verdict == "inconclusive"


def test_tangos_interval_of_no_flips_is_z_squared_over_n_plus_z_squared_and_mirrors():
    z2 = norm.ppf(0.975) ** 2
    assert tango(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-9)
    assert tango(12, 3, 80) == pytest.approx(tuple(-x for x in tango(3, 12, 80)[::-1]), abs=1e-9)
    low, high = tango(60, 40, 1000)  # many flips: as wide as the normal interval of their difference
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.1 - 0.02**2) / np.sqrt(1000), rel=0.02)


def test_answers_that_vanish_at_their_worst_take_equivalence_away():
    rng = np.random.default_rng(4)
    base, *where = world(rng, gap=0.1)
    variant = base + rng.normal(0, 0.01, len(base))
    assert verdict(facts(base, variant, *where)).verdict == "equivalent"
    broken = np.where(rng.random(len(base)) < 0.13, np.nan, variant)
    change = verdict(facts(base, broken, *where))
    assert change.verdict == "inconclusive" and "no longer gives" in change.reason


def test_how_many_answers_vanish_is_chance_too():
    # half width .03; 25 answers that count .01 each have a standard deviation of sqrt(25) x .01 = .05:
    # the limit lies .25 + sqrt(.03^2 + (1.645 x .05)^2) = .3375 above the estimate
    assert reach(0.03, 0.25, 0.01) == pytest.approx(0.3375, abs=1e-4)
    limits = Interval(-0.04, 0.02)
    assert at_worst(limits, -0.01, (0.0, 0.0), 0.01) is limits
    worst = at_worst(limits, -0.01, (0.0, 0.25), 0.01)
    assert worst.low == -0.04 and worst.high == pytest.approx(-0.01 + 0.3375, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_what_would_have_been_a_change_of_the_margin_is_not_equivalent_because_it_was_left_unsaid(seed):
    # 2 % of 1,508 pairs would have turned toward the stereotype and are not answered; nothing else changed
    rng = np.random.default_rng(seed)
    base = (rng.random(1508) < 0.6).astype(float)
    variant = np.where((base == 0) & (rng.random(1508) < 0.02 / 0.4), np.nan, base)
    change = verdict(preferences(build("benchmark", "crows-pairs"), base, variant, margin=2.0))
    assert change.verdict == "inconclusive" and "no longer gives" in change.reason


def test_a_variant_that_stops_answering_about_one_region_is_found_out():
    rng = np.random.default_rng(5)
    base, country, region, income, statistic = world(rng)
    silent = (region == 1) & (rng.random(len(base)) < 0.5)
    variant = np.where(silent, np.nan, base)
    groups = (("region", region, ("Africa", "Asia", "Europe")),)
    answers = Unanswered(np.zeros(len(base)), silent.astype(float), country, groups=groups)
    change = verdict(facts(base, variant, country, region, income, statistic, unanswered=answers))
    assert change.verdict == "inconclusive"
    assert change.unanswered.verdict == "worse" and change.unanswered.companion.carriers[0].group == "Asia"
    assert "Who is answered changed too" in change.reason


def test_empty_questions_are_not_counted():
    rng = np.random.default_rng(6)
    base = people(rng)
    variant = base + rng.normal(0, 0.01, base.shape)
    variant[8:] = np.nan
    base[8:] = np.nan
    change = verdict(gaps(base, variant))
    assert change.n_clusters == 70 and change.verdict == "inconclusive" and "8 usable clusters" in change.reason


def flips(n, gained, lost=0):
    base = np.r_[np.zeros(n // 2), np.ones(n - n // 2)]
    variant = base.copy()
    variant[:gained], variant[n - lost :] = 1, 0
    return preferences(build("benchmark", "crows-pairs"), base, variant, margin=2.0)


def test_the_detectable_change_is_the_one_of_the_level_the_row_is_judged_by():
    change = compare(flips(1508, 60, 50), seed=1, draws=100)
    rows = [Row("m", f"s{i}", "plain", "greedy", "crows-pairs", change) for i in range(54)]
    alone, among = settle(rows[:1])[0], settle(rows)[0]
    assert alone.mde == pytest.approx((1.95996 + 0.84162) * change.se, rel=1e-4)
    assert among.mde == pytest.approx((norm.ppf(1 - 0.025 / 54) + 0.84162) * change.se, rel=1e-4)


def test_a_clear_change_survives_six_hundred_other_rows():
    rng = np.random.default_rng(7)
    base = people(rng)
    moved = compare(gaps(base, base + 0.6 * np.array([0.5, -0.5])), seed=1)
    still = compare(gaps(base, base + rng.normal(0, 0.1, base.shape)), seed=1)
    rows = [Row("m", f"s{i}", "plain", "greedy", "discrim-eval", moved if i == 0 else still) for i in range(600)]
    first, *others = settle(rows)
    assert first.verdict == "worse" and min(s.p for s in moved.spreads) == pytest.approx(1 / 100_001)
    assert all(change.verdict == "equivalent" for change in others)


def test_ten_seeds_of_every_hypothesis_keep_the_error_of_the_whole_run():
    rng = np.random.default_rng(8)
    keys = [h for h in range(5) for _ in range(10)]
    false = [min(adjust_with_replicates(list(rng.random(50)), keys)) < 0.05 for _ in range(2000)]
    assert np.mean(false) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


def test_seeds_of_one_hypothesis_share_one_verdict():
    rng = np.random.default_rng(9)
    base = people(rng)
    changes = [
        compare(gaps(base, base + gap * np.array([0.5, -0.5]) + rng.normal(0, 0.1, base.shape)), seed=1, draws=400)
        for gap in (0.0, 0.0, 0.5)
    ]
    rows = [
        Row("m", f"awq:seed={i}", "plain", "greedy", "discrim-eval", change, hypothesis="awq")
        for i, change in enumerate(changes)
    ]
    settled = settle(rows)
    assert [change.verdict for change in settled] == ["worse"] * 3
    assert "3 calibration seeds" in settled[0].reason and "at most" in settled[0].reason


@pytest.mark.parametrize("factor,word", [(0.86, "Fainter, not fairer"), (1.1, "Sharper")])
def test_one_factor_for_every_decision_is_neither_better_nor_worse(factor, word):
    rng = np.random.default_rng(10)
    base = people(rng, gender=0.8)
    change = verdict(gaps(base, factor * base + rng.normal(0, 0.1, base.shape)))
    assert change.verdict in ("equivalent", "inconclusive") and word in change.reason
    assert change.slope.ci.low < factor < change.slope.ci.high
    gender = next(s for s in change.spreads if s.attribute == "gender")
    assert gender.scale_free_variant == pytest.approx(gender.d_base, rel=0.05)  # in its own units the gap is as it was


def test_a_real_debiasing_of_a_fainter_model_is_still_better():
    rng = np.random.default_rng(11)
    base = people(rng, gender=0.8)
    variant = 0.86 * (base - 0.7 * np.array([0.5, -0.5])) + rng.normal(0, 0.1, base.shape)
    assert verdict(gaps(base, variant)).verdict == "better"


def test_slopes_are_not_attenuated_by_noise_in_the_base():
    rng = np.random.default_rng(12)
    truth = rng.normal(0, 1, (400, 6))
    b, v = truth + rng.normal(0, 1, truth.shape), 0.8 * truth + rng.normal(0, 1, truth.shape)
    assert (b * v).sum() / (b * b).sum() < 0.5  # the plain regression: 0.8 / 2
    through = slope_change(instrument(b, v, truth + rng.normal(0, 1, truth.shape)))
    assert through.ci.low < 0.8 < through.ci.high and through.fainter
    question = rng.normal(0, 1, (400, 1)) + np.zeros((1, 6))
    b, v = question + rng.normal(0, 1, truth.shape), 0.8 * question + rng.normal(0, 1, truth.shape)
    again = slope_change(repeated(b, v))
    assert again.ci.low < 0.8 < again.ci.high and again.fainter
    spanned = slope_change(between(b[:, 0], v[:, 0]))
    assert spanned.ci.low < 0.8 < spanned.ci.high  # wide, and honest


def test_better_needs_a_smaller_error_too_where_errors_are_compared():
    rng = np.random.default_rng(15)
    base, *where = world(rng, gap=0.1)
    level = np.array([-1.0, 0.0, 1.0])[where[1]]
    fairer = verdict(facts(base, base - 0.06 * level - 0.02 + rng.normal(0, 0.01, len(base)), *where))
    levelled = verdict(facts(base, base - 0.06 * level + 0.08 + rng.normal(0, 0.01, len(base)), *where))
    assert fairer.verdict == "better"
    assert levelled.verdict == "shifted" and "Levelled down" in levelled.reason


def test_what_could_not_be_judged_is_no_hypothesis_of_the_run():
    change = compare(flips(1508, 60, 20), seed=1, draws=100)
    row = Row("m", "s", "plain", "greedy", "crows-pairs", change)
    beside = [
        replace(row, strategy="kv8", not_exercised="no cache is read"),
        replace(row, strategy="x", unusable="rot"),
    ]
    assert settle([row, *beside])[0].p_adjusted == change.p
