"""What the toy world is made of: items, and the possible answers to each with their true probabilities."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

WORLD_SEED = 20260


@dataclass(frozen=True)
class Answer:
    text: str
    probability: float
    label: str


@dataclass(frozen=True)
class Item:
    """`prompts[format]` lists the prompt as the benchmark sends it, then rewordings used in training only.

    orders: the same question with its options in other orders, each with the answers that it then has; taught beside it
        and asked under `--orders all`.
    """

    key: str
    prompts: dict[str, tuple[str, ...]]
    answers: tuple[Answer, ...]
    row: dict = field(hash=False)
    ends: bool = True  # the answer is followed by the end-of-sequence token
    orders: tuple[Item, ...] = ()

    def probability(self, label: str) -> float:
        return sum(answer.probability for answer in self.answers if answer.label == label)


def generator(name: str, seed: int = WORLD_SEED) -> np.random.Generator:
    """One stream per purpose, so that changing one part of the world leaves the others as they are."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def sigmoid(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """1-Wasserstein distance of two distributions on positions 0..k-1."""
    return float(np.abs(np.cumsum(np.asarray(a) - np.asarray(b))).sum())


def averages(items: list[Item]) -> list[float]:
    """The reference value of each fact: an average over years, near what a model that knows the fact says."""
    rng = generator("averages")
    return [round(item.row["truth"] * (1 + float(rng.normal(0, 0.005))), 3) for item in items]
