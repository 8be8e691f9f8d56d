"""Prefix trees against their plain definition."""

from __future__ import annotations

import numpy as np
import pytest

from tiltmeter.scoring import prefix_tree

RNG = np.random.Generator(np.random.PCG64(7))


def random_sequences(count: int) -> list[list[int]]:
    """Sorted sequences over three tokens, so that many share prefixes and some are equal."""
    return sorted(RNG.integers(0, 3, RNG.integers(1, 9)).tolist() for _ in range(count))


def test_a_shared_prefix_is_one_path():
    tree = prefix_tree.build([[1, 2, 3], [1, 2, 4], [1, 5]])
    # 1 - 2 - 3        nodes 0 1 2
    #       \ 4        node  3, after 0 1
    #   \ 5            node  4, after 0
    assert tree.tokens.tolist() == [1, 2, 3, 4, 5]
    assert tree.depths.tolist() == [0, 1, 2, 2, 1]
    assert [path.tolist() for path in tree.paths] == [[0, 1, 2], [0, 1, 3], [0, 4]]
    assert tree.visible().astype(int).tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 0, 0, 0, 1],
    ]


def test_a_cached_prefix_stands_before_the_tree_and_is_seen_by_all():
    tree = prefix_tree.build([[1, 2, 3], [1, 2, 4, 5]], start=2)
    assert tree.tokens.tolist() == [3, 4, 5]
    assert tree.depths.tolist() == [2, 2, 3]
    assert tree.visible().astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    assert tree.visible(window=2).astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 1]]


@pytest.mark.parametrize("window", [None, 1, 3])
def test_every_node_sees_exactly_its_own_sequence_so_far(window):
    sequences = random_sequences(40)
    tree = prefix_tree.build(sequences)
    visible = tree.visible(window)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert tree.tokens[path].tolist() == sequence
        for position, node in enumerate(path):
            first = 0 if window is None else max(0, position - window + 1)
            assert np.flatnonzero(visible[node]).tolist() == sorted(path[first : position + 1].tolist())
    assert tree.size == len({tuple(s[: end + 1]) for s in sequences for end in range(len(s))})


@pytest.mark.parametrize("budget", [1, 5, 30])
def test_packs_hold_everything_once_and_stay_within_the_budget(budget):
    sequences = random_sequences(60)
    packs = list(prefix_tree.pack(sequences, budget))
    assert [index for members in packs for index in members] == list(range(60))
    for members in packs:
        chosen = [sequences[index] for index in members]
        assert prefix_tree.build(chosen).size <= budget or len({tuple(s) for s in chosen}) == 1


def test_a_tree_that_goes_on_from_another_knows_the_beginning_of_its_first_path():
    tree = prefix_tree.build([[1, 2, 3, 5], [1, 2, 4]], start=1, before=[1, 2, 3, 4, 9])
    assert (tree.known, tree.tokens.tolist(), tree.depths.tolist()) == (2, [2, 3, 5, 4], [1, 2, 3, 2])
    assert [path.tolist() for path in tree.paths] == [[0, 1, 2], [0, 3]]
    assert tree.visible()[2].tolist() == [True, True, True, True, False]  # prefix, both known nodes, itself
    assert tree.visible()[3].tolist() == [True, True, False, False, True]
    alone = prefix_tree.build([[1, 2, 3, 5], [1, 2, 4]], start=1, before=[1, 9])
    assert (alone.known, alone.tokens.tolist()) == (0, [2, 3, 5, 4])


def test_packs_that_carry_on_compute_every_shared_token_once():
    for _ in range(50):
        sequences = sorted(RNG.integers(0, 3, RNG.integers(2, 9)).tolist() for _ in range(12))
        packs = list(prefix_tree.pack(sequences, 7, carry=True))
        assert [index for members in packs for index in members] == list(range(12))
        computed = 0
        for members in packs:
            before = sequences[members.start - 1] if members.start else ()
            tree = prefix_tree.build(sequences[members.start : members.stop], before=before)
            computed += tree.size - tree.known
            assert tree.size - tree.known <= 7 or len({tuple(sequences[i]) for i in members}) == 1
        assert computed == prefix_tree.build(sequences).size


def test_common_prefix_equals_a_plain_count():
    for _ in range(200):
        one, other = (RNG.integers(0, 2, RNG.integers(0, 7)).tolist() for _ in range(2))
        count = 0
        while count < min(len(one), len(other)) and one[count] == other[count]:
            count += 1
        assert prefix_tree.common_prefix(one, other) == count
