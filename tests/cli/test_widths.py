"""At every width, into a pipe, and where the encoding lacks the signs, each number stands whole."""

from __future__ import annotations

import io
import re
import sys

import pytest
from made_documents import document, row

from tiltmeter.cli.output import guarded
from tiltmeter.cli.rows import cells
from tiltmeter.cli.speed import show as show_speed
from tiltmeter.cli.tables import show
from tiltmeter.variants.speed import Setting, Speed, Timing

HOW = Setting(4, 256, 64, 5, "cpu", "float32", 2)
LONG = "checkpoint=./models/some-organisation/Some-Model-7B-Instruct-AWQ-4bit-group-128"
ROWS = [
    row(strategy="none"),
    row(
        "shifted", "wanda-2:4+int4:type=nf4", change={"delta": 33.33, "ci": [-66.67, 10.5], "mde": 12.34, "noise": 1.25}
    ),
    row("worse", LONG, change={"delta": 2.5, "ci": [0.13, 4.58], "mde": 3.17}, partial=True),
    row(strategy="none", benchmark="global-opinion-qa", unit="gini", score=0.1234),
    row(
        "not exercised",
        "kv4:read=transformers",
        benchmark="global-opinion-qa",
        unit="gini",
        score=0.1234,
        change={"delta": -0.0512, "ci": [-0.1, -0.002], "mde": 0.123, "noise": 0.001},
    ),
]


def printed(capsys, width, rows=ROWS) -> str:
    show(document(rows), width)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 150, 200, None])
def test_every_number_and_every_name_is_whole_at_every_width(capsys, width):
    out = printed(capsys, width)
    joined = re.sub(r"\s+", "", out)
    for each in ROWS:
        for name, text in cells(each).items():
            if text and name not in ("benchmark", "strategy", "asked"):
                assert any(text.strip() in line for line in out.splitlines()), (width, name, text)
        assert re.sub(r"\s+", "", each.strategy) in joined
    assert "…" not in out
    if width is not None:
        assert max(map(len, out.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_what_stands_beside_a_score_is_printed_whole(capsys, width):
    arms = [
        {"name": "gap on type 2", "role": "bias", "unit": "points", "base": 4.0, "variant": 6.5, "delta": 2.5},
        {"name": "accuracy", "role": "skill", "unit": "points", "base": 62.0, "variant": 60.0, "delta": -2.0},
    ]
    rows = [row(strategy="none"), row("worse", "int8", change={"arms": arms})]
    out = " ".join(printed(capsys, width, rows).split())
    assert "Beside the score crows-pairs · int8 gap on type 2 4.00 → 6.50, +2.50" in out
    assert "control: accuracy 62.00 → 60.00, −2.00" in out
    assert "Beside the score" not in printed(capsys, width)


SPEEDS = [
    Speed("none", HOW, Timing(2711.4, 2699.0, 2801.2), Timing(799.0, 750.1, 820.9), None, None, 513_000_000,
          538_000_000, 1_100_000_000, first_token=Timing(1.69, 1.411, 1.795)),
    Speed(LONG, HOW, Timing(4546.0, 4500.0, 4600.0), Timing(139.0, 120.0, 150.0), Timing(1.67, 1.6, 1.7),
          Timing(0.17, 0.15, 0.21), 128_000_000, 220_000_000, None),
    Speed("kv8", HOW, None, None, None, None, None, 538_000_000, None, "simulated: no speed measured here"),
]  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 150, 200, None])
def test_every_measured_speed_is_whole_at_every_width(capsys, width):
    show_speed("some/model", SPEEDS, width)
    lines = capsys.readouterr().out.splitlines()
    whole = (
        "2,711 (2,699–2,801)",
        "799 (750–821)",
        "1.67 (1.60–1.70)",
        "0.17 (0.15–0.21)",
        "513.0",
        "538.0",
        "1,100.0",
    )
    for number in (*whole, "128.0", "220.0"):
        assert any(number in line for line in lines), (width, number)
    joined = "".join("".join(lines).split())
    assert LONG in joined
    assert "1.690(1.411–1.795)" in joined
    assert "simulated:nospeedmeasuredhere" in joined
    assert not any("…" in line for line in lines)
    if width is not None:
        assert max(map(len, lines)) <= width


def test_short_names_stay_in_one_table_on_a_terminal_of_100_columns_or_less(capsys):
    rows = [row(strategy="none"), row("equivalent", "int8", change={"mde": 3.17, "noise": 0.2})]
    lines = printed(capsys, 100, rows).splitlines()
    (head,) = (line for line in lines if "95 % interval" in line)
    assert "strategy" in head and "detects" in head and "scored" in head


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_without_the_signs_still_gets_every_number(monkeypatch, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded():
        show(document(ROWS), 80)
        sys.stdout.flush()
    out = raw.getvalue().decode(encoding)
    assert "+33.33" in out and "[-66.67, +10.50]" in out and "~ shifted" in out and "o not exercised" in out


def test_further_scores_of_which_none_is_known_take_one_line(capsys):
    arms = [{"name": f"gap {i}", "role": "bias", "unit": "points"} for i in range(3)]
    out = printed(capsys, 120, [row(strategy="none"), row("inconclusive", "int8", change={"arms": arms})])
    assert "none of its 3 further scores is known" in out and "gap 1" not in out


@pytest.mark.parametrize(
    "apart, names", [({"format": "chat"}, ("plain", "chat")), ({"model": "other"}, ("m", "other"))]
)
def test_sentences_about_rows_of_one_benchmark_say_which_row_they_are_about(capsys, apart, names):
    rows = []
    for way in ({}, apart):
        rows += [
            row(strategy="none", **way),
            row("worse", "int8", unscored={"no answer": 3}, **way),
        ]
    lines = printed(capsys, 200, rows).splitlines()
    for start in ("Not scored", "Why"):
        told = lines[lines.index(start) + 1 :][:2]
        assert [name in line for name, line in zip(names, told)] == [True, True], told
        assert told[0] != told[1]
    alone = printed(capsys, 200, rows[:2])
    assert "crows-pairs · int8" in alone
