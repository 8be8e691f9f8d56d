"""Inputs on disk: single requests are found again, items come with all their answers."""

import random

import pytest

from tiltmeter.benchmarks.base import Item
from tiltmeter.runs.inputs import Inputs, write_inputs
from tiltmeter.runs.store import Cell, CellId, Store
from tiltmeter.scoring.requests import Generation, GenerationAnswer


def item(n):
    return Item(id=f"item {n}\u2028é", cluster="c", groups={"age": "20"}, data={"n": n})


# items of one, two and three requests in turn: request 0 | 1 2 | 3 4 5 | 6 | …
ASKED = [(item(n), tuple(Generation(f"p{n}", 5, 1.0, 1.0, seed) for seed in range(n % 3 + 1))) for n in range(9)]
FLAT = [request for _, asked in ASKED for request in asked]


def test_requests_are_found_by_their_number_in_any_order(tmp_path):
    inputs = Inputs(tmp_path / f"{write_inputs(tmp_path, ASKED)}.jsonl")
    assert (inputs.n_items, inputs.n_requests) == (9, 18)
    assert list(inputs) == ASKED
    assert list(inputs.requests()) == FLAT
    for indices in ([5, 0, 17, 0], list(range(18)), []):
        assert inputs.requests_at(indices) == [FLAT[index] for index in indices]
    assert [inputs.item_of(index) for index in range(7)] == [0, 1, 1, 2, 2, 2, 3]
    assert inputs.span(2) == range(3, 6)
    assert inputs.items_at([4, 1]) == [ASKED[4], ASKED[1]]


def test_equal_content_has_one_name_and_another_content_another(tmp_path):
    assert write_inputs(tmp_path, ASKED) == write_inputs(tmp_path, iter(ASKED))
    assert write_inputs(tmp_path, ASKED) != write_inputs(tmp_path, ASKED[1:])
    assert len(list(tmp_path.iterdir())) == 2


def cell_of(folder, asked):
    with Store(folder) as store:
        inputs = store.write_inputs(asked)
    cell = Cell(folder, CellId("m", "none", {}, "plain", "sampling", "b", "w", inputs, "float32", 1, False))
    cell.start()
    return cell


def text(index):
    return GenerationAnswer(f"a{index}", f"a{index}", 1, "eos")


def test_every_item_comes_once_with_its_answers_in_order_whatever_batch_they_were_in(tmp_path):
    cell = cell_of(tmp_path, ASKED)
    order = list(range(18))
    random.Random(3).shuffle(order)
    for start in range(0, 18, 4):
        batch = order[start : start + 4]
        cell.commit([(index, text(index)) for index in batch], seconds=0, tokens=0, notes=[])
    cell.commit([(index, text(index)) for index in order[:4]], seconds=0, tokens=0, notes=[])  # a batch repeated
    found = sorted(cell.answered_items(), key=lambda each: each[0])
    assert [(place, asked[0], asked[1]) for place, *asked, _ in found] == [
        (place, *asked) for place, asked in enumerate(ASKED)
    ]
    assert [answer.text for *_, answers in found for answer in answers] == [f"a{index}" for index in range(18)]


def test_an_item_that_asks_nothing_is_there_with_no_answers(tmp_path):
    cell = cell_of(tmp_path, [(item(0), ()), (item(1), (Generation("a", 2),))])
    cell.commit([(0, text(0))], seconds=0, tokens=0, notes=[])
    assert [(place, answers) for place, _, _, answers in cell.answered_items()] == [(1, [text(0)]), (0, [])]


def test_items_of_an_unfinished_cell_are_refused(tmp_path):
    cell = cell_of(tmp_path, ASKED)
    cell.commit([(index, text(index)) for index in range(17)], seconds=0, tokens=0, notes=[])
    with pytest.raises(ValueError, match="not finished"):
        list(cell.answered_items())
