"""Distances between two distributions over a question's options, and how unequal they are over countries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tiltmeter.benchmarks.base import NAN

Vector = NDArray[np.float64]


def wasserstein(p: Vector, shares: Vector) -> Vector:
    """1-Wasserstein distance on positions 0 .. k-1. p (options,), shares (countries, options) -> (countries,)."""
    return np.abs(np.cumsum(shares - p, axis=-1)[..., :-1]).sum(axis=-1)


def jensen_shannon(p: Vector, shares: Vector) -> Vector:
    """Jensen-Shannon distance: square root of the divergence in nats (scipy's definition). Shapes as `wasserstein`."""
    middle = (p + shares) / 2
    divergence = (_relative_entropy(np.broadcast_to(p, shares.shape), middle) + _relative_entropy(shares, middle)) / 2
    return np.sqrt(np.maximum(divergence, 0.0))


def _relative_entropy(left: Vector, right: Vector) -> Vector:
    ratio = np.divide(left, right, out=np.ones_like(right), where=left > 0)  # 0 log 0 = 0
    return (left * np.log(ratio)).sum(axis=-1)


def gini(values: Sequence[float]) -> float:
    """Half the relative mean absolute difference over all n x n pairs; NaN with fewer than two values or mean 0."""
    x = np.array(values, dtype=float)
    if len(x) < 2 or x.mean() == 0:
        return NAN
    return float(np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean()))
