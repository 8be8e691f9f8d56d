"""Outcomes of the real benchmark classes, through their comparison: the change printed is the score's own change."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from tiltmeter.analysis.compare import compare, level_interval
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.benchmarks.base import Outcome, Sample
from tiltmeter.benchmarks.crows_pairs import CrowsPairs
from tiltmeter.benchmarks.discrim_eval import DiscrimEval
from tiltmeter.benchmarks.discrim_eval_gen import DiscrimEvalGen
from tiltmeter.benchmarks.dt_stereotyping import DTStereotyping
from tiltmeter.benchmarks.global_opinion import GlobalOpinionQA, log_score_contrasts, opinion, wasserstein
from tiltmeter.benchmarks.world_bench import WorldBench
from tiltmeter.scoring.requests import OptionAnswer

NAN = math.nan
AGES, GENDERS, RACES = ("20", "60", "90"), ("male", "female"), ("white", "Black", "Asian")


def judged(benchmark, base, variant, **more):
    change = compare(benchmark.comparison(base, variant, margin=benchmark.margin, **more), seed=1, draws=500)
    return settle([Row("m", "s", "plain", "greedy", benchmark.name, change)])[0]


def agrees_with_score(benchmark, base, variant, change):
    """The change's two scores are the published ones where every item is scored in both."""
    assert change.base == pytest.approx(benchmark.score(base).value, rel=1e-12)
    assert change.variant == pytest.approx(benchmark.score(variant).value, rel=1e-12)


def crows(prefers, ratios=None):
    return [
        Outcome(
            str(i),
            str(i),
            {"bias_type": "age" if i % 2 else "gender"},
            (
                Sample(
                    float(p),
                    "stereotyping" if p else "other",
                    values={"log_ratio": (ratios or prefers)[i], "sum_prefers_more": float(p)},
                ),
            ),
            0.5,
        )
        for i, p in enumerate(prefers)
    ]


def test_crows_pairs_change_groups_and_flips():
    base = crows([1, 1, 0, 0] * 50, [0.1, 0.2, -0.1, -0.2] * 50)
    variant = crows([1, 0, 1, 1] + [1, 1, 0, 0] * 49, [0.1, -0.2, 0.1, 0.9] + [0.1, 0.2, -0.1, -0.2] * 49)
    change = judged(CrowsPairs(), base, variant)
    agrees_with_score(CrowsPairs(), base, variant, change)
    assert (change.flips.toward_bias, change.flips.away_from_bias) == (2, 1)
    assert change.flips.examples[0].id == "3" and change.flips.examples[0].shift == pytest.approx(1.1)
    assert {g.group: g.delta for g in change.groups} == {"gender": pytest.approx(1.0), "age": pytest.approx(0.0)}
    assert change.extra["sum_score"] == pytest.approx(0.5)
    assert change.mcnemar_p == 1.0  # 2 against 1


def test_a_crows_pairs_improvement_says_that_noise_alone_would_look_like_one():
    ratios = np.linspace(-0.5, 1.5, 400)  # 75 % above 0; all of them fall by .3: 60 %
    sides = [crows([r > 0 for r in side], list(side)) for side in (ratios, ratios - 0.3)]
    better = judged(CrowsPairs(), *sides)
    assert better.verdict == "better" and "Noise alone moves this score toward 50" in better.reason


def dt(agree, samples=1):
    """24 x 16 x 3 prompts; agree(group, topic, statement, sample) -> label."""
    return [
        Outcome(
            f"{g}/{t}/{k}",
            f"{g}/{t}",
            {"target_group": str(g), "topic": str(t)},
            tuple(
                Sample(float(label == "agree"), label, values={"disagree": 0.0})
                for label in (agree(g, t, k, s) for s in range(samples))
            ),
        )
        for g in range(24)
        for t in range(16)
        for k in range(3)
    ]


def test_dt_stereotyping_is_two_way_and_counts_refusals_with_their_bounds():
    rng = np.random.default_rng(0)
    base = dt(lambda g, t, k, s: "agree" if g < 8 else "no response")
    variant = dt(lambda g, t, k, s: "agree" if g < 8 or rng.random() < 0.2 else "disagree")
    change = judged(DTStereotyping(), base, variant)
    agrees_with_score(DTStereotyping(), base, variant, change)
    assert change.verdict == "worse" and "less accurate" in change.reason
    assert change.flips.toward_bias == change.flips.n > 100 and change.flips.away_from_bias == 0
    assert change.unanswered.delta == pytest.approx(-2 / 3)
    # base between 33 % (no refusal agrees) and 100 %; the variant refuses nothing
    assert change.unanswered.score_bounds[0] == pytest.approx(change.variant - 100)
    assert {g.attribute for g in change.groups} == {"target_group", "topic"} and len(change.groups) == 40


def test_dt_sampling_score_is_the_mean_over_sample_indices_and_items_stay_items():
    base = dt(lambda g, t, k, s: "agree" if s == 0 else "disagree", samples=5)
    variant = dt(lambda g, t, k, s: "agree" if s < 2 else "disagree", samples=5)
    change = judged(DTStereotyping(), base, variant)
    agrees_with_score(DTStereotyping(), base, variant, change)
    assert change.n_paired == 1152 and change.delta == pytest.approx(20) and change.flips.n == 0


def world(errors):
    regions = ("Africa", "Asia", "Europe")
    return [
        Outcome(
            f"{c}/{k}",
            f"c{c}",
            {"region": regions[c % 3], "income": "High" if c % 2 else "Low"},
            (
                Sample(
                    errors[c, k],
                    reason=None if errors[c, k] == errors[c, k] else "no usable number",
                    values={} if errors[c, k] != errors[c, k] else {"parsed": 1.0},
                ),
            ),
        )
        for c in range(errors.shape[0])
        for k in range(errors.shape[1])
    ]


def test_worldbench_change_uses_items_parsed_in_both_and_bounds_the_rest():
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.2, 0.4, (60, 8))
    worse = errors + 0.1
    gone = errors.copy()
    gone[:5, 0] = NAN
    change = judged(WorldBench(), world(gone), world(worse))
    assert change.delta == pytest.approx(0.1) and change.n_paired == 475 and change.only_variant == 5
    # all errors rise alike: no region or income group is treated otherwise, and the printed score says what it says
    assert change.verdict == "equivalent" and "Only the paper's score moved" in change.reason
    assert change.unanswered.base == pytest.approx(5 / 480)
    both = next(g for g in change.groups if (g.attribute, g.group) == ("region x income", "Asia, High"))
    assert both.n == 79 and both.delta == pytest.approx(0.1)  # countries 1, 7, 13 ...: 10 x 8 facts, c1/0 unparsed
    assert {str(s.name) for s in change.spreads} == {"disparity by region", "disparity by income"}
    agrees = judged(WorldBench(), world(errors), world(worse))
    agrees_with_score(WorldBench(), world(errors), world(worse), agrees)


def discrim(log_odds):
    """log_odds[question, age, gender, race]"""
    found = []
    for (q, a, g, r), value in np.ndenumerate(log_odds):
        p = 1 / (1 + math.exp(-value))
        found.append(
            Outcome(
                f"{q}/{a}/{g}/{r}",
                str(q),
                {"age": AGES[a], "gender": GENDERS[g], "race": RACES[r]},
                (Sample(p, "yes" if p > 0.5 else "no", values={"log_odds": float(value)}),),
            )
        )
    return found


def population(rng, gap=0.0, questions=40):
    base = rng.normal(0.3, 1, (questions, 1, 1, 1)) + rng.normal(0, 0.1, (questions, 3, 2, 3))
    return base, base + rng.normal(0, 0.1, base.shape) + gap * np.array([0.0, 1.0])[None, None, :, None]


def test_discrim_eval_log_odds_contrasts_are_the_paired_change_of_the_printed_ones():
    base, variant = population(np.random.default_rng(1), gap=0.4)
    before, after = discrim(base), discrim(variant)
    change = judged(DiscrimEval(), before, after)
    agrees_with_score(DiscrimEval(), before, after, change)
    printed = [{(g.attribute, g.group): g.score for g in DiscrimEval().score(side).groups} for side in (before, after)]
    moved = {(g.attribute, g.group): g for g in change.groups}
    for key, value in printed[1].items():
        assert moved[key].delta == pytest.approx(value - printed[0][key], abs=1e-12)
    crossed = moved["gender x race", "female, white"]  # less male, white: the gender gap among white people
    assert crossed.delta == pytest.approx((variant - base)[:, :, 1, 0].mean() - (variant - base)[:, :, 0, 0].mean())
    assert change.largest(+1).group.startswith("female")
    assert not {("gender x race", "male, white"), ("race", "white")} & set(moved)  # the references have no row
    assert moved["gender", "female"].ci.low > 0.3
    assert change.verdict == "worse" and change.companion.unit == "log-odds"


def test_discrim_eval_contrast_agrees_with_a_mixed_model_with_a_random_intercept_per_question():
    rng = np.random.default_rng(2)
    base, variant = population(rng, gap=0.3)
    variant = variant + rng.normal(0, 0.3, (len(base), 1, 1, 1))  # a question's own shift: the random intercept
    change = judged(DiscrimEval(), discrim(base), discrim(variant))
    female = next(g for g in change.groups if g.group == "female")
    frame = pd.DataFrame(
        {
            "d": (variant - base).ravel(),
            **{name: index.ravel() for name, index in zip(("q", "age", "gender", "race"), np.indices(base.shape))},
        }
    )
    fit = smf.mixedlm("d ~ C(age) + C(gender) + C(race)", frame, groups=frame["q"]).fit()
    assert female.delta == pytest.approx(fit.params["C(gender)[T.1]"], abs=1e-9)  # balanced: the same estimate
    low, high = fit.conf_int().loc["C(gender)[T.1]"]
    assert (female.ci.high - female.ci.low) == pytest.approx(high - low, rel=0.25)


def test_discrim_eval_flips_away_from_the_questions_majority_are_toward_bias():
    base = np.full((20, 3, 2, 3), 1.0)
    variant = base.copy()
    variant[0, 0, 0, 0] = -1.0
    flips = judged(DiscrimEval(), discrim(base), discrim(variant)).flips
    assert (flips.n, flips.of, flips.toward_bias) == (1, 360, 1)


def test_an_unscored_person_is_left_out_of_both_models():
    base, variant = population(np.random.default_rng(3))
    outcomes = discrim(base)
    lost = outcomes[0]
    outcomes[0] = Outcome(lost.item, lost.cluster, lost.groups, (Sample(NAN, reason="no token"),))
    change = judged(DiscrimEval(), outcomes, discrim(variant))
    assert change.n_paired == base.size - 1 and change.only_variant == 1 and np.isfinite(change.companion.delta)
    assert change.flips.unscored == 1


def generated(labels, attribute="gender", counted=True):
    return [
        Outcome(
            f"{attribute}/{q}",
            str(q),
            {},
            tuple(Sample(1.0 if label else NAN, label, None if label else "no group named") for label in row),
            counted=counted,
        )
        for q, row in enumerate(labels)
    ]


def test_discrim_eval_gen_scores_commonly_answered_questions_and_has_no_interval():
    base = generated([["woman"]] * 40 + [["man"]] * 20 + [[None]] * 10)
    variant = generated([["woman"]] * 30 + [["man"]] * 30 + [["man"]] * 10)
    change = judged(DiscrimEvalGen(), base, variant)
    assert change.n_paired == 60 and change.only_variant == 10
    assert change.base == pytest.approx((40 - 0) / 60) and change.variant == pytest.approx(30 / 60)
    assert not change.ci.defined and "no interval" in change.ci.reason
    assert (change.flips.n, change.flips.away_from_bias) == (10, 10)  # away from the base's most chosen group
    assert change.unanswered.delta == pytest.approx(-1 / 7)
    assert not level_interval(DiscrimEvalGen().comparison(base, base, margin=0.1)).defined


def test_discrim_eval_gen_race_prompts_give_a_spread_of_their_own():
    base = generated([["woman"]] * 35 + [["man"]] * 35) + generated([["black"]] * 70, "race", counted=False)
    change = judged(DiscrimEvalGen(), base, base)
    by = {s.attribute: s for s in change.spreads}
    assert set(by) == {"gender", "race"} and by["race"].d_base == pytest.approx(1.0)  # always the same choice
    assert change.n_paired == 70


def test_discrim_eval_gen_below_thirty_common_answers_has_no_verdict():
    base = generated([["woman"]] * 29 + [[None]] * 41)
    change = judged(DiscrimEvalGen(), base, generated([["man"]] * 29 + [["man"]] * 41))
    assert change.verdict == "inconclusive" and "Only 29 items" in change.reason


COUNTRIES = tuple("ABCDEF")


def opinions(rng, logits, asked, shares):
    found = []
    for q, row in enumerate(logits):
        logprobs = row - np.logaddexp.reduce(row)
        countries = {name: shares[q, c].tolist() for c, name in enumerate(COUNTRIES) if asked[q, c]}
        sample = opinion(OptionAnswer(tuple((float(p), None) for p in logprobs), None), countries, range(len(row)))
        found.append(Outcome(str(q), str(q), {}, (sample,), 0.5))
    return found


def test_global_opinion_qa_gini_and_countries_are_the_printed_ones_and_pull_is_found():
    rng = np.random.default_rng(4)
    n = 160
    shares = rng.dirichlet(np.ones(4), (n, 6))
    asked = rng.random((n, 6)) < 0.6
    logits = rng.normal(0, 1, (n, 4))
    base, variant = opinions(rng, logits, asked, shares), opinions(rng, logits + 2 * shares[:, 0], asked, shares)
    change = judged(GlobalOpinionQA(), base, variant)
    agrees_with_score(GlobalOpinionQA(), base, variant, change)
    printed = {g.group: g.score for g in GlobalOpinionQA().score(variant).groups}
    assert {g.group: g.variant for g in change.groups} == pytest.approx(printed)
    assert change.companion.unit == "nat" and change.companion.ci.above_zero and change.verdict == "worse"


def test_log_score_contrast_is_the_cross_entropy_against_the_countries_mean():
    rng = np.random.default_rng(5)
    shares, p = rng.dirichlet(np.ones(3), 4), np.array([0.2, 0.5, 0.3])
    cross_entropy = -(shares * np.log(p)).sum(axis=1)
    np.testing.assert_allclose(log_score_contrasts(np.log(p), shares), cross_entropy - cross_entropy.mean())
    assert np.isnan(log_score_contrasts(np.log(p), shares[:1])).all()
    assert wasserstein(p, shares).shape == (4,)


def test_with_too_few_questions_a_country_there_is_no_gini_and_the_reason_is_kept():
    rng = np.random.default_rng(6)
    shares = rng.dirichlet(np.ones(3), (10, 6))
    base = opinions(rng, rng.normal(size=(10, 3)), np.ones((10, 6), bool), shares)
    change = judged(GlobalOpinionQA(), base, base)
    assert np.isnan(change.delta) and "0 countries have 50" in change.ci.reason
    assert change.companion is None and "comparable questions" in change.reason


ALL = [
    (CrowsPairs, crows([1] * 40)),
    (DTStereotyping, dt(lambda g, t, k, s: "agree")),
    (WorldBench, world(np.ones((30, 3)))),
    (DiscrimEval, discrim(np.zeros((20, 3, 2, 3)))),
    (DiscrimEvalGen, generated([["man"]] * 40)),
    (GlobalOpinionQA, opinions(None, np.zeros((60, 3)), np.ones((60, 6), bool), np.full((60, 6, 3), 1 / 3))),
]
NAMES = [benchmark.name for benchmark, _ in ALL]


def unscored(outcomes):
    return [
        Outcome(
            o.item, o.cluster, o.groups, tuple(Sample(NAN, reason="no token") for _ in o.samples), counted=o.counted
        )
        for o in outcomes
    ]


@pytest.mark.parametrize("benchmark,outcomes", ALL, ids=NAMES)
def test_all_unscored_gives_reasons_never_zeros(benchmark, outcomes):
    for base, variant in ((outcomes, unscored(outcomes)), (unscored(outcomes), unscored(outcomes)), ([], [])):
        change = judged(benchmark(), base, variant)
        assert change.n_paired == 0 and np.isnan(change.delta) and np.isnan(change.p)
        assert not change.ci.defined and change.ci.reason
        assert change.verdict == "no usable signal" and "no item is scored in both" in change.reason


@pytest.mark.parametrize("benchmark,outcomes", ALL, ids=NAMES)
def test_constant_scores_are_never_worse_or_better(benchmark, outcomes):
    change = judged(benchmark(), outcomes, outcomes)
    assert change.verdict in ("equivalent", "inconclusive", "no usable signal")
    assert np.isnan(change.mde) or change.mde > 0


@pytest.mark.parametrize("benchmark,outcomes", ALL, ids=NAMES)
def test_one_item_gives_no_interval_and_no_verdict(benchmark, outcomes):
    change = judged(benchmark(), outcomes[:1], outcomes[:1])
    assert not change.ci.defined and change.verdict in ("inconclusive", "no usable signal")


def test_a_missing_reference_group_costs_the_contrasts_not_the_verdict():
    outcomes = [o for o in discrim(population(np.random.default_rng(1))[0]) if o.groups["gender"] != "male"]
    change = judged(DiscrimEval(), outcomes, outcomes)
    assert {g.attribute for g in change.groups} == {"age", "race"} and change.verdict == "equivalent"
