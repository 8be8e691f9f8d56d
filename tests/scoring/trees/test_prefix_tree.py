"""Prefix trees against their plain definition."""

from __future__ import annotations

import numpy as np
import pytest

from tiltmeter.scoring.trees import prefix_tree

RNG = np.random.Generator(np.random.PCG64(7))


def random_sequences(count: int) -> list[list[int]]:
    """Sorted sequences over three tokens, so that many share prefixes and some are equal."""
    return sorted(RNG.integers(0, 3, RNG.integers(1, 9)).tolist() for _ in range(count))


def whole(tree):
    [piece] = tree.pieces()
    return piece


def test_a_shared_prefix_is_one_path():
    tree = prefix_tree.build([[1, 2, 3], [1, 2, 4], [1, 5]])
    # 1 - 2 - 3        nodes 0 1 2
    #       \ 4        node  3, after 0 1
    #   \ 5            node  4, after 0
    assert tree.tokens.tolist() == [1, 2, 3, 4, 5]
    assert tree.depths.tolist() == [0, 1, 2, 2, 1]
    assert tree.parents.tolist() == [-1, 0, 1, 1, 0]
    assert [path.tolist() for path in tree.paths] == [[0, 1, 2], [0, 1, 3], [0, 4]]
    assert whole(tree).visible().dense().astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 0, 0, 0, 1],
    ]


def test_a_piece_that_begins_within_a_sequence_sees_the_path_it_goes_on_from():
    first, second = prefix_tree.build([[1, 2, 3, 5], [1, 2, 4]]).pieces(3)
    assert (first.known.tolist(), second.known.tolist()) == ([], [0, 1, 2])  # the tokens 1 2 3 before 5
    assert second.visible().dense().astype(int).tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]  # 1 2 3, then 5, then 4
    assert second.visible(window=2).dense().astype(int).tolist() == [[0, 0, 1, 1, 0], [0, 1, 0, 0, 1]]


def test_a_cached_prefix_stands_before_the_tree_and_is_seen_by_all():
    tree = prefix_tree.build([[1, 2, 3], [1, 2, 4, 5]], start=2)
    assert tree.tokens.tolist() == [3, 4, 5]
    assert tree.depths.tolist() == [2, 2, 3]
    assert whole(tree).visible().dense().astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]
    assert whole(tree).visible(window=2).dense().astype(int).tolist() == [
        [0, 1, 1, 0, 0],
        [0, 1, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("budget", [None, 1, 4, 25])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_every_node_sees_exactly_its_own_sequence_so_far(window, budget):
    sequences = random_sequences(40)
    tree = prefix_tree.build(sequences)
    assert tree.size == len({tuple(s[: end + 1]) for s in sequences for end in range(len(s))})
    pieces = tree.pieces(budget)
    visible = [piece.visible(window).dense() for piece in pieces]
    checked = set()
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert tree.tokens[path].tolist() == sequence
        for position, node in enumerate(path):
            first = 0 if window is None else max(0, position - window + 1)
            number = next(i for i, piece in enumerate(pieces) if piece.first <= node < piece.stop)
            piece = pieces[number]
            keys = [*piece.known.tolist(), *range(piece.first, piece.stop)]
            seen = np.flatnonzero(visible[number][node - piece.first])
            assert sorted(keys[column] for column in seen) == sorted(path[first : position + 1].tolist())
            assert [keys[column] for column in piece.columns(path[: position + 1])] == path[: position + 1].tolist()
            checked.add(int(node))
    assert checked == set(range(tree.size))


@pytest.mark.parametrize("budget", [1, 7, 30])
def test_pieces_hold_every_node_once_and_all_but_the_last_are_full(budget):
    tree = prefix_tree.build(random_sequences(60))
    pieces = tree.pieces(budget)
    assert [node for piece in pieces for node in range(piece.first, piece.stop)] == list(range(tree.size))
    assert {piece.size for piece in pieces[:-1]} <= {budget}


@pytest.mark.parametrize("budget", [1, 5, 30])
def test_runs_hold_every_sequence_once_and_their_trees_stay_within_the_budget(budget):
    sequences = random_sequences(60)
    found = list(prefix_tree.runs(sequences, budget))
    assert [index for members in found for index in members] == list(range(60))
    for members in found:
        chosen = [sequences[index] for index in members]
        assert prefix_tree.build(chosen).size <= budget or len({tuple(s) for s in chosen}) == 1


def test_common_prefix_equals_a_plain_count():
    for _ in range(200):
        one, other = (RNG.integers(0, 2, RNG.integers(0, 7)).tolist() for _ in range(2))
        count = 0
        while count < min(len(one), len(other)) and one[count] == other[count]:
            count += 1
        assert prefix_tree.common_prefix(one, other) == count
