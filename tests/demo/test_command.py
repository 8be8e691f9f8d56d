"""`tiltmeter demo`, and the damage that pruning to 2:4 does to the built-in model."""

import io
from collections import Counter

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tiltmeter.cli.commands import app
from tiltmeter.demo import command
from tiltmeter.pipeline import run
from tiltmeter.printed import digits, number, signed
from tiltmeter.results.document import read_document, read_results
from tiltmeter.study import make_study


@pytest.fixture
def one_strategy(monkeypatch):
    """The demo with magnitude alone and one decision question: no optional library."""
    monkeypatch.setattr(command, "WANTED", {"magnitude": "torch", "awq": "no_such_library"})
    monkeypatch.setattr(command, "QUICK_DECISIONS", 45)


def test_the_demo_shows_truth_measurement_change_and_what_to_type_next(one_strategy, tmp_path):
    out, keep = io.StringIO(), tmp_path / "run"
    assert command.run_demo(keep, False, 0, Console(file=out, width=80)) == 0
    shown = out.getvalue()
    for expected in (
        "toy world",
        "planted",
        "70.00",
        "0.361",  # of bbq
        "25.00",  # of winobias
        "first answer 0.",
        "magnitude",
        "left out: awq",
        "tiltmeter data fetch",
    ):
        assert expected in shown
    assert max(map(len, shown.splitlines())) <= 80
    rows = read_results(keep)["rows"]
    assert {row["benchmark"] for row in rows} == set(command.planted_scores())
    listed = CliRunner().invoke(app, ["results", str(keep)])
    assert listed.exit_code == 0 and "crows-pairs" in listed.output
    for width, fewest in ((200, 1), (80, 2), (40, 3)):
        check_that_no_number_is_cut(keep, width, fewest)


def check_that_no_number_is_cut(folder, width, fewest):
    """The table of a run at a width, in at least so many blocks: every planted, measured and changed number stands."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    rows = [row for row in read_document(folder).rows if row.place.asked == ("plain", "greedy")]
    tables = command.results_tables(rows, console)
    assert len(tables) >= fewest and (fewest > 1 or len(tables) == 1)
    for table in tables:
        console.print(table)
    words = Counter(out.getvalue().split())
    wanted = Counter()
    for row in rows:
        places = digits(row.unit)
        if row.change is None:
            wanted += Counter([number(command.planted_scores()[row.benchmark], places), number(row.score, places)])
        else:
            wanted[signed(row.change.delta, places)] += 1
    assert len(rows) == 2 * len(command.BENCHMARKS) and not wanted - words
    assert max(map(len, out.getvalue().splitlines())) <= width


def test_only_a_run_that_is_kept_measures_how_far_variants_lie_from_the_base(one_strategy, monkeypatch, tmp_path):
    class Stop(Exception):
        pass

    asked = []

    def stop(study, *_):
        asked.append(study.fidelity)
        raise Stop

    monkeypatch.setattr(command, "run", stop)
    for keep in (None, tmp_path / "run"):
        with pytest.raises(Stop):
            command.run_demo(keep, False, 0, Console(file=io.StringIO()))
    assert asked == [False, True]


def test_strategies_whose_library_is_missing_are_left_out_by_name(one_strategy):
    assert command.available() == (["magnitude"], {"awq": "no_such_library"})


def test_pruning_to_2_4_trips_the_coherence_gate_though_its_answers_parse(tmp_path):
    pytest.importorskip("llmcompressor")
    study = make_study(
        models=(str(command.BASE),),
        strategies=("wanda-2:4",),
        benchmarks=("dt-stereotyping", "worldbench"),
        data=str(command.DATA),
        draws=500,
    )
    run(study, tmp_path / "run")
    document = read_results(tmp_path / "run")
    pruned = [row for row in document["rows"] if row["strategy"] == "wanda-2:4"]
    assert [row["change"]["verdict"] for row in pruned] == ["no usable signal"] * 2
    facts = next(row for row in pruned if row["benchmark"] == "worldbench")
    assert facts["n_scored"] >= 0.9 * facts["n_items"]  # a parse rate sees nothing
