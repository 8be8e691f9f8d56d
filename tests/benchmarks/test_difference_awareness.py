from __future__ import annotations

import math
from collections import Counter

import pytest
from extra import example, linked
from helpers import chat, options, request, text

from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.benchmarks import _option_letters
from tiltmeter.benchmarks._awareness import NO_DIFFERENCE, RIGHT, WRONG, Answers
from tiltmeter.benchmarks.difference_awareness import DifferenceAwareness, DifferenceAwarenessLetters
from tiltmeter.scoring.requests import Generation

WRITTEN, LETTERS = DifferenceAwareness(), DifferenceAwarenessLetters()


@pytest.fixture(scope="session")
def items(shared, tmp_path_factory):
    return WRITTEN.load(linked(shared / "data" / "extra", tmp_path_factory.mktemp("extra")))


def of(items, name):
    return [item for item in items if item.id.startswith(f"{name}/")]


def saying(item, option):
    return WRITTEN.outcome(item, [text(f"({'abc'[option]})" if option is not None else "I cannot say.")])


def test_d1_the_words_the_model_gets(items):
    item, want = of(items, "D2/diff")[0], example("D1")["want"]
    (asked,) = request(WRITTEN, item, chat)
    assert asked == Generation(f"[system]{want['system']}[user]{want['user']}", 200)
    assert item.data["right"] == want["right"]
    (plain,) = request(WRITTEN, item)
    assert plain.prompt == (
        f"{want['system']}\n{want['user']}\n"
        "Answering between the provided multiple choice letter options, I would choose letter "
    )
    assert request(WRITTEN, of(items, "D1/diff")[0], chat)[0].prompt.startswith("[user]")  # no system text


@pytest.mark.parametrize("identity", ["D2", "D3"])
def test_the_published_parser(identity):
    case = example(identity)
    assert [_option_letters.parse(answer) for answer in case["given"]["answers"]] == case["want"]["options"]


@pytest.mark.parametrize(
    "answer, option",
    [
        ("<strong>b</strong> because", 1),
        ("Sure! **c.**", 2),
        ("I would go with option b. Thanks", 1),
        ("<p>(b)</p>", 1),
        ("(b)\nuser\n(a)", 1),
        ("b", 1),
        ("Based on this: (c)", 2),
        ("I don't know", -2),
        ("  \n", -1),
    ],
)
def test_further_spellings(answer, option):
    assert _option_letters.parse(answer) == option


@pytest.mark.parametrize("identity", ["D4", "D5", "D6", "D7", "D8"])
def test_scores_from_counts(identity):
    given, want = example(identity)["given"], example(identity)["want"]
    right, wrong, equal, differing = given.values()
    found = Answers(right, wrong, equal, differing, 1000 - differing)
    assert found.diff_aware == pytest.approx(want["diff_aware"], abs=5e-7)
    if want["ctxt_aware"] is None:
        assert math.isnan(found.ctxt_aware)
    else:
        assert found.ctxt_aware == pytest.approx(want["ctxt_aware"], abs=5e-7)


def test_d9_refusing_on_equal_raises_the_count_form_and_not_the_rates():
    right, wrong, equal, differing = example("D9")["given"].values()
    found, want = Answers(right, wrong, equal, differing, 500 - differing), example("D9")["want"]
    assert (found.diff_aware, found.ctxt_aware) == (want["diff_aware"], want["ctxt_aware"])
    assert found.ctxt_aware_by_rate == pytest.approx(0.75)


def test_d10_on_equal_the_right_answer_is_no_difference_whatever_is_stored(items):
    item, want = of(items, "N4/equal")[0], example("D10")["want"]
    assert (item.data["right"], item.data["marginalized"]) == (want["right"], want["marginalized_option"])
    assert all(i.data["right"] == 2 for i in items if i.data["equal"])
    sample = saying(item, 1).samples[0]
    assert (sample.score, sample.label, sample.values["marginalized"]) == (0.0, WRONG, 1.0)


def test_14000_questions_in_their_scenarios(items):
    assert len(items) == WRITTEN.n_items and set(Counter(i.id.rpartition("/")[0] for i in items).values()) == {1000}
    scenarios = {
        name: len({i.cluster for i in of(items, name)}) for name in ("D3/diff", "D4/diff", "N3/equal", "N4/diff")
    }
    assert scenarios == {"D3/diff": 66, "D4/diff": 419, "N3/equal": 142, "N4/diff": 67}
    assert sum(i.data["letters"][0] == "1" for i in items) == 1_007


def test_facts_and_values_are_never_averaged_and_unread_answers_are_counted(items):
    outcomes = []
    for item in [i for name in ("D1", "N2") for part in ("diff", "equal") for i in of(items, f"{name}/{part}")[:10]]:
        awake = item.groups["set"] == "D1"
        outcomes.append(saying(item, item.data["right"] if awake else 2))
    outcomes.append(saying(of(items, "D1/diff")[10], None))
    score = WRITTEN.score(outcomes)
    assert (score.value, score.extra["ctxt_aware"]) == (1.0, 1.0)
    assert score.extra["diff_aware_values"] == 0.0 and math.isnan(score.extra["ctxt_aware_values"])
    assert (score.n_items, score.n_scored) == (41, 40) and sum(score.unscored.values()) == 1
    assert {o.samples[0].label for o in outcomes if o.samples[0].label} == {RIGHT, NO_DIFFERENCE}


def test_letters_in_all_orders_move_no_difference_from_its_place(items):
    (item,) = LETTERS.all_orders([of(items, "N3/diff")[1]])
    asked = request(LETTERS, item)
    assert [r.options[0][0] for r in asked] == ["1", "1", "1"]
    tails = [r.prompt.split("\n")[2] for r in asked]
    assert tails[0].startswith("(1) Americans with Asian heritage (b) Caucasian Americans (c) no initiatives")
    assert tails[1].startswith("(1) Caucasian Americans (b) no initiatives")
    assert tails[2].startswith("(1) no initiatives")
    # only likes the third place: as published that looks like "no difference", over all orders it does not
    outcome = LETTERS.outcome(item, [options(0.1, 0.1, 0.8)] * 3)
    assert outcome.samples[0].values["p_no_difference"] == pytest.approx(1 / 3)
    score = LETTERS.score([outcome])
    assert score.extra["position_bias"] == pytest.approx(0.7) and "words_per_answer" not in score.extra


def test_a_limit_takes_every_set_and_list(items):
    some = WRITTEN.subset(items, 140, seed=1)
    assert set(Counter(i.id.rpartition("/")[0] for i in some).values()) == {10}


def test_the_paired_scores_the_equal_list_and_the_kinds_of_flips(items):
    some = WRITTEN.subset(items, 1_400, seed=0)
    right = [saying(item, item.data["right"]) for item in some]
    never = [saying(item, item.data["right"] if not item.data["equal"] else 0) for item in some]
    change = compare(WRITTEN.comparison(right, never, margin=0.02), draws=500)
    # told apart everywhere: DiffAware stays 1, CtxtAware falls to 1/2
    assert (change.base, change.variant) == (1.0, 1.0)
    contexts = [arm for arm in change.arms if "in context" in str(arm.name)]
    assert [(round(arm.variant, 3), arm.p < 0.05) for arm in contexts] == [(0.5, True), (0.5, True)]
    assert change.extra["flips_over_differentiation"] == 700
    (settled,) = settle([Row("m", "int4", "plain", "greedy", "difference-awareness", change)])
    assert settled.verdict == "worse" and "awareness in context" in str(settled.reason)
    blind = [saying(item, 2) for item in some]
    change = compare(WRITTEN.comparison(right, blind, margin=0.02), draws=500)
    (settled,) = settle([Row("m", "int4", "plain", "greedy", "difference-awareness", change)])
    assert change.variant == 0.0 and settled.verdict == "worse" and settled.distance_delta == 1.0
    assert change.extra["flips_awareness_lost"] == 700 and change.flips.toward_bias == 0
    assert [g.group for g in change.groups] == ["D1", "D2", "D3", "D4", "N2", "N3", "N4"]
