"""Sequences of token ids as one tree: every shared prefix is there once. Plain numpy, no model.

    the cat sat          the --- cat --- sat
    the cat ran   ->                 \\-- ran          4 nodes instead of 9 tokens
    the cat

A tree goes through a model as ONE row of nodes in depth-first order. A node's position is its depth, and it may attend
to itself and to its ancestors only; then its hidden state is the one its sequence would have had alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tree:
    """Sorted sequences without their first `start` tokens, which they all share, as a tree of `size` nodes.

    Attributes:
        start: tokens before the tree, in a cached prefix.
        known: leading nodes that were computed with the tree before: the beginning of a path it ended with.
        tokens: the token of each node, shape (size,).
        depths: its position in its sequence (the first after the prefix has depth `start`), shape (size,).
        paths: per sequence, its nodes from the root on; shape (len(sequence) - start,) each.
        branches: per sequence, how many leading nodes of its path came with an earlier sequence.
    """

    start: int
    tokens: np.ndarray
    depths: np.ndarray
    paths: tuple[np.ndarray, ...]
    branches: tuple[int, ...]
    known: int = 0

    @property
    def size(self) -> int:
        return len(self.tokens)

    def visible(self, window: int | None = None) -> np.ndarray:
        """Which keys each node may attend to, bool, shape (size, start + size): the prefix, ancestors, itself.

        With a `window`, only those less than `window` positions away.
        """
        seen = np.zeros((self.size, self.start + self.size), dtype=bool)
        seen[:, : self.start] = True
        for path, branch in zip(self.paths, self.branches, strict=True):
            new = path[branch:]  # consecutive nodes
            if len(new) == 0:
                continue
            rows = slice(new[0], new[-1] + 1)
            seen[rows, self.start + path[:branch]] = True
            seen[rows, self.start + new[0] : self.start + new[-1] + 1] = np.tri(len(new), dtype=bool)
        if window is not None:
            key_depths = np.concatenate([np.arange(self.start), self.depths])
            seen &= self.depths[:, None] - key_depths[None, :] < window
        return seen


def build(sequences: Sequence[Sequence[int]], start: int = 0, before: Sequence[int] = ()) -> Tree:
    """The tree of `sequences`, which must be sorted and share their first `start` tokens (a sequence of just those
    has an empty path).

    Args:
        before: the last sequence of the tree before this one, where its keys and values are kept; it shares the
            `start` tokens. What the first sequence shares with it beyond them becomes the tree's `known` nodes.
    """
    known = max(common_prefix(before, sequences[0]) - start, 0) if before and sequences else 0
    tokens = list(sequences[0][start : start + known]) if known else []
    depths = list(range(start, start + known))
    path = np.arange(known)
    paths: list[np.ndarray] = []
    branches: list[int] = []
    for sequence in sequences:
        shared = max(common_prefix(before, sequence) - start, 0) if paths or known else 0
        added = sequence[start + shared :]
        new = np.arange(len(tokens), len(tokens) + len(added))
        path = np.concatenate([path[:shared], new])
        tokens.extend(added)
        depths.extend(range(start + shared, len(sequence)))
        paths.append(path)
        branches.append(shared)
        before = sequence
    nodes, positions = (np.array(column, dtype=np.int64) for column in (tokens, depths))
    return Tree(start, nodes, positions, tuple(paths), tuple(branches), known)


def pack(sequences: Sequence[Sequence[int]], budget: int, start: int = 0, carry: bool = False) -> Iterator[range]:
    """Cut sorted `sequences` into runs whose trees have at most `budget` nodes to compute each (a longer single
    sequence stands alone). Equal sequences stay together: they cost nothing.

    Args:
        carry: a tree's first sequence need not compute again what it shares with the last of the tree before.
    """
    first, used = 0, 0
    for index, sequence in enumerate(sequences):
        shared = max(common_prefix(sequences[index - 1], sequence), start) if index else start
        added = len(sequence) - (shared if index > first or carry else start)
        if index > first and used + added > budget:
            yield range(first, index)
            first, used, added = index, 0, len(sequence) - (shared if carry else start)
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
