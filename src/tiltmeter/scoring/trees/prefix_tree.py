"""Sequences of token ids as one tree: every shared prefix is there once. Plain numpy, no model.

    the cat sat          the --- cat --- sat
    the cat ran   ->                 \\-- ran          4 nodes instead of 9 tokens
    the cat

A tree goes through a model in pieces: rows of at most so many nodes, in depth-first order. A node's position is its
depth, and it may attend to itself and to its ancestors only; then its hidden state is the one its sequence would have
had alone. A piece begins where the one before ended, in the middle of a sequence if need be. Whatever ancestors the
nodes of a piece have in earlier pieces, they are all ancestors of its first node: that one path is all that has to be
kept from piece to piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tiltmeter.scoring.kernels.visibility import Visibility


@dataclass(frozen=True)
class Tree:
    """Sorted sequences without their first `start` tokens, which they all share, as a tree of `size` nodes.

    Attributes:
        start: tokens before the tree, in a cached prefix.
        tokens: the token of each node, in depth-first order, shape (size,).
        depths: its position in its sequence (the first after the prefix has depth `start`), shape (size,).
        paths: per sequence, its nodes from the root on; shape (len(sequence) - start,) each.
        branches: per sequence, how many leading nodes of its path came with an earlier sequence.
    """

    start: int
    tokens: np.ndarray
    depths: np.ndarray
    paths: tuple[np.ndarray, ...]
    branches: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.tokens)

    @cached_property
    def last_nodes(self) -> np.ndarray:
        """The node that ends each sequence, ascending; no sequence may be empty."""
        return np.array([path[-1] for path in self.paths], dtype=np.int64)

    @cached_property
    def parents(self) -> np.ndarray:
        """The node before each node in its sequence, -1 for a first one, shape (size,)."""
        parents = np.full(self.size, -1)
        for path in self.paths:
            parents[path[1:]] = path[:-1]
        return parents

    @cached_property
    def ends(self) -> np.ndarray:
        """The node after the last descendant of each node, shape (size,)."""
        ends = np.zeros(self.size, dtype=np.int64)
        for path in self.paths:  # in depth-first order: later sequences end later
            ends[path] = path[-1:] + 1
        return ends

    def pieces(self, budget: int | None = None) -> list[Piece]:
        """The whole tree, cut after every `budget` nodes."""
        step = budget or max(1, self.size)
        firsts = range(0, self.size, step)
        return [Piece(self, first, min(first + step, self.size)) for first in firsts]


@dataclass(frozen=True)
class Piece:
    """The nodes `first` to `stop` - 1 of a tree: one row of a forward.

    Its columns are what they may attend to: the tree's cached prefix, `known`, and the nodes themselves.
    """

    tree: Tree
    first: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.first

    @cached_property
    def known(self) -> np.ndarray:
        """The ancestors of the first node, from the root on: all that the piece needs of earlier ones."""
        path = next(self.tree.paths[index] for index in self._sequences)
        return path[: np.searchsorted(path, self.first)]

    @cached_property
    def _sequences(self) -> list[int]:
        """The sequences that brought some of its nodes."""
        return [
            index
            for index, (path, branch) in enumerate(zip(self.tree.paths, self.tree.branches, strict=True))
            if len(path) > branch and path[branch] < self.stop and path[-1] >= self.first
        ]

    def columns(self, path: np.ndarray) -> np.ndarray:
        """The columns, prefix left out, of nodes of a path from the root: known ones and the piece's own."""
        return np.where(path < self.first, np.arange(len(path)), path - self.first + len(self.known))

    def visible(self, window: int | None = None) -> Visibility:
        """Which of its columns each node may attend to; with a `window`, only those less than `window` positions away.

        The cached prefix is seen by all, a node by itself and its descendants.
        """
        tree, own = self.tree, slice(self.first, self.stop)
        before = tree.start + len(self.known)
        ends = np.concatenate([np.full(tree.start, self.stop), tree.ends[self.known], tree.ends[own]]) - self.first
        return Visibility(
            begins=np.concatenate([np.zeros(before, dtype=np.int64), np.arange(self.size)]),
            ends=ends,
            rows=tree.depths[own],
            keys=np.concatenate([np.arange(tree.start), tree.depths[self.known], tree.depths[own]]),
            window=window,
        )


def build(sequences: Sequence[Sequence[int]], start: int = 0) -> Tree:
    """The tree of `sequences`, which must be sorted and share their first `start` tokens (a sequence of just those
    has an empty path)."""
    tokens: list[int] = []
    depths: list[int] = []
    paths: list[np.ndarray] = []
    branches: list[int] = []
    path = np.array([], dtype=np.int64)
    before: Sequence[int] = ()
    for sequence in sequences:
        shared = max(common_prefix(before, sequence) - start, 0)
        new = np.arange(len(tokens), len(tokens) + len(sequence) - start - shared)
        path = np.concatenate([path[:shared], new])
        tokens.extend(sequence[start + shared :])
        depths.extend(range(start + shared, len(sequence)))
        paths.append(path)
        branches.append(shared)
        before = sequence
    nodes, positions = (np.array(column, dtype=np.int64) for column in (tokens, depths))
    return Tree(start, nodes, positions, tuple(paths), tuple(branches))


def runs(sequences: Sequence[Sequence[int]], budget: int) -> Iterator[range]:
    """Cut sorted `sequences` into runs whose trees have at most `budget` nodes each (a longer single sequence stands
    alone): for trees that must not read what another forward computed. Equal sequences stay together."""
    first, used = 0, 0
    for index, sequence in enumerate(sequences):
        added = len(sequence) - (common_prefix(sequences[index - 1], sequence) if index > first else 0)
        if index > first and used + added > budget:
            yield range(first, index)
            first, used, added = index, 0, len(sequence)
        used += added
    if first < len(sequences):
        yield range(first, len(sequences))


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high - 1:  # one[:low] is common, one[:high] is not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low
