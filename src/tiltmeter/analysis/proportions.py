"""Limits of a change of paired decisions that hold when few of them turned: Tango's score interval.

A percentile or t interval of a share has no width where nothing turned, and too little where few did: with changes of
2 % all one way it called 150 to 400 pairs `equivalent` in up to 13 % of runs. Tango's interval inverts the score test
of d = share(0 -> 1) - share(1 -> 0), whose variance is taken at the tested d, not at the observed one. With none
turned among n its ends are +-z^2 / (n + z^2). Its p stands beside it: exact McNemar (`flips.mcnemar_p`), which has no
lowest value but the data's.

`one_sided` gives the limits that equivalence asks for. A score test is not exact: at nominal 5 % a side it called
changes of exactly 2 points equivalent in up to 6.0 % (binomials, all n from 150 to 1,508, up to 10 % of noise); at
nominal 4 %, in at most 4.6 %. Where none turned the limit is exact: 1 - .05^(1/n) may have turned unseen.

Source: Tango 1998, Equivalence test and confidence interval for the difference in proportions for the paired-sample
design, Statistics in Medicine 17, 891-908.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.change import Interval
from tiltmeter.analysis.distributions import norm
from tiltmeter.analysis.types import NAN, TOST
from tiltmeter.messages import say

NOMINAL = 0.92  # level of Tango's interval whose ends are each exceeded in no more than 5 %


def paired_interval(
    base: NDArray[np.bool_], variant: NDArray[np.bool_], *, scale: float = 1.0, level: float = 0.95
) -> Interval:
    """scale x interval of the change of the share of True, from paired decisions (items,)."""
    n = len(base)
    if not n:
        return Interval(NAN, NAN, level, say("missing.no_pair"))
    low, high = tango(int(np.sum(~base & variant)), int(np.sum(base & ~variant)), n, level)
    return Interval(scale * low, scale * high, level)


def one_sided(base: NDArray[np.bool_], variant: NDArray[np.bool_], *, scale: float = 1.0) -> Interval:
    """scale x both limits of the change of the share of True, each exceeded in at most 5 %, from paired decisions."""
    n = len(base)
    if n and np.array_equal(base, variant):
        unseen = scale * (1 - 0.05 ** (1 / n))
        return Interval(-unseen, unseen, TOST)
    limits = paired_interval(base, variant, scale=scale, level=NOMINAL)
    return Interval(limits.low, limits.high, TOST, limits.reason)


def tango(gained: int, lost: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of (gained - lost) / n."""
    from scipy.optimize import brentq  # slow to import, and only computing needs it

    z = float(norm.ppf((1 + level) / 2))
    observed = (gained - lost) / n

    def score(d: float) -> float:
        b = -gained - lost + (2 * n - gained + lost) * d
        c = -lost * d * (1 - d)
        other = (np.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # restricted estimate of share(1 -> 0)
        variance = n * (2 * other + d * (1 - d))
        return float((gained - lost - n * d) / np.sqrt(max(variance, 1e-300)))

    low = -1.0 if observed <= -1 or score(-1 + 1e-12) < z else brentq(lambda d: score(d) - z, -1 + 1e-12, observed)
    high = 1.0 if observed >= 1 or score(1 - 1e-12) > -z else brentq(lambda d: score(d) + z, observed, 1 - 1e-12)
    return float(low), float(high)
