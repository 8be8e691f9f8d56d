"""Every input/output pair of the published functions, the literal prompts, and the published DiscrimEvalGen counts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from helpers import golden_json, options

from tiltmeter.benchmarks import discrim_eval, discrim_eval_gen, dt_stereotyping, global_opinion, world_bench
from tiltmeter.benchmarks.base import Item


@pytest.fixture(scope="module")
def pairs(request):
    root = request.config.rootpath
    return golden_json(root / "tests" / "golden", "scores_and_parsers.json")


def test_worldbench_parser_gives_every_published_number(pairs):
    assert len(pairs["worldbench_parse"]) == 126
    assert [world_bench.parse(answer) for answer, _ in pairs["worldbench_parse"]] == [
        number for _, number in pairs["worldbench_parse"]
    ]


def test_worldbench_relative_errors_are_the_published_ones(pairs):
    for a, b, error in pairs["worldbench_abs_rel_error"]:
        assert world_bench.relative_error(a, b) == pytest.approx(error, rel=1e-12)


def test_dt_classifier_gives_every_published_class(pairs):
    assert len(pairs["dt_classify"]) == 140
    for answer, label in pairs["dt_classify"]:
        assert dt_stereotyping.classify(answer) == label.lower().replace("_", " "), answer


def test_discrim_eval_gen_parser_gives_every_published_choice(pairs):
    assert len(pairs["discrim_eval_gen_parse"]) == 320
    for attribute, answer, group in pairs["discrim_eval_gen_parse"]:
        assert discrim_eval_gen.parse(answer, attribute)[0] == group, answer


def test_discrim_eval_gen_scores_are_the_published_ones_to_their_four_digits(pairs):
    for labels, score in pairs["discrim_eval_gen_score"]:
        assert discrim_eval_gen.concentration(labels, "gender") == pytest.approx(score, abs=5.001e-5)


def test_global_opinion_medians_and_gini_are_the_published_ones_from_whole_questions_to_score(pairs):
    benchmark = global_opinion.GlobalOpinionQA()
    for case in pairs["global_opinion_gini"]:  # two cases hold a country with fewer than 50 answered questions
        outcomes = []
        for number, question in enumerate(case["questions"]):
            order = list(range(len(question["model"])))
            item = Item(str(number), str(number), {}, {"countries": question["countries"], "order": order})
            outcomes.append(benchmark.outcome(item, [options(*(0.7 * p for p in question["model"]))]))
        score = benchmark.score(outcomes)
        assert score.value == pytest.approx(case["gini"], rel=1e-9)
        medians = {group.group: group.score for group in score.groups}
        assert medians == pytest.approx(case["median_wasserstein"], rel=1e-9)
        assert score.extra["mass_outside"] == pytest.approx(0.3)
        assert score.n_scored == 60


def test_discrim_eval_max_min_is_the_published_one(pairs):
    for matrix, score in pairs["discrim_eval_max_min"]:
        questions = {str(number): row for number, row in enumerate(matrix)}
        assert discrim_eval.mean_max_min(questions) == pytest.approx(score, rel=1e-12)


def test_literal_prompt_texts_are_the_published_ones(golden):
    literal = golden_json(golden, "prompts.json")
    assert {
        "global_opinion_qa.options_line": global_opinion.OPTIONS_LINE,
        "global_opinion_qa.answer_prefix": global_opinion.PREFIX,
        "worldbench.system": world_bench.SYSTEM,
        "worldbench.chat_acknowledgement": world_bench.ACKNOWLEDGEMENT,
        "dt_stereotyping.system": dt_stereotyping.SYSTEM,
        "discrim_eval.question": discrim_eval.QUESTION.format("yes", "no"),
        "discrim_eval.answer_prefix": discrim_eval.PREFIX.format("yes", "no"),
    } == literal


def test_14_determined_cells_of_table_2_follow_from_the_counts_of_table_b4(golden):
    with open(golden / "published_results.csv", newline="", encoding="utf-8") as file:
        wanted = ("discrim-eval-gen", "plain", "greedy")
        rows = [row for row in csv.DictReader(file) if (row["benchmark"], row["format"], row["decoding"]) == wanted]
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        if row["metric"].startswith("count="):
            cell = counts.setdefault((row["model"], row["strategy"]), {})
            cell[row["metric"].removeprefix("count=")] = int(row["value"])
    published = {(row["model"], row["strategy"]): row["value"] for row in rows if row["metric"] == "score"}
    determined = 0
    for cell, chosen in counts.items():
        labels = [None if group == "no_response" else group for group, count in chosen.items() for _ in range(count)]
        score = discrim_eval_gen.concentration(labels, "gender")
        if published[cell]:
            determined += 1
            assert score == pytest.approx(float(published[cell]), abs=0.00501), cell  # two printed digits
        else:
            assert np.isnan(score), cell
    assert (determined, len(counts)) == (14, 22)
