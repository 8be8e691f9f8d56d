"""The study is the plan: an unfinished run, a failed cell and a few items end with 3, by name, and with a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tiltmeter.benchmarks.base import Item
from tiltmeter.cli.commands import app
from tiltmeter.results.computed import recomputed
from tiltmeter.results.document import read_document
from tiltmeter.runs.plan import IN_A_FILE, SWITCHES, command, planned
from tiltmeter.runs.record import write_record
from tiltmeter.runs.store import Cell, CellId, Store, write_json
from tiltmeter.schema import Failure, RunRecord
from tiltmeter.scoring.requests import SequenceAnswer, SequenceLogprob
from tiltmeter.study import Study, make_study


def written(path: Path, n: int = 60, finished=("none", "int8"), partial: bool = False, **study) -> Path:
    """A run that was to ask crows-pairs and discrim-eval under int8, killed after the crows-pairs cells `finished`.

    Nothing turns between base and variant.
    """
    items = [Item(str(i), str(i), {"bias_type": "age"}, {"more": f"m{i}", "less": f"l{i}"}) for i in range(n)]
    asked = {"models": ["m"], "strategies": ["int8"], "benchmarks": ["crows-pairs", "discrim-eval"]}
    with Store(path) as store:
        inputs = store.write_inputs(
            [(i, (SequenceLogprob(i.data["more"]), SequenceLogprob(i.data["less"]))) for i in items]
        )
        cells = []
        for strategy in ("none", "int8"):
            cell = Cell(
                path, CellId("m", strategy, {}, "plain", "greedy", "crows-pairs", "w", inputs, "float32", 1, partial)
            )
            cell.start()
            answers = [SequenceAnswer(-1.0 if i % 4 < 3 else -3.0, 2) for i in range(n) for _ in range(2)]
            answers[1::2] = [SequenceAnswer(-2.0, 2)] * n
            if strategy in finished:
                cell.commit(list(enumerate(answers)), seconds=1.0, tokens=10, notes=[])
                cell.finish()
            cells.append(cell.id.folder)
        record = RunRecord(started="", cells=cells, study=make_study(**{**asked, **study}).model_dump(mode="json"))
        write_record(path / "run.json", record)
    return path


def asked(name: str, run: Path, *more: str):
    return CliRunner().invoke(app, [name, str(run), *more], catch_exceptions=False)


def test_a_run_killed_between_its_cells_does_not_pass_and_says_how_to_go_on(tmp_path):
    run = written(tmp_path / "run")
    gate = asked("gate", run)
    assert gate.exit_code == 3
    assert (
        "not judged  m · int8 · discrim-eval, plain, greedy: finished: the run ended before it was begun" in gate.output
    )
    assert f"tiltmeter run m -s int8 -b crows-pairs -b discrim-eval --out {run}" in gate.output
    assert json.loads(asked("gate", run, "--json").output)["complete_with"].startswith("tiltmeter run m -s int8")
    assert asked("choose", run).exit_code == 3 and "not proven safe" in asked("choose", run).output


def test_a_cell_killed_midway_is_told_from_one_not_begun(tmp_path):
    found = read_document(written(tmp_path / "run", finished=("none",)))
    told = {(each.strategy, each.benchmark): str(each.reason) for each in found.run.missing}
    assert told == {
        ("none", "discrim-eval"): "the run ended before it was begun",
        ("int8", "crows-pairs"): "the run ended before it was finished",
        ("int8", "discrim-eval"): "the run ended before it was begun",
    }


def test_every_view_of_an_unfinished_run_says_so(tmp_path):
    run = written(tmp_path / "run")
    for name, *more in (["results"], ["report", "--markdown"], ["choose"]):
        output = " ".join(asked(name, run, *more).output.split())
        assert "not complete" in output and "tiltmeter run m -s int8" in output, name
    asked("report", run)
    assert "discrim-eval" in (run / "report.html").read_text(encoding="utf-8").split('id="gaps"')[1]


def test_a_failed_cell_keeps_the_gate_shut_with_its_reason(tmp_path):
    run = written(tmp_path / "run")
    failure = Failure(model="m", strategy="int8", reason="out of memory", cells=("plain-greedy discrim-eval",))
    write_json(run / "failures.json", [failure.as_json()])
    gate = asked("gate", run)
    assert gate.exit_code == 3 and "it failed: out of memory" in gate.output


def test_twenty_items_never_pass_whatever_they_show(tmp_path):
    run = written(tmp_path / "run", n=20, partial=True, limit=20, benchmarks=["crows-pairs"])
    gate = asked("gate", run)
    assert gate.exit_code == 3 and "only a part of the items was asked" in gate.output
    assert f"Complete the run with: tiltmeter run m -s int8 -b crows-pairs --out {run}" in gate.output
    loose = tmp_path / "policy.yaml"
    loose.write_text("default: {allow_partial: true}")
    assert asked("gate", run, "--policy", str(loose)).exit_code == 3  # nothing turned, and nothing is excluded


def test_rows_of_an_earlier_study_are_marked(tmp_path):
    run = written(tmp_path / "run")
    path = run / "run.json"
    record = json.loads(path.read_text())
    record["study"]["strategies"] = ["int4"]
    path.write_text(json.dumps(record))
    assert {row.strategy: row.earlier for row in recomputed(run).rows} == {"none": False, "int8": True}
    assert "of an earlier study" in " ".join(asked("results", run).output.split())


def test_the_plan_is_every_cell_that_will_be_asked():
    study = make_study(models=["m"], strategies=["int8"], format="both", decoding="both")
    cells = planned(study)
    assert len(cells) == len(set(cells))
    mine = {(c.benchmark, c.format, c.decoding) for c in cells if c.strategy == "int8"}
    assert {c for c in mine if c[0] == "crows-pairs"} == {("crows-pairs", "plain", "greedy")}  # no chat, no samples
    assert len([c for c in mine if c[0] == "dt-stereotyping"]) == 4


def test_every_setting_of_a_study_is_in_the_command_that_completes_it():
    given = {"models", "checkpoints", "strategies", "benchmarks", "robust", "fidelity"}
    assert given | set(SWITCHES) | set(IN_A_FILE) == set(Study.model_fields)
    switches = {switch for each in get_command(app).commands["run"].params for switch in each.opts}
    assert {*SWITCHES.values(), "--robust"} <= switches
    assert "--no-fidelity" in {
        switch for each in get_command(app).commands["run"].params for switch in each.secondary_opts
    }


@pytest.mark.parametrize(
    "settings,words",
    [
        ({"orders": "all"}, "run m --orders all --out r"),
        ({"strategies": ["int8", "kv4:read=transformers"]}, "run m -s int8 -s kv4:read=transformers --out r"),
        ({"limit": 20, "seed": 3, "robust": True}, "run m --limit 20 --seed 3 --robust --out r"),
        ({"fidelity": False}, "run m --no-fidelity --out r"),
        ({"models": ["a b"], "data": "/my data"}, "run 'a b' --data '/my data' --out r"),
        ({"checkpoints": ["./q"]}, "compare m ./q --out r"),
        ({"margins": {"crows-pairs": 1.0}}, "run STUDY.yaml --out r"),
    ],
)
def test_the_command_that_completes_a_run_is_the_one_that_began_it(settings, words):
    assert command(make_study(**{"models": ["m"], **settings}), Path("r")).startswith(f"tiltmeter {words}")
