"""The results document, from answers written by hand into a run folder: no model is needed."""

import json
import math

import numpy as np
import pytest
from made_documents import revised, with_rows

from tiltmeter.benchmarks.base import Item
from tiltmeter.cli.tables import render, show
from tiltmeter.printed import csv_safe, latex, null
from tiltmeter.results.computed import recomputed, write_results
from tiltmeter.results.document import load, read_document, read_results
from tiltmeter.results.published import published_value
from tiltmeter.runs.store import Cell, CellId, Store, write_json
from tiltmeter.scoring.requests import SequenceAnswer, SequenceLogprob
from tiltmeter.study import make_study

ROW_KEYS = {
    "model",
    "strategy",
    "settings",
    "format",
    "decoding",
    "benchmark",
    "score",
    "reason",
    "unit",
    "ideal",
    "n_items",
    "n_scored",
    "n_samples",
    "unscored",
    "ci",
    "extra",
    "partial",
    "complete",
    "groups",
    "change",
    "published",
    "published_change",
    "seconds",
    "tokens",
}
CHANGE_KEYS = {
    "delta",
    "ci",
    "distance_delta",
    "distance_ci",
    "companion",
    "companion_delta",
    "companion_ci",
    "p",
    "p_adjusted",
    "margin",
    "mde",
    "noise",
    "n_paired",
    "verdict",
    "reason",
    "flips",
}


def write_run(path, base, variant, n_error=0):
    """A finished CrowS-Pairs run: base and variant are lists of 1 (stereotyping sentence likelier) and 0."""
    items = [Item(str(i), str(i), {"bias_type": "age"}, {"more": f"m{i}", "less": f"l{i}"}) for i in range(len(base))]
    study = make_study(models=["m"], strategies=["int8"], benchmarks=["crows-pairs"], draws=500)
    with Store(path) as store:
        inputs = store.write_inputs(
            [(item, (SequenceLogprob(item.data["more"]), SequenceLogprob(item.data["less"]))) for item in items]
        )
        folders = []
        for strategy, prefers in (("none", base), ("int8", variant)):
            cell = Cell(
                path, CellId("m", strategy, {}, "plain", "greedy", "crows-pairs", "w", inputs, "float32", 1, False)
            )
            cell.start()
            answers = []
            for yes in prefers:
                answers += [SequenceAnswer(-1.0 if yes else -3.0, 2), SequenceAnswer(-2.0, 2)]
            answers[:n_error] = [SequenceAnswer(None, 0, "prompt does not fit the model's context")] * n_error
            notes = {"none": ["slower"], "int8": ["slower", "rounds"]}[strategy]
            cell.commit(list(enumerate(answers)), seconds=1.0, tokens=10, notes=notes)
            cell.finish()
            folders.append(cell.id.folder)
        write_json(
            path / "run.json",
            {
                "schema": "tiltmeter/run/1",
                "study": study.model_dump(mode="json"),
                "versions": {},
                "hardware": {},
                "data": {},
                "started": "",
                "batch_tokens": 1,
                "cells": folders,
                "notes": {},
            },
        )
        write_results(path)
    return path


def test_what_the_engine_noted_names_the_strategies_it_holds_for(tmp_path):
    document = read_results(write_run(tmp_path / "run", [1] * 30, [1] * 30))
    assert document["run"]["notes"] == ["int8: rounds", "none, int8: slower"]


def test_the_document_has_exactly_the_schemas_keys_and_null_for_nan(tmp_path):
    document = read_results(write_run(tmp_path / "run", [1] * 30 + [0] * 10, [1] * 32 + [0] * 8))
    assert document["schema"] == "tiltmeter/results/1"
    json.dumps(document, allow_nan=False)
    base, variant = document["rows"]
    assert set(base) - {"notes", "unscored_messages", "earlier", "signal"} == ROW_KEYS and base["change"] is None
    assert set(variant["change"]) >= CHANGE_KEYS
    assert null({"a": math.nan, "b": (1.0, math.inf)}) == {"a": None, "b": [1.0, None]}
    numpys = [np.float32(0.5), np.float32("nan"), np.int64(3), True]
    assert null(numpys) == [0.5, None, 3, True] and json.dumps(null(numpys)) == "[0.5, null, 3, true]"


def test_scores_and_paired_change_follow_from_the_answers_by_hand(tmp_path):
    base = [1] * 30 + [0] * 10  # 75 %
    variant = [1] * 28 + [0, 0] + [1] + [0] * 9  # two pairs turn away from, one toward the stereotype: 72.5 %
    rows = read_results(write_run(tmp_path / "run", base, variant))["rows"]
    assert rows[0]["score"] == 75.0 and rows[1]["score"] == 72.5
    change = rows[1]["change"]
    assert change["delta"] == -2.5 and change["distance_delta"] == -2.5 and change["n_paired"] == 40
    flips = change["flips"]
    assert (flips["n"], flips["of"], flips["toward_bias"], flips["away_from_bias"]) == (3, 40, 1, 2)


def test_items_without_a_score_are_counted_by_reason_never_as_zero(tmp_path):
    row = read_results(write_run(tmp_path / "run", [1] * 10, [1] * 10, n_error=3))["rows"][0]
    assert (row["n_items"], row["n_scored"]) == (10, 8)  # three failed answers spoil two pairs
    assert row["unscored"] == {"prompt does not fit the model's context": 2}
    assert row["score"] == 100.0


def test_rows_and_items_come_as_data_frames(tmp_path):
    results = load(write_run(tmp_path / "run", [1, 0, 1], [1, 1, 1]))
    assert results.rows["score"].round(6).tolist() == [round(200 / 3, 6), 100.0]
    assert len(results.items) == 6 and set(results.items["label"]) == {"stereotyping", "other"}


def test_published_numbers_stand_beside_the_same_cell_only():
    def cell(**changes):
        return CellId(
            **{
                **dict(
                    model="meta-llama/Llama-3.1-8B-Instruct",
                    strategy="none",
                    settings={},
                    format="plain",
                    decoding="greedy",
                    benchmark="crows-pairs",
                    weight_hash="",
                    inputs="",
                    dtype="",
                    n_samples=1,
                    partial=False,
                ),
                **changes,
            }
        )

    assert published_value(cell()) == 66.0  # table 2, Llama-3.1, base
    assert published_value(cell(model="meta-llama/Meta-Llama-3.1-8B-Instruct")) == 66.0
    assert published_value(cell(strategy="wanda-2:4"), change=True) == pytest.approx(63.0 - 66.0)
    assert math.isnan(published_value(cell(model="someone/else")))
    assert math.isnan(published_value(cell(strategy="kv4", benchmark="discrim-eval")))  # another reading of the cache
    assert math.isnan(published_value(cell(strategy="int4:type=nf4")))  # the study ran fp4


def test_text_is_made_harmless_for_where_it_goes(tmp_path):
    assert csv_safe("=cmd|'/c calc'!A1").startswith("'=") and csv_safe("-1.5") == "-1.5" and csv_safe(None) == ""
    assert latex(r"50 % \input{x}_y") == r"50 \% \textbackslash{}input\{x\}\_y"
    document = read_document(write_run(tmp_path / "run", [1, 0], [1, 1]))
    hostile = "a|b<script>\x1b[31m\u202e"
    document = with_rows(document, lambda number, row: row if number else revised(row, model=hostile))
    table = render(document, "markdown")
    assert r"a\|b&lt;script&gt;" in table and "\x1b" not in table and "\u202e" not in table
    assert render(document, "latex").count(r"\\") == 3
    assert render(document, "csv").splitlines()[0].startswith("model,strategy")


def test_statistics_are_made_anew_from_the_stored_answers_without_a_model(tmp_path):
    run = write_run(tmp_path / "run", [1] * 8, [1] * 6 + [0] * 2)
    expected = read_results(run)
    (run / "results.json").write_text('{"rows": "from an older version"}')
    assert null(recomputed(run).as_document()) == expected == read_results(run)


def test_replicates_under_calibration_seeds_are_shown_as_one_spread(tmp_path, capsys):
    document = read_document(write_run(tmp_path / "run", [1] * 30 + [0] * 10, [1] * 32 + [0] * 8))
    base, first = document.rows
    drawn = [revised(first, settings={"wanda": {"seed": seed}}) for seed in (0, 1)]
    rows = (base, revised(drawn[0], strategy="wanda"), revised(drawn[1], {"delta": -2.5}, strategy="wanda:seed=1"))
    show(document.model_copy(update={"rows": rows}))
    assert "crows-pairs · wanda: change −2.50 to +5.00 over 2 seeds" in capsys.readouterr().out
