"""Which prompts are decoded side by side: layouts by hand, and texts that do not depend on them."""

from __future__ import annotations

import pytest
from tiny_models import tiny_variant

from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.trees import tree_generation
from tiltmeter.scoring.trees.slots import MOST_ROWS, SHORTEST_SHARED, Slot, keys_read, slots

LONG = list(range(100, 300))
SYSTEMS = [
    "You answer every question as briefly as you can, and never explain what was not asked. ",
    "Please reply in one word only, since there is no room for more than that on this small card. ",
]
QUESTIONS = ["Who is right?", "Who was it?", "Why?", "Where is it, in truth", "When"]


def test_prompts_that_share_little_stand_alone_and_read_all_of_their_own():
    prompts = [[1, 2, 3], [1, 2, 4, 5], [1, 9]]
    assert slots(prompts, [1, 1, 1], 1, 10, 64) == [
        Slot(range(0, 1), 1, 0, 2),
        Slot(range(1, 2), 1, 0, 3),
        Slot(range(2, 3), 1, 0, 1),
    ]


def test_samples_of_a_prompt_share_the_whole_of_it():
    assert slots([[1, 2, 3], [1, 9]], [5, 5], 1, 10, 64) == [Slot(range(0, 1), 5, 2, 0), Slot(range(1, 2), 5, 1, 0)]


def test_prompts_with_a_long_common_beginning_read_it_together():
    """Two beginnings of 100 tokens, of three prompts each; the longest rest behind them is 4 tokens."""
    prompts = [LONG[:100] + rest for rest in ([1], [2, 2], [3, 3, 3, 3])]
    prompts += [LONG[100:] + rest for rest in ([1, 1], [2], [3])]
    layout = slots(prompts, [1] * 6, 0, 20, 64)
    assert layout == [Slot(range(0, 3), 3, 100, 4), Slot(range(3, 6), 3, 100, 2)]
    assert keys_read(layout, 20) == 2 * (100 + 3 * (4 + 10))
    assert keys_read([Slot(range(i, i + 1), 1, 0, len(p)) for i, p in enumerate(prompts)], 20) == 6 * (104 + 10)


def test_a_beginning_is_joined_as_long_as_the_row_that_joins_saves_more_than_the_others_lose():
    """Three rows share 180 tokens, a fourth has 110 of them. Apart, 180 + 111 keys are read beside the rows' own;
    together 110, and three times 70 more and 1: a loss. With 130 of them: 180 + 131 against 130 + 3 * 50 + 1."""
    prompts = [*([*LONG[:180], n] for n in (1, 2, 3)), [*LONG[:110], 299]]
    assert [slot.prompts for slot in slots(prompts, [1] * 4, 0, 20, 64)] == [range(0, 3), range(3, 4)]
    prompts[3] = [*LONG[:130], 299]
    assert [slot.prompts for slot in slots(prompts, [1] * 4, 0, 20, 64)] == [range(0, 4)]


def test_one_pair_among_many_loners_is_not_worth_a_second_row_in_every_slot():
    prompts = [*([n] * 100 for n in range(20)), *([*LONG[:80], n] for n in (1, 2))]
    assert {slot.rows for slot in slots(prompts, [1] * 22, 0, 60, 64)} == {1}


@pytest.mark.parametrize(("most", "sizes"), [(64, [MOST_ROWS, 2]), (3, [3, 3, 3, 1]), (1, [1] * 10)])
def test_a_slot_has_no_more_rows_than_are_decoded_side_by_side(most, sizes):
    prompts = [[*LONG, n] for n in range(10)]
    assert [len(slot.prompts) for slot in slots(prompts, [1] * 10, 0, 4, most)] == sizes


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma3"])
@pytest.mark.parametrize("batch_tokens", [24, 64, 4096])  # 3, 8 and 512 rows side by side
def test_texts_are_those_of_the_reference_whoever_shares_a_slot(name, batch_tokens, monkeypatch):
    """Answers end early, so slots are replaced while others go on."""
    layouts = []
    monkeypatch.setattr(tree_generation, "slots", lambda *asked: layouts.append(slots(*asked)) or layouts[-1])
    variant = tiny_variant(name, eos_ids=frozenset(range(3, 30)))
    requests = [
        Generation(system + question, 12 + n, heat, 1.0, n)
        for system in SYSTEMS
        for n, question in enumerate(QUESTIONS)
        for heat in (0.0, 1.0)
    ][::-1]
    assert min(len(system) for system in SYSTEMS) > SHORTEST_SHARED
    for asked in (requests, [request for request in requests if not request.temperature]):
        assert Engine(variant, batch_tokens=batch_tokens).answer(asked) == [
            reference.answer(variant, request) for request in asked
        ]
    assert any(len(slot.prompts) > 1 for slot in layouts[-1])
