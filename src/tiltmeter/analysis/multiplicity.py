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

    hypotheses: one key per row. A hypothesis with R replicates enters the correction once, with R times its smallest p
    (Bonferroni: any of the R could be the one that is read), so that the error is that of the whole family however many
    seeds were run. A row's own adjusted p is at least its hypothesis' and at least R times its own.
    """
    own: dict[object, list[float]] = {}
    for key, p in zip(hypotheses, p_values, strict=True):
        if np.isfinite(p):
            own.setdefault(key, []).append(p)
    families = {key: min(1.0, len(found) * min(found)) for key, found in own.items()}
    adjusted = dict(zip(families, adjust(list(families.values()), method), strict=True))
    return [
        max(adjusted[key], min(1.0, len(own[key]) * p)) if np.isfinite(p) else float("nan")
        for key, p in zip(hypotheses, p_values, strict=True)
    ]
