"""Training rows as token trees, with exact soft targets.

A row is a tree of tokens: prompts that begin alike share those tokens, and the answers of a prompt branch
from its end. Each token attends to its ancestors only, so one row holds many prompts at the cost of their
differences. Where answers branch, the target is the exact conditional distribution of the next token under
the planted probabilities: no sampling noise enters the training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Path = tuple[list[int], list[tuple[list[int], float]]]  # prompt ids, [(answer ids, probability)]

PROMPT_WEIGHT = 0.05  # prompts are read, not written: a little weight keeps their words known


@dataclass
class Row:
    """One tree. `targets` holds (node, next token, weight x probability)."""

    capacity: int
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    children: list[dict[int, int]] = field(default_factory=list)
    targets: list[tuple[int, int, float]] = field(default_factory=list)
    roots: dict[int, int] = field(default_factory=dict)

    def add(
        self, prompt: list[int], answers: list[tuple[list[int], float]], prompt_weight: float = PROMPT_WEIGHT
    ) -> bool:
        """Adds a prompt with its answers; False, and nothing changed, when the row has no room for it."""
        node, shared = -1, 0
        while shared < len(prompt) and prompt[shared] in self._below(node):
            node = self._below(node)[prompt[shared]]
            shared += 1
        branches = branch_targets(answers)
        needed = len(prompt) - shared + sum(1 for prefix in branches if prefix)
        if self.tokens and len(self.tokens) + needed > self.capacity:
            return False
        for token in prompt[shared:]:
            if node >= 0:
                self.targets.append((node, token, prompt_weight))
            node = self._append(token, node)
        ends: dict[tuple[int, ...], int] = {(): node}
        for prefix, (reach, following) in branches.items():
            if prefix:
                ends[prefix] = self._append(prefix[-1], ends[prefix[:-1]])
            for token, probability in following.items():
                # the square root keeps rare answers well formed without letting them weigh like common ones
                self.targets.append((ends[prefix], token, float(np.sqrt(reach)) * probability))
        return True

    def _below(self, node: int) -> dict[int, int]:
        return self.children[node] if node >= 0 else self.roots

    def _append(self, token: int, parent: int) -> int:
        node = len(self.tokens)
        self._below(parent)[token] = node
        self.tokens.append(token)
        self.parents.append(parent)
        self.positions.append(self.positions[parent] + 1 if parent >= 0 else 0)
        self.children.append({})
        return node

    def attention(self, length: int) -> np.ndarray:
        """Which token sees which, bool (length, length): itself and its ancestors; padding sees itself."""
        sees = np.eye(length, dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def branch_targets(
    answers: list[tuple[list[int], float]],
) -> dict[tuple[int, ...], tuple[float, dict[int, float]]]:
    """Prefix -> (probability of reaching it, next token -> conditional probability), parents before children.

    Prefixes are those after which at least one answer goes on; a final token has no entry.
    """
    mass: dict[tuple[int, ...], dict[int, float]] = {}
    for ids, probability in answers:
        for i, token in enumerate(ids):
            following = mass.setdefault(tuple(ids[:i]), {})
            following[token] = following.get(token, 0.0) + probability
    out = {}
    for prefix in sorted(mass, key=len):
        reach = sum(mass[prefix].values())
        out[prefix] = (reach, {token: p / reach for token, p in mass[prefix].items()})
    return out


def greedy(answers: list[tuple[list[int], float]]) -> int:
    """Index of the answer that greedy decoding writes: at every branch the likelier token, which need not
    lead to the likeliest answer."""
    targets = branch_targets(answers)
    prefix: tuple[int, ...] = ()
    while prefix in targets:
        following = targets[prefix][1]
        prefix += (max(following, key=lambda token: following[token]),)
    return next(i for i, (ids, _) in enumerate(answers) if tuple(ids) == prefix)
