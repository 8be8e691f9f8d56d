"""The toy world: its files, its prompts, its planted values, and the trees it is taught with."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tiltmeter.demo.training import corpus, frames, words
from tiltmeter.demo.training.asked_items import over_orders, places
from tiltmeter.demo.training.files import DATA, write_data
from tiltmeter.demo.training.option_items import KNOWN_CHANGES, decisions
from tiltmeter.demo.training.planted import decision_contrasts, planted_values
from tiltmeter.demo.training.tree import Row, branch_targets, greedy
from tiltmeter.demo.training.world import build_world
from tiltmeter.registry import build

SEQUENCES = ("crows-pairs", "winobias")  # their requests end with an answer
MODEL = DATA.parent / "models" / "base"


@pytest.fixture(scope="module")
def world():
    return build_world()


@pytest.fixture(scope="module")
def tokenizer():
    return corpus.train_tokenizer()


def test_the_shipped_files_are_what_the_generator_writes(tmp_path):
    write_data(tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {str(path.relative_to(DATA)) for path in DATA.rglob("*") if path.is_file()}
    assert written | {"planted.json"} == shipped
    for name in written:
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes(), name


def test_the_shipped_planted_values_are_those_of_the_world():
    assert json.loads((DATA / "planted.json").read_text(encoding="utf-8")) == json.loads(json.dumps(planted_values()))


def test_the_world_is_as_large_as_promised():
    sizes = {name: len(build("benchmark", name).load(DATA)) for name in build_world()}
    assert sizes == {
        "crows-pairs": 150,
        "global-opinion-qa": 60,
        "worldbench": 200,
        "dt-stereotyping": 168,
        "discrim-eval": 900,
        "discrim-eval-gen": 80,
        "bbq": 144,
        "winobias": 120,
    }
    countries = set().union(*(item.row["selections"] for item in build_world()["global-opinion-qa"]))
    assert sum("(" not in country for country in countries) == 21  # 20 that count and one with too few questions


def test_every_items_answers_are_a_distribution(world):
    for items in world.values():
        for item in items:
            assert sum(answer.probability for answer in item.answers) == pytest.approx(1, abs=1e-9)
            assert min(answer.probability for answer in item.answers) > 0


@pytest.mark.parametrize("fmt", ["plain", "chat"])
def test_the_model_is_taught_exactly_the_prompts_the_benchmarks_send(world, fmt):
    from transformers import AutoTokenizer

    from tiltmeter.scoring.prompts import renderer

    render, _ = renderer(fmt, AutoTokenizer.from_pretrained(MODEL))
    for name, items in world.items():
        benchmark = build("benchmark", name)
        if fmt not in benchmark.formats:
            continue
        loaded = benchmark.load(DATA)
        assert len(loaded) == len(items)
        for item, taught in zip(loaded, items):
            request = benchmark.requests(item, render, decoding="greedy", n_samples=1, seed=0)[0]
            sent = getattr(request, "prompt", None) or request.text
            expected = taught.prompts[fmt][0] + (taught.answers[0].text if name in SEQUENCES else "")
            assert sent.removeprefix(frames.BOS) == expected.removeprefix(frames.BOS)


def test_the_tokens_the_protocol_reads_are_single_and_the_shipped_tokenizer_is_the_trained_one(tokenizer):
    for token in ("yes", "no", *"ABCDE"):
        assert len(tokenizer.encode(token, add_special_tokens=False).ids) == 1, token
    assert tokenizer.encode("1250", add_special_tokens=False).tokens == ["1", "2", "5", "0"]
    shipped = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    assert shipped["model"]["merges"] == json.loads(tokenizer.to_str())["model"]["merges"]


def test_the_two_sentences_of_a_pair_have_as_many_tokens(world, tokenizer):
    # else mean per token and sum could prefer different sentences and the planted preference be ambiguous
    for item in world["crows-pairs"]:
        assert len({len(corpus.encode(tokenizer, answer.text)) for answer in item.answers}) == 1


def test_every_order_of_bbqs_answers_comes_equally_often_so_that_a_place_is_liked_for_itself(world):
    orders = Counter(tuple(item.row["groups"].index(group) if group in item.row["groups"] else 2
                           for group in (*words.ASKED_GROUPS[item.row["category"]], "unknown"))
                     for item in world["bbq"])  # fmt: skip
    assert len(orders) == 6 and set(orders.values()) == {144 // 6}


def test_a_place_is_preferred_by_the_planted_log_weight_in_every_order():
    # stereotyped stands at b, other at c, unknown at a; all mean the same, so only the places differ
    assert places([2, 0, 1], np.zeros(3)) == pytest.approx(np.exp([0.4, 0, -0.4]) / np.exp([0.4, 0, -0.4]).sum())
    # turned by one, the place a holds what stood at b (weight ln 2): 2 e^.4 against 1 and e^-.4
    turned = np.array([2 * np.exp(0.4), 1.0, np.exp(-0.4)])
    assert places([2, 0, 1], np.array([np.log(2), 0, 0]), shift=1) == pytest.approx(turned / turned.sum())
    # option 0 stands at a, then at c, then at b: (.5 + .3 + .1)/3
    assert over_orders([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3], [0.2, 0.1, 0.7]])[0] == pytest.approx(0.3)


def test_the_turned_orders_taught_are_those_the_benchmark_asks(world):
    benchmark = build("benchmark", "bbq")
    loaded = benchmark.all_orders(benchmark.load(DATA))
    for item, taught in zip(loaded, world["bbq"], strict=True):
        sent = benchmark.requests(item, lambda prompt: prompt.plain, decoding="greedy", n_samples=1, seed=0)
        expected = [each.prompts["plain"][0] for each in (taught, *taught.orders)]
        assert [frames.BOS + request.prompt for request in sent] == expected


def test_where_the_text_tells_the_right_answer_is_the_one_it_names(world):
    for item in world["bbq"]:
        row = item.row
        right = row["answers"][row["label"]]
        if row["context_condition"] == "ambig":
            assert right in words.UNKNOWN
        else:
            deed = row["question"].removeprefix("Who ").removesuffix("?")
            assert f"{right.removeprefix('The ')} {deed}" in row["context"]


def test_winobias_sentences_are_read_as_planted(world):
    for item, taught in zip(build("benchmark", "winobias").load(DATA), world["winobias"], strict=True):
        right = [answer.label for answer in taught.answers].index("right")
        assert item.data["right"] == right and item.groups["pronoun"] == taught.row["gender"]
        assert [f" {option}" for option in item.data["options"]] == [answer.text for answer in taught.answers]
        assert (item.groups["occupation"] in words.OCCUPATIONS[taught.row["gender"]]) == item.data["pro"]


def test_branch_targets_are_exact_conditional_probabilities():
    # three answers: 1 2 (.5), 1 3 (.2), 4 (.3): first token 1 with .7; after it 2 with .5/.7
    targets = branch_targets([([1, 2], 0.5), ([1, 3], 0.2), ([4], 0.3)])
    assert targets[()][1] == pytest.approx({1: 0.7, 4: 0.3})
    assert targets[(1,)][0] == pytest.approx(0.7)
    assert targets[(1,)][1] == pytest.approx({2: 5 / 7, 3: 2 / 7})


def test_greedy_decoding_need_not_write_the_likeliest_answer():
    # token 1 leads with .6 in two answers of .3; the likeliest single answer is 4 with .4
    assert greedy([([1, 2], 0.3), ([1, 3], 0.3), ([4], 0.4)]) in (0, 1)


def test_a_row_shares_prompt_beginnings_and_every_token_sees_only_its_own_past():
    row = Row(capacity=20)
    assert row.add([1, 2, 3], [([7, 8], 1.0)], prompt_weight=0.5)
    assert row.add([1, 2, 4], [([9], 1.0)])
    assert row.tokens == [1, 2, 3, 7, 4]  # 8 and 9 are targets only: nothing is asked after them
    assert row.positions == [0, 1, 2, 3, 2]
    sees = row.attention(6)
    assert np.flatnonzero(sees[3]).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(sees[4]).tolist() == [0, 1, 4]
    assert np.flatnonzero(sees[5]).tolist() == [5]  # padding
    assert (2, 7, 1.0) in row.targets and (4, 9, 1.0) in row.targets and (0, 2, 0.5) in row.targets


def test_a_row_without_room_is_left_as_it_was():
    row = Row(capacity=3)
    row.add([1, 2], [([7], 1.0)])
    assert not row.add([3, 4], [([7], 1.0)])
    assert row.tokens == [1, 2]


def test_the_known_changes_move_the_planted_contrasts_by_the_stated_amounts():
    base = decision_contrasts(decisions())
    worse, better = (decision_contrasts(decisions(KNOWN_CHANGES[name])) for name in ("worse", "better"))
    assert worse["race"]["Black"] - base["race"]["Black"] == pytest.approx(-0.8, abs=1e-6)
    assert worse["race"]["Asian"] == pytest.approx(base["race"]["Asian"], abs=1e-6)
    assert worse["age"] == base["age"]
    for attribute, groups in base.items():
        for group, value in groups.items():
            # effects shrink to a quarter; what differs from question to question (sd .12) stays
            assert better[attribute][group] == pytest.approx(0.25 * value, abs=0.15)


def test_a_reversal_turns_every_contrast_round_and_a_fainter_model_keeps_them_all_in_proportion():
    base = decision_contrasts(decisions())
    turned, fainter = (decision_contrasts(decisions(KNOWN_CHANGES[name])) for name in ("reversed", "fainter"))
    for attribute, groups in base.items():
        for group, value in groups.items():
            # what differs from question to question (sd .12 over 20 questions, two groups) does not turn with it
            assert turned[attribute][group] == pytest.approx(-value, abs=0.15)
            assert fainter[attribute][group] == pytest.approx(0.7 * value, abs=1e-6)


def test_training_rows_repeat_for_a_seed_and_keep_to_their_size(world, tokenizer):
    first, again, other = (
        [corpus.Rows(world, tokenizer, seed).next_row().tokens for _ in range(1)] for seed in (1, 1, 2)
    )
    assert first == again and first != other
    rows = corpus.Rows(world, tokenizer, 5)
    assert max(len(rows.next_row().tokens) for _ in range(60)) <= corpus.ROW_TOKENS


def test_models_fit_the_promised_sizes():
    weights = [path.stat().st_size for path in Path(MODEL.parent).rglob("*.safetensors")]
    assert len(weights) == 6 and max(weights) <= 8e6 and sum(weights) < 16e6
