"""`tiltmeter gate` and `choose` on stored results: what is printed, written and returned."""

import json

import pytest
from made_documents import document, row

from tiltmeter.cli import decisions
from tiltmeter.errors import UserError
from tiltmeter.results import computed

NAME = "m\x1b[31m"


@pytest.fixture
def stored(monkeypatch):
    def store(verdict, failures=()):
        rows = [
            row(strategy="none", model=NAME),
            row(verdict, model=NAME, change={"reason": "a reason", "flips": None}),
        ]
        made = document(rows, failures=list(failures))
        monkeypatch.setattr(decisions, "read_document", lambda run: made)

    return store


@pytest.mark.parametrize("verdict,status", [("equivalent", 0), ("worse", 1), ("no usable signal", 3)])
def test_exit_status_follows_the_verdicts(stored, tmp_path, capsys, verdict, status):
    stored(verdict)
    assert decisions.run_gate(tmp_path) == status
    assert "a reason" in capsys.readouterr().out


def test_json_alone_is_on_stdout_and_annotations_go_to_stderr(stored, tmp_path, capsys):
    stored("worse")
    decisions.run_gate(tmp_path, as_json=True, github=True)
    out, err = capsys.readouterr()
    assert json.loads(out)["exit_code"] == 1 and err.startswith("::error ")


def test_a_failed_cell_cannot_pass(stored, tmp_path):
    stored("equivalent", failures=[{"model": "m", "strategy": "int4", "reason": "out of memory"}])
    assert decisions.run_gate(tmp_path) == 3


def test_what_models_are_called_cannot_drive_the_terminal(stored, tmp_path, capsys):
    stored("equivalent")
    decisions.run_gate(tmp_path)
    decisions.run_choose(tmp_path)
    out = capsys.readouterr().out
    assert "\x1b" not in out and "␛[31m" in out


def test_the_example_policy_is_valid_and_mistakes_in_a_policy_say_so(stored, tmp_path, request):
    stored("equivalent")
    assert decisions.run_gate(tmp_path, request.config.rootpath / "examples" / "policy.yaml") == 3  # no flips stored
    broken = tmp_path / "policy.yaml"
    broken.write_text("default: {requires: equivalent}")
    with pytest.raises(UserError, match="requires"):
        decisions.run_gate(tmp_path, broken)
    with pytest.raises(UserError, match="cannot read the policy"):
        decisions.run_gate(tmp_path, tmp_path / "absent.yaml")


def test_a_junit_file_that_cannot_be_written_is_a_mistake(stored, tmp_path):
    stored("equivalent")
    decisions.run_gate(tmp_path, junit=tmp_path / "gate.xml")
    assert "<testsuite" in (tmp_path / "gate.xml").read_text()
    with pytest.raises(UserError, match="cannot write"):
        decisions.run_gate(tmp_path, junit=tmp_path / "gate.xml" / "below-a-file.xml")


def test_margins_of_the_policy_judge_the_run_anew(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(computed, "document", lambda run, margins: seen.append(margins) or document([row()]))
    policy = tmp_path / "policy.yaml"
    policy.write_text("margins: {crows-pairs: 0.5}")
    assert decisions.run_gate(tmp_path, policy) == 0 and seen == [{"crows-pairs": 0.5}]


def test_choosing_without_a_measured_speed_returns_three(stored, tmp_path, capsys):
    stored("equivalent")
    assert decisions.run_choose(tmp_path, as_json=True) == 3
    choice = json.loads(capsys.readouterr().out)
    assert choice["chosen"] == [] and choice["candidates"][1]["speed"] is None
