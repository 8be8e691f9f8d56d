"""Intervals from printed numbers: by hand, against statsmodels, and on the study's own table."""

import csv
from importlib.resources import files

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from validation.published_changes import bounded_mean_change, changes, counts_p, page, proportion_change


def shipped():
    text = files("tiltmeter.results").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_exact_percentages_give_newcombes_interval():
    # Newcombe 1998, table II (a): 56/70 against 48/80, difference .20, interval .0524 to .3339; here of equal n
    low, high, p = proportion_change(60.0, 80.0, 100, half_unit=0.0)
    assert low == pytest.approx(7.1, abs=0.3) and high == pytest.approx(32.0, abs=0.4)
    assert p == pytest.approx(0.0020, abs=0.0003)  # z = .2 / sqrt(2 x .7 x .3 / 100) = 3.086


def test_rounding_makes_the_interval_wider_and_a_change_of_one_unit_untellable():
    exact = proportion_change(60, 62, 1508, half_unit=0.0)
    rounded = proportion_change(60, 62, 1508)
    assert rounded[0] < exact[0] < exact[1] < rounded[1]
    assert proportion_change(60, 61, 10**7)[2] == 1.0  # 60.5 and 60.5 may have been printed as 60 and 61


def test_a_bounded_mean_has_at_most_the_variance_of_a_coin():
    low, high, _ = bounded_mean_change(0.5, 0.5, 1000, 1000, half_unit=0.0)
    assert (low, high) == pytest.approx((-1.96 * np.sqrt(0.5 / 1000), 1.96 * np.sqrt(0.5 / 1000)))


def test_counts_p_is_near_the_chi_square_p_where_that_holds_and_nan_without_answers():
    base, variant = [30, 20, 10], [18, 20, 22]
    assert counts_p(base, variant, 1) == pytest.approx(chi2_contingency([base, variant]).pvalue, abs=0.01)
    assert np.isnan(counts_p([0, 0, 0], [1, 2, 3], 1))
    assert counts_p([5, 0, 0], [9, 0, 0], 1) == 1.0


def test_every_printed_change_of_the_study_is_judged_or_said_to_be_untellable():
    found = changes(shipped())
    scores = [c for c in found if c.metric == "score"]
    crows = [c for c in scores if c.benchmark == "crows-pairs"]
    assert len(crows) == 15 and {c.told for c in crows} == {"not told"}
    assert all(c.told == "cannot be told" for c in scores if c.benchmark in ("global-opinion-qa", "discrim-eval"))
    assert all(c.why_not for c in scores if not np.isfinite(c.p))
    assert not any(c.strategy == "none" for c in found)


def test_the_page_in_docs_is_what_the_command_writes(request):
    written = (request.config.rootpath / "docs" / "published.md").read_text(encoding="utf-8")
    assert written == page(changes(shipped()))
