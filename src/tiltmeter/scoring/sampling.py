"""How a next token is chosen from logits: greedy, or ancestral sampling by inverse CDF. The definition, in numpy.

One uniform per new token, drawn in order from ``numpy.random.Generator(PCG64(seed))``: the text of a request depends
on the request and the logits alone, never on its neighbours, the batch or the device's random numbers.
"""

from __future__ import annotations

import numpy as np


def uniforms(seed: int, count: int) -> np.ndarray:
    """`count` uniforms in [0, 1) for one request, float64; a longer draw begins with the shorter one's values."""
    return np.random.Generator(np.random.PCG64(seed)).random(count)


def choose_token(logits: np.ndarray, temperature: float, top_p: float, uniform: float) -> int:
    """The next token id. temperature 0: the largest logit, ties to the lowest id.

    Otherwise the smallest id whose cumulative probability, in id order, exceeds `uniform` times the nucleus mass
    (weights in float32, as the logits are; sums in float64).

    Args:
        logits: float32, shape (vocabulary,).
        temperature: divides the logits; 0 is greedy.
        top_p: the nucleus is the smallest set of most probable ids (ties to the lower id) with at least this mass.
        uniform: in [0, 1).
    """
    if temperature == 0:
        return int(logits.argmax())
    scaled = logits / np.float32(temperature)
    weights = np.exp(scaled - scaled.max())
    if top_p < 1:
        order = np.argsort(-weights, kind="stable")
        mass_before = np.cumsum(weights[order], dtype=np.float64) - weights[order]
        weights[order[mass_before >= top_p * weights.sum(dtype=np.float64)]] = 0.0
    cumulative = np.cumsum(weights, dtype=np.float64)
    chosen = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(chosen, int(weights.nonzero()[0][-1]))  # a uniform that rounds up to the whole mass
