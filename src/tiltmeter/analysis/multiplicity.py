"""Adjusted p-values over the rows of a run: Holm (family-wise error) or Benjamini-Hochberg (false discovery rate)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Correction = Literal["holm", "bh"]


def adjust(p_values: Sequence[float], method: Correction = "holm") -> list[float]:
    """Adjusted p in the same order; NaN stays NaN and is not counted as a hypothesis.

    Equal to statsmodels' `multipletests`, which collects garbage at every call (50 ms; a run calls this per row).
    """
    p = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    m, rank = len(order), np.arange(1, len(order) + 1)
    if method == "holm":
        steps = np.maximum.accumulate(p[order] * (m - rank + 1))
    else:
        steps = np.minimum.accumulate((p[order] * m / rank)[::-1])[::-1]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def holm(p_values: Sequence[float]) -> list[float]:
    return adjust(p_values, "holm")


def adjust_with_replicates(
    p_values: Sequence[float], hypotheses: Sequence[object], method: Correction = "holm"
) -> list[float]:
    """Adjusted p when several rows are replicates of one hypothesis (the same strategy, other calibration seeds).

    hypotheses: one key per row; rows with the same key are one hypothesis. A row is adjusted as if it stood alone for
    its key beside the first row of every other key, so replicates never make the correction harsher.
    """
    first: dict[object, int] = {}
    for place, (key, p) in enumerate(zip(hypotheses, p_values, strict=True)):
        if np.isfinite(p):
            first.setdefault(key, place)
    adjusted = []
    for place, (key, p) in enumerate(zip(hypotheses, p_values, strict=True)):
        if not np.isfinite(p):
            adjusted.append(float("nan"))
            continue
        family = [place] + [other for other_key, other in first.items() if other_key != key]
        adjusted.append(adjust([p_values[i] for i in family], method)[0])
    return adjusted
