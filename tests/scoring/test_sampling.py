"""Choosing the next token: by hand, in the long run, and batched against one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.sampling import choose_token, uniforms
from tiltmeter.scoring.writing import Writing, choose_tokens, extend

# probabilities 0.1, 0.4, 0.2, 0.3 -> cumulative 0.1, 0.5, 0.7, 1.0
LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3])).astype(np.float32)


def test_greedy_takes_the_largest_logit_and_the_lowest_id_of_a_tie():
    assert choose_token(LOGITS, 0, 1, 0.99) == 1
    assert choose_token(np.array([0.0, 2.0, 2.0], np.float32), 0, 1, 0.5) == 1


def test_the_uniform_is_inverted_through_the_cumulative_in_id_order():
    assert [choose_token(LOGITS, 1, 1, u) for u in (0.0, 0.09, 0.11, 0.49, 0.51, 0.69, 0.71, 0.999)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass():
    # by probability: 1 (0.4), 3 (0.7), 2 (0.9), 0 (1.0); top_p 0.65 keeps ids 1 and 3 with 4/7 and 3/7
    assert [choose_token(LOGITS, 1, 0.65, u) for u in (0.0, 0.56, 0.58, 0.999)] == [1, 1, 3, 3]
    assert choose_token(LOGITS, 1, 1e-9, 0.999) == 1


def test_frequencies_follow_the_softmax_at_the_temperature():
    counts = np.bincount([choose_token(LOGITS, 2, 1, u) for u in uniforms(3, 20_000)], minlength=4)
    expected = np.sqrt([0.1, 0.4, 0.2, 0.3])  # p ** (1 / 2), normalized
    expected /= expected.sum()
    # standard error at most 0.0036; four of them is exceeded by chance about once in 4,000 runs, and the seed is fixed
    np.testing.assert_allclose(counts / 20_000, expected, atol=4 * 0.0036)


def test_uniforms_depend_on_the_seed_alone_and_a_longer_draw_begins_with_the_shorter():
    np.testing.assert_array_equal(uniforms(5, 3), uniforms(5, 100)[:3])
    assert not np.array_equal(uniforms(5, 3), uniforms(6, 3))


@pytest.mark.parametrize("vocabulary", [50, 256, 1000])
def test_choosing_for_a_batch_equals_choosing_one_at_a_time(vocabulary):
    rng = np.random.Generator(np.random.PCG64(1))
    logits = rng.normal(0, 3, (300, vocabulary)).astype(np.float32)
    logits[:20, :5] = logits[:20, 5:10]  # ties
    logits[20:30, 7] = -np.inf
    heat = rng.choice([0.3, 1.0, 2.5], 300)
    mass = rng.choice([0.2, 0.9, 1.0], 300)
    draw = rng.random(300)
    draw[:3] = (0.0, 1 - 2**-53, 0.5)
    batched = choose_tokens(torch.from_numpy(logits), heat, mass, draw, torch.from_numpy(logits.max(-1)))
    assert batched == [choose_token(*row) for row in zip(logits, heat, mass, draw, strict=True)]


@pytest.mark.parametrize("temperatures", [(0, 0, 0, 0, 0), (1, 1, 1, 1, 1), (0, 1, 0.5, 0, 1)])
def test_each_writing_gets_its_own_next_token_and_broken_rows_none(temperatures):
    logits = np.tile(LOGITS, (5, 1))
    logits[0, 3] = LOGITS[1]  # a tie
    logits[2] = (np.nan, 1, 2, 3)
    logits[3] = -np.inf
    logits[4, 2] = np.inf
    writings = [
        Writing(Generation("", 4, float(heat), 1.0, seed), frozenset()) for seed, heat in enumerate(temperatures)
    ]
    extend(writings, torch.from_numpy(logits))
    assert [writing.broken for writing in writings] == [False, False, True, True, True]
    expected = [
        [choose_token(logits[row], heat, 1.0, uniforms(row, 4)[0])] if row < 2 else []
        for row, heat in enumerate(temperatures)
    ]
    assert [writing.ids for writing in writings] == expected
