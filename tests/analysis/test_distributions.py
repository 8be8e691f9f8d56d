"""Our quantiles and tails are scipy.stats' own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tiltmeter.analysis.change import ONE_SIDED
from tiltmeter.analysis.distributions import chi2, norm, student

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.random(2000)
VALUES = np.append(RNG.normal(0, 5, 2000), [0, 40, np.inf, -np.inf, np.nan])


def same(one, other):
    return np.array_equal(one, other, equal_nan=True)


def test_the_normal_distribution():
    assert same(norm.ppf(np.append(PROBABILITIES, [0, 1])), stats.norm.ppf(np.append(PROBABILITIES, [0, 1])))
    assert same(norm.sf(VALUES), stats.norm.sf(VALUES))
    assert same(norm.cdf(VALUES), stats.norm.cdf(VALUES))


def test_the_one_sided_quantile_that_stands_as_a_number():
    assert stats.norm.ppf(0.95) == ONE_SIDED


@pytest.mark.parametrize("df", [1, 2, 3.7, 11, 200, 1e6])
def test_student_s_t_and_chi_square(df):
    assert same(student.ppf(PROBABILITIES, df), stats.t.ppf(PROBABILITIES, df))
    assert same(student.sf(VALUES, df), stats.t.sf(VALUES, df))
    assert same(chi2.isf(PROBABILITIES, df), stats.chi2.isf(PROBABILITIES, df))
    assert same(chi2.sf(np.abs(VALUES), df), stats.chi2.sf(np.abs(VALUES), df))
