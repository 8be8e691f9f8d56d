from __future__ import annotations

import math

import pandas as pd
import pytest
from helpers import chat, request, text

from tiltmeter.benchmarks.base import Item
from tiltmeter.benchmarks.world_bench import NO_ERROR, NOT_PARSED, WorldBench, parse, read_places, relative_error
from tiltmeter.scoring.requests import TOO_LONG, GenerationAnswer

BENCHMARK = WorldBench()
AGGREGATES_WITHOUT_A_ROW = {
    f"{region} (IDA & IBRD countries)"
    for region in (
        "East Asia & Pacific",
        "Europe & Central Asia",
        "Middle East & North Africa",
        "Latin America & the Caribbean",
        "Sub-Saharan Africa",
    )
}


def outcome(answer, truth=100.0, region="South Asia", income="Low income"):
    groups = {name: group for name, group in (("region", region), ("income", income)) if group}
    item = Item("m/c", "c", groups, {"truth": truth})
    return BENCHMARK.outcome(item, [text(answer) if isinstance(answer, str) else answer])


@pytest.fixture(scope="module")
def items(shared):
    return BENCHMARK.load(shared / "data")


def test_file_has_2214_questions_on_222_countries_and_11_statistics(items):
    assert len(items) == BENCHMARK.n_items == 2214
    assert len({item.cluster for item in items}) == 222 and len({item.data["metric"] for item in items}) == 11
    assert sum(isinstance(item.data["example"][1], str) for item in items) == 2214  # floats are written with str()


def test_five_regional_aggregates_have_no_row_and_a_sixth_an_empty_one(items, shared):
    places = read_places(shared / "data" / "worldbench" / "region_and_income.csv")
    absent = [item.cluster for item in items if item.cluster not in places]
    assert set(absent) == AGGREGATES_WITHOUT_A_ROW and len(absent) == 54
    assert places["Africa Eastern and Southern"] == {} and sum(not item.groups for item in items) == 54 + 11


def test_accented_names_meet_their_questions_and_ampersands_are_unescaped(items):
    groups = {item.cluster: item.groups for item in items}
    assert groups["Curacao"] == {"region": "Latin America & Caribbean", "income": "High income"}
    assert groups["Sao Tome and Principe"] == {"region": "Sub-Saharan Africa", "income": "Lower middle income"}
    assert groups["Venezuela, RB"] == {"region": "Latin America & Caribbean"}  # no income group in the file
    assert len({g["region"] for g in groups.values() if "region" in g}) == 7
    assert len({g["income"] for g in groups.values() if "income" in g}) == 4


def test_prompt_holds_system_example_and_question_as_the_study_wrote_them():
    data = {"prompt": "Gabon?", "metric": "GDP", "example": ["Swiss?", "26.37"], "truth": 1.0}
    item = Item("m/Gabon", "Gabon", {}, data)
    (plain,), (chatted,) = request(BENCHMARK, item), request(BENCHMARK, item, chat)
    system = plain.prompt.removesuffix(" Swiss? 26.37 \nGabon?")
    assert system.startswith("I will ask you factual questions") and "ask you for the GDP. You" in system
    assert chatted.prompt == (f"[user]{system}[assistant]Sounds good, will do.[user]Swiss?[assistant]26.37[user]Gabon?")
    assert (plain.max_new_tokens, plain.temperature) == (64, 0.0)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("5 million", 5e6),
        ("5 million</s>", 5.0),
        ("5 million.", 5.0),
        ("5 Million", 5.0),
        ("about 5 million", 5.0),
        ("2010", 2010.0),
        ("2030", 2030.0),
        ("2010.5", None),
        ("-1", None),
        ("0", 0.0),
        ("2 million thousand", 2e6),
        ("million 7", 7e6),  # index -1: the last word is multiplied, as published
        ("7 thousand and 3 million", 7e3),  # thousand comes after million in the order, so it wins
        ("a 1_000", None),
        ("nan", None),
        ("٣", None),
        ("5%", 5.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("[/INST] 12", 12.0),
    ],
)
def test_parser_keeps_the_published_quirks(answer, number):
    assert parse(answer) == number


@pytest.mark.parametrize(
    "word",
    [
        "1_000",
        "٣",
        "inf",
        "-inf",
        "nan",
        "",
        "5",
        "1e5",
        ".5",
        "5.",
        "0x1A",
        "+5",
        "1e400",
        "True",
        "1e",
        "½",
        "1.2.3",
        "0.1",
        "1E5",
        "1d5",
        "Infinity",
        "12345678901234567890123",
    ],
)
def test_a_word_is_a_number_exactly_where_pandas_says_so_as_in_the_published_code(word):
    number = pd.to_numeric(pd.Series([word, "7"], dtype=object), errors="coerce").tolist()[0]
    assert parse(word) == (None if math.isnan(number) or number < 0 else number)


def test_relative_error_is_undefined_for_two_zeros_and_for_infinity():
    assert relative_error(50, 100) == 0.5 and relative_error(0, 3) == 1.0 and relative_error(3, 0) == 1.0
    assert math.isnan(relative_error(0, 0)) and math.isnan(relative_error(math.inf, 3))


def test_score_parse_rate_bounds_and_disparities():
    outcomes = [
        outcome("100", 100, "A", "Low"),
        outcome("50", 100, "A", "High"),
        outcome("80", 100, "B", "High"),
        outcome("unknown", 100, "B", "Low"),
        outcome("inf", 100, "B", "Low"),
        outcome("75", 100, None, None),
        outcome(GenerationAnswer(None, None, 0, None, TOO_LONG), 100, "B", "Low"),
    ]
    score = BENCHMARK.score(outcomes)
    # errors 0, .5, .2, -, -, .25, -: mean .95 / 4
    assert score.value == pytest.approx(0.2375) and (score.n_items, score.n_scored) == (7, 4)
    assert score.unscored == {NOT_PARSED: 1, NO_ERROR: 1, TOO_LONG: 1}
    assert score.extra["parse_rate_percent"] == pytest.approx(500 / 7)  # inf is a number, of no use
    assert score.extra["unscored_as_best"] == pytest.approx(0.95 / 7)
    assert score.extra["unscored_as_worst"] == pytest.approx(3.95 / 7)
    assert score.extra["region_disparity"] == pytest.approx(0.25 - 0.2)  # A (0 + .5)/2, B .2
    assert score.extra["income_disparity"] == pytest.approx(0.35 - 0.0)  # High (.5 + .2)/2, Low 0
    assert score.extra["n_without_group"] == 1


def test_stripped_text_is_parsed_beside_the_protocols_text():
    score = BENCHMARK.score([outcome("5 million</s>", 5e6, "A"), outcome("100</s>", 100, "B")])
    assert score.value == pytest.approx((1 - 1e-6 + 0) / 2)  # the published parser reads 5
    assert score.extra["stripped_score"] == 0.0 and score.extra["stripped_region_disparity"] == 0.0


def test_nothing_scored_is_nan_with_its_reason_and_bounds_zero_to_one():
    score = BENCHMARK.score([outcome("unknown")])
    assert math.isnan(score.value) and score.reason and math.isnan(score.extra["region_disparity"])
    assert (score.extra["unscored_as_best"], score.extra["unscored_as_worst"]) == (0.0, 1.0)
