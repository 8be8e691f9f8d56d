"""The three questions from rows made to have a known answer."""

import made_documents
import numpy as np
import pytest
from scipy.stats import norm

from tiltmeter.analysis.multiplicity import adjust
from tiltmeter.decisions.controls import is_control
from tiltmeter.decisions.findings import agreement, effects, findings, interaction, shrunken


def row(model, strategy, benchmark, value, se=0.2, verdict=None):
    """A row whose change is `value` margins (margin 2) with a standard error of `se` margins.

    Without a verdict of its own: as it would be judged alone, by a test at two standard errors.
    """
    verdict = verdict or ("inconclusive" if abs(value) < 2 * se else "worse" if value > 0 else "better")
    half = 1.96 * se * 2
    change = {"margin": 2.0, "distance_delta": 2 * value, "distance_ci": [2 * value - half, 2 * value + half]}
    return made_documents.row(verdict, strategy, change, model=model, benchmark=benchmark)


def grid(values, se=0.2):
    """values[model][strategy][benchmark] as rows."""
    return [
        row(f"m{i}", f"s{j}", f"b{k}", value, se)
        for i, model in enumerate(values)
        for j, strategy in enumerate(model)
        for k, value in enumerate(strategy)
    ]


def test_the_benchmark_and_the_strategy_that_move_most_are_named():
    rows = grid([[[0.1, 3.0, 0.2], [0.2, -5.0, 0.1]]])
    bias, strategy, models = findings(rows)
    assert str(bias).startswith("Which bias moves most? b1 (1 worse, 0 shifted, 1 better")
    assert "b1 4 (2 of 2 told from chance)" in bias
    assert (
        str(strategy).startswith("Which strategy moves it most?")
        and "s1 1.8 (1 of 3 told from chance); s0 1.1" in strategy
    )
    assert "Cannot tell: this run has one model" in models


def test_a_larger_change_that_is_not_told_from_chance_does_not_win():
    rows = [row("m", "s0", "noisy", 3.0, se=5.0), row("m", "s0", "sure", 1.0, se=0.1)]
    answer = findings(rows)[0]
    assert str(answer).startswith("Which bias moves most? sure (1 worse") and "noisy" in str(answer).split("sure 0")[-1]


def test_when_nothing_is_told_from_chance_it_says_cannot_tell():
    assert all("annot tell" in sentence for sentence in findings(grid([[[0.1, 0.2]]])))


def test_models_that_move_alike_agree_and_opposite_ones_do_not():
    rng = np.random.default_rng(0)
    one = rng.normal(0, 3, size=(4, 3))
    same = agreement(effects(grid([one, one + rng.normal(0, 0.1, (4, 3))])), ("m0", "m1"))
    assert same.p < 0.01 and same.rank_correlation > 0.9 and same.same_sign == same.both_moved > 5
    opposite = agreement(effects(grid([one, -one])), ("m0", "m1"))
    assert opposite.rank_correlation == pytest.approx(-1) and opposite.same_sign == 0


def test_few_common_cells_cannot_tell():
    found = agreement(effects(grid([[[1.0, 2.0]], [[1.0, 2.0]]])), ("m0", "m1"))
    assert found.cells == 2 and np.isnan(found.rank_correlation)


def test_interaction_is_the_misfit_of_an_additive_table_in_standard_errors():
    # [[0, 1], [0, 3]]: the additive fit misses every cell by 1/2 when all weights are equal; 4 (.5/.2)^2 = 25
    statistic, df, p = interaction(effects(grid([[[0.0], [1.0]], [[0.0], [3.0]]])), "b0")
    assert statistic == pytest.approx(25.0) and df == 1 and p < 1e-5
    statistic, _, p = interaction(effects(grid([[[0.0], [1.0]], [[2.0], [3.0]]])), "b0")
    assert statistic == pytest.approx(0.0, abs=1e-9) and p == pytest.approx(1.0)
    assert np.isnan(interaction(effects(grid([[[0.0], [1.0]]])), "b0")[2])


def test_controls_and_rows_without_a_say_are_left_out():
    controls = ("rerun", "int8+rerun", "rerun+int8", "dtype:bfloat16", "assisted", "dtype:bfloat16+assisted")
    assert all(map(is_control, controls))
    assert not any(map(is_control, ("int8", "int8+kv4", "int4+assisted", "dtype:bfloat16+int8", "checkpoint=./rerun")))
    assert is_control("checkpoint=http://a/v1", frozenset({"checkpoint=http://a/v1"}))  # by what was found
    rows = [
        row("m", "rerun", "b", 9),
        row("m", "int8", "b", 9, verdict="no usable signal"),
        row("m", "int8", "c", 9, verdict="not exercised"),
        row("m", "none", "b", 1),
    ]
    assert effects(rows) == [] and "No row of this run" in findings(rows)[0]


def null_run(rng, shift=0.0):
    """99 rows in which no strategy does anything: 3 models x 11 strategies x 3 benchmarks, judged with Holm's
    correction as a run is. `shift`: what a whole model loses on every benchmark, whatever the strategy (margins)."""
    se, z = 0.3, rng.normal(size=(3, 11, 3))
    values = z * se + shift * rng.normal(size=(3, 1, 3))
    p = np.reshape(adjust(list(2 * norm.sf(np.abs(values / se)).ravel())), z.shape)
    return [
        row(f"m{i}", f"s{j}", f"b{k}", values[i, j, k], se, "inconclusive" if p[i, j, k] >= 0.05 else "worse")
        for i, j, k in np.ndindex(z.shape)
    ]


def test_a_run_in_which_nothing_changed_names_nothing_in_at_least_95_of_100():
    """200 null runs of 99 rows. The bound is 95 % less two standard errors of the simulation (.015)."""
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(200):
        bias, strategy, *_ = findings(null_run(rng))
        named += "Cannot tell" not in bias or "Cannot tell" not in strategy
    assert named / 200 <= 0.05 + 2 * 0.0154


def test_models_do_not_agree_because_both_merely_lose_accuracy():
    """Each model changes by its own amount on each benchmark, no strategy adds anything: "yes" by chance only."""
    rng = np.random.default_rng(1)
    yes = sum(
        found.p < 0.05 and found.rank_correlation > 0
        for found in (agreement(effects(null_run(rng, shift=5.0)), ("m0", "m1")) for _ in range(40))
    )
    assert yes <= 4  # 2.5 % expected: 5 or more of 40 has a chance of 0.003


def test_noise_is_not_ranked_as_effect():
    found = effects([row("m", "s0", "noisy", 6.0, se=5.0), row("m", "s0", "sure", 3.0, se=0.1)])
    noisy, sure = shrunken(found)
    # tau^2 = ((36 - 25) + (9 - .01)) / 2 = 9.995; 6 x 9.995 / (9.995 + 25) = 1.71; 3 x 9.995 / 10.005 = 2.997
    assert noisy == pytest.approx(1.7137, abs=1e-3) and sure == pytest.approx(2.997, abs=1e-3)
