"""Flips: which decisions turned, in which direction, and how sure the base had been of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.change import Flip, Flips
from tiltmeter.analysis.types import FlipTable

QUINTILES = 5
EXAMPLES = 20


def count_flips(table: FlipTable, examples: int = EXAMPLES) -> Flips:
    """Net and gross flips; rate by fifth of the base's uncertainty (surest first); the largest shifts as examples.

    Fifths hold equally many of the items whose uncertainty is known; ties are split by position, an empty fifth is NaN
    (greedy text shows no uncertainty: all five are).
    """
    flipped = np.array([b != v for b, v in zip(table.base, table.variant, strict=True)], dtype=bool)
    toward = np.where(flipped, table.toward, 0)
    known = np.flatnonzero(np.isfinite(table.uncertainty))
    order = known[np.argsort(table.uncertainty[known], kind="stable")]
    fifths = np.array_split(flipped[order], QUINTILES)
    turned = np.flatnonzero(flipped)
    shift = np.where(np.isfinite(table.shift), np.abs(table.shift), -np.inf)
    telling = turned[np.argsort(-shift[turned], kind="stable")][:examples]
    return Flips(
        n=int(flipped.sum()),
        of=len(flipped),
        toward_bias=int((toward > 0).sum()),
        away_from_bias=int((toward < 0).sum()),
        unscored=table.n_unscored,
        rate_by_uncertainty=tuple(float(f.mean()) if len(f) else float("nan") for f in fifths),
        examples=tuple(
            Flip(
                table.ids[i],
                table.base[i],
                table.variant[i],
                int(toward[i]),
                float(table.uncertainty[i]),
                float(table.shift[i]),
            )
            for i in telling
        ),
    )


def mcnemar_p(base: NDArray[np.bool_], variant: NDArray[np.bool_]) -> float:
    """Exact two-sided McNemar test of paired decisions (items,): binomial, the discordant pairs at one half."""
    gained, lost = int(np.sum(~base & variant)), int(np.sum(base & ~variant))
    if gained + lost == 0:
        return 1.0
    from scipy.stats import binomtest  # a second of imports, for what reading results does not need

    return float(binomtest(gained, gained + lost, 0.5).pvalue)
