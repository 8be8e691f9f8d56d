"""Off a terminal a long run is no silence and no flood: plain lines at a bounded rate, without control characters."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest

from tiltmeter.runs.progress import EVERY, Terminal
from tiltmeter.runs.store import CellId

STATS = SimpleNamespace(tokens_asked=10, tokens_computed=5, seconds=1.0)


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def cell(strategy: str = "int4", benchmark: str = "crows-pairs") -> CellId:
    return CellId(
        model="m",
        strategy=strategy,
        settings={},
        format="plain",
        decoding="greedy",
        benchmark=benchmark,
        weight_hash="a",
        inputs="",
        dtype="float32",
        n_samples=1,
        partial=False,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> Terminal:
    assert not sys.stderr.isatty()
    return Terminal(clock=clock)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""  # results go there
    return captured.err.splitlines()


def test_a_long_cell_says_how_far_it_is_once_in_thirty_seconds(log, clock, capsys):
    with log.cell(cell(), total=1000, done=100) as bar:
        for _ in range(90):  # 10 requests every 2 seconds: 180 seconds
            clock.now += 2
            bar.advance(10, STATS)
    *underway, last = said(capsys)
    assert EVERY == 30
    # 15 batches of 10 requests lie between two lines; the sixth would be the end, which says itself
    assert underway == [f"int4 · crows-pairs · plain greedy: {100 + 150 * n} of 1000 requests" for n in range(1, 6)]
    assert last == "int4 · crows-pairs · plain greedy: 1000 requests in 180.0 s"


def test_a_quick_cell_says_its_end_alone(log, clock, capsys):
    with log.cell(cell(), total=20, done=0) as bar:
        for _ in range(20):
            clock.now += 1
            bar.advance(1, STATS)
    assert said(capsys) == ["int4 · crows-pairs · plain greedy: 20 requests in 20.0 s"]


def test_short_cells_in_a_row_do_not_hide_the_clock_from_each_other(log, clock, capsys):
    for name in ("a", "b", "c"):
        with log.cell(cell(name), total=3, done=0) as bar:
            for _ in range(2):
                clock.now += 10
                bar.advance(1, STATS)
    lines = [line for line in said(capsys) if " of " in line]
    assert lines == [
        "b · crows-pairs · plain greedy: 1 of 3 requests",
        "c · crows-pairs · plain greedy: 2 of 3 requests",
    ]


def test_cells_at_work_side_by_side_share_one_rate(log, clock, capsys):
    with log.cell(cell("a"), 1000, 0) as one, log.cell(cell("b"), 1000, 0) as other:
        for _ in range(31):
            clock.now += 3
            threads = [threading.Thread(target=bar.advance, args=(1, STATS)) for bar in (one, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert sum(" of " in line for line in said(capsys)) == 3  # 93 seconds, whoever of the two was first


def test_no_line_is_folded_and_none_holds_a_control_character(log, clock, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    evil = "\x1b[2Jevil\r\n::error::x\u202e" + "long" * 100
    with log.cell(cell(evil), total=100, done=0) as bar:
        clock.now += EVERY
        bar.advance(1, STATS)
    log.note(f"loading {evil}")
    log.warn(f"{evil} failed")
    lines = said(capsys)
    assert len(lines) == 4
    for line in lines:
        assert "long" * 100 in line
        assert not line.startswith("::")
        assert not any(ord(character) < 32 or character in "\x7f\u202e" for character in line)
