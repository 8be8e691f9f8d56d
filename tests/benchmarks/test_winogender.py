from __future__ import annotations

import itertools
import math

import pytest
from extra import example, linked
from helpers import request, sequence

from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.benchmarks.winogender import Winogender, female_minus_male, mismatch, slope
from tiltmeter.scoring.requests import SequenceLogprob

BENCHMARK = Winogender()


@pytest.fixture(scope="session")
def items(shared, tmp_path_factory):
    return BENCHMARK.load(linked(shared / "data" / "extra", tmp_path_factory.mktemp("extra")))


def picking(item, option):
    likely = {option: -21.0, 1 - option: -24.0}
    answers = [sequence(likely[0], 12), sequence(likely[1], 12), sequence(-18.0, 11), sequence(-20, 9)]
    return BENCHMARK.outcome(item, answers)


def gendered(items):
    return [item for item in items if item.groups["gender"] != "neutral"]


def test_g1_prompt_options_and_right_one(items):
    item = next(i for i in items if i.id == "technician.customer.1.female")
    want, asked = example("G1")["want"], request(BENCHMARK, item)
    assert asked[2] == SequenceLogprob(want["prompt"])
    assert [r.text.removeprefix(want["prompt"]) for r in asked[:2]] == want["options"]
    assert want["options"][item.data["right"]] == want["right"]


def test_720_sentences_of_60_occupations_half_of_the_gendered_ones_mislead(items):
    assert len(items) == BENCHMARK.n_items and len({i.cluster for i in items}) == 60
    assert sum(i.data["someone"] for i in items) == 360
    for gender in ("male", "female"):
        mine = [i for i in items if i.groups["gender"] == gender]
        assert (len(mine), sum(i.data["gotcha"] for i in mine)) == (240, 120)
    assert not any(i.data["gotcha"] for i in items if i.groups["gender"] == "neutral")


@pytest.mark.parametrize("identity, occupation", [("G2", "technician"), ("G3", "librarian")])
def test_which_sentences_are_gotchas(items, identity, occupation):
    mine = {i.id.split(".", 2)[2]: bool(i.data["gotcha"]) for i in items if i.cluster == occupation}
    for place, want in example(identity)["want"].items():
        gender, answer = place.split(".")
        assert mine[f"{answer}.{gender}"] == want


def test_g4_mismatch_is_the_share_of_pairs_resolved_differently(items):
    pairs = {}
    for item in gendered(items):
        pairs.setdefault(item.id.rpartition(".")[0], {})[item.groups["gender"]] = item
    place = {"occ": 0, "part": 1}
    outcomes = [
        picking(pair[gender], place[name])
        for pair, names in zip(pairs.values(), example("G4")["given"]["pairs"])
        for gender, name in zip(("male", "female"), names)
    ]
    assert mismatch(outcomes) == example("G4")["want"]["mismatch"]


def test_g5_female_less_male_of_one_occupation(items):
    given, mine = example("G5")["given"], [i for i in items if i.cluster == "nurse"]
    outcomes = []
    for gender in ("female", "male"):
        four = [i for i in mine if i.groups["gender"] == gender]
        outcomes += [picking(item, int(place >= given[gender])) for place, item in enumerate(four)]
    assert female_minus_male(outcomes) == example("G5")["want"]["female_minus_male"]


@pytest.mark.parametrize(
    "identity, rule",
    [
        ("G6", lambda i: i.data["right"]),
        ("G7", lambda i: 0),
        ("G8", lambda i: int((i.groups["gender"] == "female") != (i.data["share"] >= 50))),
    ],
)
def test_three_responders(items, identity, rule):
    score = BENCHMARK.score([picking(item, rule(item)) for item in gendered(items)])
    found = (score.extra["accuracy"], score.extra["mismatch_percent"], score.value)
    assert found == pytest.approx(tuple(example(identity)["want"].values()))
    assert math.isnan(score.extra["acc_neutral"])
    if identity == "G8":
        # 100 points at shares below 50, -100 above: the slope is positive, and every occupation is at an end
        assert score.extra["slope_on_share"] > 0
        assert {abs(g.score) for g in score.groups if g.attribute == "occupation"} == {100.0}
        assert score.extra["gap_named"] == score.extra["gap_someone"] == 100


def test_g9_the_gap_is_the_mean_of_the_two_genders(items):
    given, want = example("G9")["given"], example("G9")["want"]
    gaps = {gender: given[gender]["no"] - given[gender]["yes"] for gender in ("female", "male")}
    assert gaps["female"] == pytest.approx(want["gap_female"]) and gaps["male"] == pytest.approx(want["gap_male"])
    # 120 sentences a cell: 46, 12, 62, 45 right are the paper's percentages (38.3, 10.0, 51.7, 37.5)
    right = {("female", 0): 46, ("female", 1): 12, ("male", 0): 62, ("male", 1): 45}
    outcomes = []
    for (gender, gotcha), count in right.items():
        cell = [i for i in items if i.groups["gender"] == gender and i.data["gotcha"] == gotcha]
        outcomes += [
            picking(i, i.data["right"] if place < count else 1 - i.data["right"]) for place, i in enumerate(cell)
        ]
    assert BENCHMARK.score(outcomes).value == pytest.approx(want["gap"], abs=0.05)


def test_g10_noise_alone_raises_the_mismatch_and_leaves_the_gap(items):
    # both sentences of a pair are flipped with probability e on their own: expected mismatch 2e(1-e), by enumeration
    for e, want in zip(example("G10")["given"]["e"], example("G10")["want"]["mismatch"]):
        pair = [i for i in gendered(items) if i.id.startswith("technician.customer.1.")]
        expected = 0.0
        for flips in itertools.product((0, 1), repeat=2):
            weight = math.prod(e if flip else 1 - e for flip in flips)
            outcomes = [picking(i, i.data["right"] ^ flip) for i, flip in zip(pair, flips)]
            expected += weight * mismatch(outcomes)
        assert expected == pytest.approx(want)
    # the expected gap is linear in the items, and every item's expected score is 1 - e: helped less misled is 0
    all_right = BENCHMARK.score([picking(i, i.data["right"]) for i in gendered(items)])
    all_wrong = BENCHMARK.score([picking(i, 1 - i.data["right"]) for i in gendered(items)])
    assert all_right.value == all_wrong.value == 0


def test_a_slope_needs_three_occupations(items):
    two = [picking(i, 0) for i in gendered(items) if i.cluster in ("nurse", "engineer")]
    assert math.isnan(slope(two))


def test_the_paired_gap_and_a_mismatch_that_is_only_told(items):
    right = [picking(i, i.data["right"]) for i in items]

    def by_gender(item):
        if item.groups["gender"] == "neutral":
            return item.data["right"]
        return int((item.groups["gender"] == "female") != (item.data["share"] >= 50))

    swayed = [picking(i, by_gender(i)) for i in items]
    change = compare(BENCHMARK.comparison(right, swayed, margin=2.0), draws=500)
    assert (change.base, change.variant) == (0.0, 100.0)
    assert change.flips.toward_bias == change.flips.n == 240  # every gotcha sentence turned wrong
    (settled,) = settle([Row("m", "int4", "plain", "greedy", "winogender", change)])
    assert settled.verdict == "worse"
    assert {g.group: g.delta for g in change.groups} == {"male": 100.0, "female": 100.0}
    # alternate pairs lose their female sentence, gotcha and not in equal number: the mismatch rises, the gap stays
    turned = {i.id for i in gendered(items) if i.groups["gender"] == "female" and i.data["someone"]}
    noisy = [picking(i, i.data["right"] ^ (i.id in turned)) for i in items]
    change = compare(BENCHMARK.comparison(right, noisy, margin=2.0), draws=500)
    assert change.delta == 0.0 and change.arms[-1].role == "noisy" and change.arms[-1].delta == 50.0
    assert change.arms[-1].variant == BENCHMARK.score(noisy).extra["mismatch_percent"]
    (settled,) = settle([Row("m", "int4", "plain", "greedy", "winogender", change)])
    assert "it rises with any noise" in str(settled.reason) or settled.verdict == "equivalent"
