"""The built-in model is what planted.json says it is: through the real benchmarks, engine and statistics.

The quick fixture measures plain prompts, greedy and two samples, on half of the decisions; the slow one
everything.
"""

import json
import math
from collections import Counter
from statistics import fmean

import numpy as np
import pytest

from tiltmeter.demo.command import BASE, BENCHMARKS, DATA
from tiltmeter.demo.training.world import build_world
from tiltmeter.pipeline import run
from tiltmeter.registry import build
from tiltmeter.results.document import read_results
from tiltmeter.results.items import cells_of, outcomes
from tiltmeter.study import make_study

PLANTED = json.loads((DATA / "planted.json").read_text(encoding="utf-8"))
REFERENCE = {"age": "60", "gender": "male", "race": "white"}


class Measured:
    """Rows and outcomes of a run by (benchmark, format, decoding); `world`: the planted items by id."""

    def __init__(self, out):
        self.rows = {(r["benchmark"], r["format"], r["decoding"]): r for r in read_results(out)["rows"]}
        self.cells = {(p.benchmark, p.format, p.decoding): cell for p, cell in cells_of(out).items()}
        self.world = {}
        for name, items in build_world().items():
            loaded = build("benchmark", name).load(DATA)
            self.world[name] = {item.id: planted for item, planted in zip(loaded, items)}

    def outcomes(self, benchmark, fmt, decoding):
        cell = self.cells[benchmark, fmt, decoding]
        return [o for o in outcomes(cell, build("benchmark", benchmark)) if not o.variation]

    def pairs(self, benchmark, fmt, decoding):
        """(planted item, measured outcome)"""
        return [(self.world[benchmark][o.item], o) for o in self.outcomes(benchmark, fmt, decoding)]


def measure(out, benchmarks=BENCHMARKS, **settings):
    fixed = {"models": [str(BASE)], "data": str(DATA), "decoding": "both", "text_quality": False, "draws": 500}
    run(make_study(**fixed, benchmarks=benchmarks, **settings), out)
    return Measured(out)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return measure(tmp_path_factory.mktemp("demo") / "run", samples=2, limits={"discrim-eval": 450})


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """bbq in every order of its options."""
    return measure(tmp_path_factory.mktemp("demo") / "orders", ["bbq"], orders="all")


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return measure(tmp_path_factory.mktemp("demo") / "full", format="both", samples=5)


def check_pairs(measured):
    row = measured.rows["crows-pairs", "plain", "greedy"]
    assert row["score"] == pytest.approx(PLANTED["crows-pairs"]["score"], abs=1.4)  # at most two pairs of 150
    assert {g["group"]: g["score"] for g in row["groups"]} == pytest.approx(
        PLANTED["crows-pairs"]["bias_type"], abs=3.4
    )
    ratios = [entry["log_ratio"] for entry in PLANTED["crows-pairs"]["items"]]
    found = [o.samples[0].values["sum_log_ratio"] for o in measured.outcomes("crows-pairs", "plain", "greedy")]
    assert np.abs(np.subtract(found, ratios)).max() < 0.4
    assert np.sqrt(np.mean(np.subtract(found, ratios) ** 2)) < 0.15


def check_opinions(measured, fmt):
    row = measured.rows["global-opinion-qa", fmt, "greedy"]
    planted = PLANTED["global-opinion-qa"]
    assert row["score"] == pytest.approx(planted["score"], abs=0.02)
    countries = {g["group"]: g["score"] for g in row["groups"] if g["attribute"] == "country"}
    assert set(countries) == set(planted["median_distance"])
    for country, distance in planted["median_distance"].items():
        assert countries[country] == pytest.approx(distance, abs=0.12), country
    variation = [
        0.5 * np.abs(np.subtract(outcome.samples[0].values["p"], [a.probability for a in item.answers])).sum()
        for item, outcome in measured.pairs("global-opinion-qa", fmt, "greedy")
    ]
    assert np.mean(variation) <= 0.05
    return len(variation)


def check_facts(measured, fmt):
    planted = PLANTED["worldbench"][fmt]
    row = measured.rows["worldbench", fmt, "greedy"]
    assert row["score"] == pytest.approx(planted["score"], abs=0.01)
    assert row["n_scored"] >= 0.95 * row["n_items"]
    answered = measured.outcomes("worldbench", fmt, "greedy")
    for attribute in ("region", "income"):
        for group, error in planted[attribute].items():
            scores = [o.score for o in answered if group in o.groups.values() and not math.isnan(o.score)]
            assert fmean(scores) == pytest.approx(error, abs=0.03), group
    said = [o.samples[0].values.get("parsed") for o in answered]
    wanted = [None if answer.startswith("I") else float(answer) for answer in planted["answers"]]
    assert sum(a == b for a, b in zip(said, wanted)) >= 0.98 * len(wanted)
    return len(said)


def check_statements(measured, fmt):
    planted = PLANTED["dt-stereotyping"][fmt]
    row = measured.rows["dt-stereotyping", fmt, "greedy"]
    assert row["score"] == pytest.approx(planted["score"], abs=4)
    pairs = measured.pairs("dt-stereotyping", fmt, "greedy")
    undecided, other = 0, []
    for (item, outcome), answer in zip(pairs, planted["answers"]):
        if abs(item.probability("agree") - item.probability("disagree")) < 0.3:
            undecided += 1  # either answer is right
        elif outcome.samples[0].label != {"I agree.": "agree", "I refuse to answer.": "no response"}.get(
            answer, "agree" if answer.startswith("Yes") else "disagree"
        ):
            other.append(item.key)
    assert len(other) <= 0.02 * len(pairs), other
    assert undecided < 0.4 * len(pairs)
    assert sum(o.samples[0].values["no_response"] for _, o in pairs) <= 0.05 * len(pairs)
    return len(pairs)


def check_sampled_statements(measured, fmt):
    planted = PLANTED["dt-stereotyping"]["sampling"]
    row = measured.rows["dt-stereotyping", fmt, "sampling"]
    draws = row["n_items"] * row["n_samples"]
    # four standard deviations of so many draws, and 2 points that the model may be off
    assert row["score"] == pytest.approx(planted["score"], abs=400 * math.sqrt(0.25 / draws) + 2)
    groups = [group for group in row["groups"] if group["attribute"] == "target_group"]
    for group in groups:
        expected = planted["target_group"][group["group"]]
        margin = 400 * math.sqrt(0.25 / (14 * row["n_samples"])) + 2
        assert group["score"] == pytest.approx(expected, abs=margin), group["group"]
    return {group["group"] for group in groups}


def check_decisions(measured, fmt):
    pairs = measured.pairs("discrim-eval", fmt, "greedy")
    row = measured.rows["discrim-eval", fmt, "greedy"]
    planted = np.array([item.probability("yes") for item, _ in pairs])
    found = np.array([outcome.score for _, outcome in pairs])
    assert np.sqrt(np.mean((found - planted) ** 2)) < 0.05
    spread = (planted.reshape(-1, 45).max(1) - planted.reshape(-1, 45).min(1)).mean()
    assert row["score"] == pytest.approx(spread, abs=0.05)
    log_odds = np.log(planted / (1 - planted))
    for group in row["groups"]:
        attribute, name = group["attribute"], group["group"]
        own = [x for x, (_, o) in zip(log_odds, pairs) if o.groups[attribute] == name]
        reference = [x for x, (_, o) in zip(log_odds, pairs) if o.groups[attribute] == REFERENCE[attribute]]
        assert group["score"] == pytest.approx(np.mean(own) - np.mean(reference), abs=0.12), name
    assert row["extra"]["mass_yes_no"] > 0.98
    return len(pairs)


def check_selections(measured, fmt):
    row = measured.rows["discrim-eval-gen", fmt, "greedy"]
    planted = PLANTED["discrim-eval-gen"]["gender"][fmt]
    assert row["score"] == pytest.approx(planted["score"], abs=0.05)
    assert row["n_scored"] >= 0.95 * row["n_items"]
    labels = Counter(
        o.samples[0].label or "none" for o in measured.outcomes("discrim-eval-gen", fmt, "greedy") if o.counted
    )
    for group, count in planted["counts"].items():
        assert labels[group] == pytest.approx(count, abs=2), group
    return labels.total()


def check_sampled_selections(measured, fmt):
    row = measured.rows["discrim-eval-gen", fmt, "sampling"]
    expected = PLANTED["discrim-eval-gen"]["gender"]["sampling"]
    groups = {"man", "woman", "non-binary"}
    for group in groups:
        share = expected[group] / 60
        deviation = 60 * math.sqrt(share * (1 - share) / (60 * row["n_samples"]))
        assert row["extra"][f"count_{group}"] == pytest.approx(expected[group], abs=4 * deviation + 1), group
    # answers that name somebody; the stated rate of answers that name nobody is 4 %
    assert row["extra"]["count_no_answer"] <= 60 * 0.1
    return groups


def check_asked(measured, fmt, planted=None):
    planted = planted or PLANTED["bbq"]
    row = measured.rows["bbq", fmt, "greedy"]
    assert row["score"] == pytest.approx(planted["score"], abs=0.03)  # a row that changes its answer moves it by .014
    for name in ("s_dis", "acc_amb", "acc_dis", "acc_gap_dis", "unknown_dis"):
        assert row["extra"][name] == pytest.approx(planted[name], abs=0.06), name
    categories = {g["group"]: g["score"] for g in row["groups"] if g["attribute"] == "category"}
    assert categories == pytest.approx(planted["category"], abs=0.13)  # one of eight rows
    for place, share in planted["places"].items():
        assert row["extra"][f"p_place_{place}"] == pytest.approx(share, abs=0.02), place
    return row["n_items"]


def check_asked_and_every_row(measured, fmt):
    pairs = measured.pairs("bbq", fmt, "greedy")
    variation = [
        0.5 * np.abs(np.subtract(outcome.samples[0].values["places"], [a.probability for a in item.answers])).sum()
        for item, outcome in pairs
    ]
    assert np.mean(variation) <= 0.05
    check_asked(measured, fmt)
    return len(pairs)


def check_referents(measured, fmt):
    planted = PLANTED["winobias"]
    row = measured.rows["winobias", fmt, "greedy"]
    sentence = 100 / 40  # points that one sentence of type 1 weighs; one of type 2 twice as much
    assert row["score"] == pytest.approx(planted["score"], abs=sentence)
    for name, weight in {"acc_pro": 1, "acc_anti": 1, "acc_type1": 1, "acc_type2": 1, "gap_type2": 2}.items():
        assert row["extra"][name] == pytest.approx(planted[name], abs=weight * sentence), name
    genders = {g["group"]: g["score"] for g in row["groups"] if g["attribute"] == "pronoun"}
    assert genders == pytest.approx(planted["pronoun"], abs=2 * sentence)
    found = [o.samples[0].values["right_lead"] for o in measured.outcomes("winobias", fmt, "greedy")]
    assert np.sqrt(np.mean(np.subtract(found, [entry["log_odds"] for entry in planted["items"]]) ** 2)) < 0.2
    return len(found)


# each returns what it held to the planted truth: how many items, or which groups
GREEDY = {"global-opinion-qa": check_opinions, "worldbench": check_facts, "dt-stereotyping": check_statements,
          "discrim-eval": check_decisions, "discrim-eval-gen": check_selections, "bbq": check_asked_and_every_row,
          "winobias": check_referents}  # fmt: skip
SAMPLED = {"dt-stereotyping": check_sampled_statements, "discrim-eval-gen": check_sampled_selections}
SAMPLED_GROUPS = {"dt-stereotyping": set(PLANTED["dt-stereotyping"]["sampling"]["target_group"]),
                  "discrim-eval-gen": {"man", "woman", "non-binary"}}  # fmt: skip


def test_pairs_are_preferred_as_planted(quick):
    check_pairs(quick)


@pytest.mark.parametrize("benchmark", GREEDY)
def test_plain_greedy_scores_groups_and_items_are_as_planted(quick, benchmark):
    held = GREEDY[benchmark](quick, "plain")
    assert held == quick.rows[benchmark, "plain", "greedy"]["n_items"]


def test_asked_in_every_order_the_preference_for_a_place_is_the_planted_one_and_the_score_stands(turned):
    planted = PLANTED["bbq"]["orders"]
    check_asked(turned, "plain", planted)
    bias = planted["places"]["a"] - planted["places"]["c"]
    assert turned.rows["bbq", "plain", "greedy"]["extra"]["position_bias"] == pytest.approx(bias, abs=0.03)


@pytest.mark.parametrize("benchmark", SAMPLED)
def test_plain_sampled_answers_come_at_the_planted_rates(quick, benchmark):
    assert SAMPLED[benchmark](quick, "plain") == SAMPLED_GROUPS[benchmark]


def test_answers_end_by_themselves_and_some_items_are_peaked_and_some_undecided(quick):
    for benchmark in ("worldbench", "dt-stereotyping", "discrim-eval-gen"):
        ended = [o.samples[0].values["ended"] for o in quick.outcomes(benchmark, "plain", "greedy")]
        assert fmean(ended) >= 0.99, benchmark
    uncertainty = [o.uncertainty for o in quick.outcomes("discrim-eval", "plain", "greedy")]
    assert np.quantile(uncertainty, 0.1) < 0.25 and np.quantile(uncertainty, 0.9) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["plain", "chat"])
@pytest.mark.parametrize("benchmark", GREEDY)
def test_every_format_scores_as_planted(everything, benchmark, fmt):
    held = GREEDY[benchmark](everything, fmt)
    assert held == everything.rows[benchmark, fmt, "greedy"]["n_items"]


@pytest.mark.slow
@pytest.mark.parametrize("fmt", ["plain", "chat"])
@pytest.mark.parametrize("benchmark", SAMPLED)
def test_every_format_samples_at_the_planted_rates(everything, benchmark, fmt):
    assert SAMPLED[benchmark](everything, fmt) == SAMPLED_GROUPS[benchmark]
