"""Data of the same formats with other groups and counts go through the same classes; and what all of them share."""

from __future__ import annotations

import csv
import json
import math

import invented
import pytest
from helpers import options, request, sequence, text

from tiltmeter.registry import build, known
from tiltmeter.scoring.requests import GenerationAnswer, OptionAnswer, SequenceAnswer, failed

COUNTRIES = [f"Land {number}" for number in range(4)]
ANSWERS = {
    "crows-pairs": sequence(-4, 4),
    "crows-pairs-fr": sequence(-4, 4),
    "discrim-eval": options(0.6, 0.2),
    "global-opinion-qa": options(0.5, 0.3),
    "worldbench": text("12</s>"),
    "dt-stereotyping": text("I agree.</s>"),
    "discrim-eval-gen": text("The man.</s>"),
    "bbq": options(0.5, 0.2, 0.1),
    "bbq-languages": options(0.5, 0.2, 0.1),
    "bbq-open": text("The elf.</s>"),
    "bbq-race-x-gender": options(0.5, 0.2, 0.1),
    "bbq-race-x-ses": options(0.5, 0.2, 0.1),
    "difference-awareness": text("(a)</s>"),
    "difference-awareness-letters": options(0.5, 0.2, 0.1),
    "winobias": sequence(-4, 4),
    "winogender": sequence(-4, 4),
}


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def world(tmp_path):
    """Invented data: 3 x 3 x 5 people instead of 9 x 3 x 5, made-up lands, two topics."""
    write_csv(
        tmp_path / "crows_pairs/crows_pairs_anonymized.csv",
        ["", "sent_more", "sent_less", "bias_type"],
        [[0, "A x.", "B x.", "guild"]],
    )
    write_csv(
        tmp_path / "worldbench/region_and_income.csv",
        ["Economy", "Region", "Income group"],
        [[land, "North" if n < 2 else "South", "Rich" if n % 2 else "Poor"] for n, land in enumerate(COUNTRIES)],
    )
    write_csv(
        tmp_path / "worldbench/worldbench.csv",
        ["prompt", "country", "example", "metric", "gt_answer_avg"],
        [[f"How many in {c}?", c, "('How many?', 9.0)", "count", 10 + n] for n, c in enumerate(COUNTRIES)],
    )
    write_csv(
        tmp_path / "dt_stereotyping/user_prompts.csv",
        ["stereotype_topic", "target_group", "user_prompt"],
        [[topic, group, f"{group} {topic}"] for topic in ("songs", "soup") for group in ("Bakers", "Elves")],
    )
    write_csv(
        tmp_path / "discrim_eval_gen/discrim_eval_gen.csv",
        ["decision_question_id", "prompt", "bias_type"],
        [
            [q, f"Pick. \nThe individuals are: a man, a woman, a non-binary person. \nCase {q}? ", "gender"]
            for q in (0, 7)
        ],
    )
    write_csv(
        tmp_path / "global_opinion_qa/global_opinions.csv",
        ["question", "selections", "options"],
        [
            [
                f"Q{q}?",
                "defaultdict(<class 'list'>, " + str({c: [n + 1, 3] for n, c in enumerate(COUNTRIES)}) + ")",
                "['yes', 'no']",
            ]
            for q in range(60)
        ],
    )
    people = [
        {
            "filled_template": f"T {age} {gender} {race}",
            "decision_question_id": question,
            "age": age,
            "gender": gender,
            "race": race,
        }
        for question in (3, 9)
        for age in (20, 60, 90)
        for gender in ("male", "female", "non-binary")
        for race in ("white", "Black", "Asian", "Hispanic", "Native American")
    ]
    (tmp_path / "discrim_eval").mkdir()
    (tmp_path / "discrim_eval/explicit.jsonl").write_text("".join(json.dumps(person) + "\n" for person in people))
    invented.bbq(tmp_path)
    invented.languages(tmp_path)
    invented.crows_pairs_fr(tmp_path)
    invented.winobias(tmp_path)
    invented.winogender(tmp_path)
    invented.difference_awareness(tmp_path)
    return tmp_path


def scored(name, folder, answer=None):
    benchmark = build("benchmark", name)
    items = benchmark.load(folder)
    outcomes = [benchmark.outcome(item, [answer or ANSWERS[name]] * len(request(benchmark, item))) for item in items]
    return benchmark.score(outcomes), items


@pytest.mark.parametrize(
    ("name", "n_items", "value"),
    [
        ("crows-pairs", 1, 0.0),
        ("discrim-eval", 90, 0.0),
        ("discrim-eval-gen", 2, 1.0),
        ("dt-stereotyping", 4, 100.0),
        ("worldbench", 4, (2 / 12 + 1 / 12 + 0 + 1 / 13) / 4),
        ("global-opinion-qa", 60, None),
    ],
)
def test_every_benchmark_scores_invented_data_of_its_format(world, name, n_items, value):
    score, items = scored(name, world)
    assert len(items) == score.n_items == score.n_scored == n_items
    if value is not None:
        assert score.value == pytest.approx(value)
    else:  # p(yes) .625; lands at 1/4, 2/5, 1/2, 4/7: distances to .625
        d = [0.375, 0.225, 0.125, 0.625 - 4 / 7]
        assert score.value == pytest.approx(sum(abs(a - b) for a in d for b in d) / 16 / 2 / (sum(d) / 4))


def test_limit_in_people_keeps_whole_questions_of_the_datas_own_size(world):
    benchmark = build("benchmark", "discrim-eval")
    assert len(benchmark.subset(benchmark.load(world), 10, seed=0)) == 45


@pytest.mark.parametrize("name", sorted(known("benchmark")))
def test_a_failed_request_is_unscored_with_its_reason_in_every_benchmark(world, name):
    benchmark = build("benchmark", name)
    items = benchmark.load(world)
    outcomes = [benchmark.outcome(item, [failed(r, "the reason") for r in request(benchmark, item)]) for item in items]
    score = benchmark.score(outcomes)
    assert math.isnan(score.value) and score.reason
    assert (score.n_scored, dict(score.unscored)) == (0, {"the reason": score.n_items})


@pytest.mark.parametrize("name", sorted(known("benchmark")))
def test_items_survive_the_run_folders_json(world, name):
    """The run folder keeps items as JSON: tuples come back as lists, and the outcome must be the same."""
    benchmark = build("benchmark", name)
    item = benchmark.load(world)[0]
    again = item.__class__(**json.loads(json.dumps({**item.__dict__, "groups": dict(item.groups)}, sort_keys=True)))
    answers = [ANSWERS[name]] * len(request(benchmark, item))
    assert benchmark.outcome(again, answers).samples == benchmark.outcome(item, answers).samples
    assert request(benchmark, again) == request(benchmark, item)


@pytest.mark.parametrize("name", sorted(known("benchmark")))
def test_robust_items_are_apart_from_the_protocols_items(world, name):
    benchmark = build("benchmark", name)
    items = benchmark.load(world)
    varied = benchmark.robust_items(items)
    assert all(item.variation for item in varied)
    assert not {item.id for item in items} & {item.id for item in varied}
    assert bool(varied) == (name in ("discrim-eval", "discrim-eval-gen", "dt-stereotyping", "global-opinion-qa"))
    if varied:  # every variation asks something else than the item it comes from
        assert request(benchmark, varied[0]) != request(benchmark, items[0])


@pytest.mark.parametrize("name", sorted(known("benchmark")))
def test_every_benchmark_states_what_a_reader_must_know(name):
    benchmark = build("benchmark", name)
    assert benchmark.name == name and str(benchmark.title).endswith("?") and "http" in benchmark.source
    assert benchmark.licence and benchmark.limits and benchmark.margin > 0 and benchmark.files
    kinds = {"sequence": SequenceAnswer, "options": OptionAnswer, "generation": GenerationAnswer}
    assert isinstance(ANSWERS[name], kinds[benchmark.request_kind])


def test_limit_is_balanced_over_clusters_and_the_same_for_every_model(world):
    benchmark = build("benchmark", "dt-stereotyping")
    items = benchmark.load(world)
    kept = benchmark.subset(items, 4, seed=1)
    assert kept == benchmark.subset(items, 4, seed=1) and len({item.cluster for item in kept}) == 4
