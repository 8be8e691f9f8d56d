"""Quantiles and tails of the three distributions that intervals and tests need, from scipy.special.

They are the functions that scipy.stats calls itself, bit for bit (a test holds them to it), without the second that
importing it takes, and scipy comes in when one is called: `tiltmeter results` and `tiltmeter gate` mostly read what is
known. Named as there.
"""

from __future__ import annotations

from typing import Any


def _special() -> Any:
    import scipy.special

    return scipy.special


class norm:
    """The standard normal distribution."""

    @staticmethod
    def cdf(x: Any) -> Any:
        return _special().ndtr(x)

    @staticmethod
    def sf(x: Any) -> Any:
        return _special().ndtr(-x)

    @staticmethod
    def ppf(probability: Any) -> Any:
        return _special().ndtri(probability)


class student:
    """Student's t with `df` degrees of freedom; probabilities strictly between 0 and 1."""

    @staticmethod
    def sf(x: Any, df: Any) -> Any:
        return _special().stdtr(df, -x)

    @staticmethod
    def ppf(probability: Any, df: Any) -> Any:
        return _special().stdtrit(df, probability)


class chi2:
    """Chi-square with `df` degrees of freedom, more than 0."""

    @staticmethod
    def sf(x: Any, df: Any) -> Any:
        return _special().chdtrc(df, x)

    @staticmethod
    def isf(probability: Any, df: Any) -> Any:
        return _special().chdtri(df, probability)
