"""The three questions from rows made to have a known answer."""

import made_documents
import numpy as np
import pytest

from tiltmeter.decisions.controls import is_control
from tiltmeter.decisions.findings import agreement, effects, findings, interaction


def row(model, strategy, benchmark, value, se=0.2, verdict="inconclusive"):
    """A row whose change is `value` margins (margin 2) with a standard error of `se` margins."""
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
    assert str(bias).startswith("Which bias moves most? b1 (1 toward bias, 1 away")
    assert "b1 4 (2 of 2 told from chance)" in bias
    assert str(strategy).startswith("Which strategy moves it most?") and "s0 0.2" in strategy
    assert "Cannot tell: this run has one model" in models


def test_a_larger_change_that_is_not_told_from_chance_does_not_win():
    rows = [row("m", "s0", "noisy", 3.0, se=5.0), row("m", "s0", "sure", 1.0, se=0.1)]
    answer = findings(rows)[0]
    assert (
        str(answer).startswith("Which bias moves most? sure (1 toward bias") and "what noisy shows is larger" in answer
    )


def test_when_nothing_is_told_from_chance_it_says_cannot_tell():
    assert all("annot tell" in sentence for sentence in findings(grid([[[0.1, 0.2]]])))


def test_models_that_move_alike_agree_and_opposite_ones_do_not():
    rng = np.random.default_rng(0)
    one = rng.normal(0, 3, size=(4, 3))
    same = agreement(effects(grid([one, one + rng.normal(0, 0.1, (4, 3))])), ("m0", "m1"))
    assert same.low > 0.5 and same.same_sign == same.both_told > 5
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
    rows = [
        row("m", "rerun", "b", 9),
        row("m", "int8", "b", 9, verdict="no usable signal"),
        row("m", "int8", "c", 9, verdict="not exercised"),
        row("m", "none", "b", 1),
    ]
    assert effects(rows) == [] and "No row of this run" in findings(rows)[0]
