"""Which flips the page holds: the stored order, a fair turn for every comparison, a stated budget."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import report_synthetic
from report_run import POISON, write_run

from tiltmeter.report import examples
from tiltmeter.report.examples import Shown, sample, stored_texts
from tiltmeter.report.parquet import write_rows
from tiltmeter.report.view import View
from tiltmeter.report.words import Words

SMALL = {"strategies": ("int4", "wanda"), "benchmarks": ("crows-pairs", "dt-stereotyping")}


def made_up(wanted):
    return {
        (key, item): Shown(f"prompt {item}", f"{key.strategy} {item}", {"gender": "female"})
        for key, ids in wanted.items()
        for item in ids
    }


def test_each_flip_has_its_prompt_and_both_answers():
    view = View(report_synthetic.document(**SMALL), Words("en"))
    result = sample(view, made_up)
    data = json.loads(result.payload)
    assert result.shown == result.stored == 4 * 6  # four comparisons with six examples each
    place, item, base, variant, direction, _, prompt, before, after, _ = data["flips"][0]
    assert (data["texts"][prompt], data["texts"][before]) == (f"prompt {item}", f"none {item}")
    assert data["texts"][after] == f"{data['rows'][place]['strategy']} {item}"
    assert (base, variant, data["directions"][direction]) == ("yes", "no", "toward bias")


def test_a_small_budget_still_shows_every_comparison(monkeypatch):
    monkeypatch.setattr(examples, "BUDGET", 60)
    data = json.loads(sample(View(report_synthetic.document(**SMALL), Words("en")), made_up).payload)
    assert len(data["rows"]) >= 3 and len(data["flips"]) < 24


def test_no_more_than_the_stated_number_per_comparison(monkeypatch):
    monkeypatch.setattr(examples, "EACH", 2)
    data = json.loads(sample(View(report_synthetic.document(**SMALL), Words("en")), made_up).payload)
    assert len(data["flips"]) == 4 * 2


def test_texts_come_from_the_run_folder_for_exactly_the_items_asked(tmp_path):
    document = write_run(tmp_path, **SMALL)
    row = document.rows[2]
    found = stored_texts(tmp_path)({row.place: {"item-1", "item-4", "no such item"}})
    assert set(found) == {(row.place, "item-1"), (row.place, "item-4")}
    shown = found[row.place, "item-4"]
    assert shown.prompt == f"Should {row.benchmark} 4 be approved?"
    assert shown.answer == f"{row.strategy} says no." and shown.groups == {"gender": "female"}


def test_a_megabyte_answer_is_cut_and_says_so(tmp_path):
    document = write_run(tmp_path, answer_length=1_000_000, strategies=("int4",), benchmarks=("crows-pairs",))
    payload = sample(View(document, Words("en")), stored_texts(tmp_path)).payload
    assert len(payload) < 20_000 and "… (+" in payload


def test_parquet_keeps_every_row_and_every_character(tmp_path):
    rows = [
        {
            "model": "m",
            "strategy": "s",
            "format": "plain",
            "decoding": "greedy",
            "benchmark": "b",
            "item": str(i),
            "sample": 0,
            "cluster": "c",
            "variation": "",
            "groups": {"gender": POISON},
            "prompt": POISON,
            "answer": "a\ud800",
            "label": None,
            "score": None if i else 0.5,
            "reason": None,
            "uncertainty": 0.1,
        }
        for i in range(3)
    ]
    table = pq.read_table(write_rows(iter(rows), tmp_path / "items.parquet"))
    assert table.num_rows == 3 and table.column("prompt")[0].as_py() == POISON
    assert table.column("score").to_pylist() == [0.5, None, None] and dict(table.column("groups")[0].as_py()) == {
        "gender": POISON
    }
