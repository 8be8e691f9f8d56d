"""A run that goes on after an upgrade, or on another machine: nothing is lost, and the rows say what stands where."""

import pytest

from tiltmeter.pipeline import run
from tiltmeter.results.document import read_document
from tiltmeter.runs import record as run_record
from tiltmeter.runs.progress import Silent
from tiltmeter.runs.record import write_record
from tiltmeter.study import make_study

UPGRADED = {"torch": "9.9.9"}
OTHER_CPU = {"cpu": "Another Maker's 9000"}


@pytest.fixture
def elsewhere(monkeypatch):
    """Makes the next start see other versions, or another CPU."""
    versions, hardware = run_record.versions(), run_record.hardware()

    def move(**changed):
        monkeypatch.setattr(run_record, "versions", lambda: versions | changed.get("versions", {}))
        monkeypatch.setattr(run_record, "hardware", lambda: hardware | changed.get("hardware", {}))

    return move


class Heard(Silent):
    def __init__(self):
        super().__init__()
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def start(shared, stories, out, *strategies):
    heard = Heard()
    study = make_study(
        models=[stories],
        strategies=list(strategies),
        benchmarks=["crows-pairs", "discrim-eval"],
        data=str(shared / "data"),
        limit=4,
        draws=100,
        text_quality=False,
        batch_tokens=16,
    )
    run(study, out, heard)
    return heard.warned


@pytest.mark.parametrize(
    ("changed", "printed"),
    [({"versions": UPGRADED}, "torch"), ({"hardware": OTHER_CPU}, "cpu")],
    ids=["another version", "another CPU"],
)
def test_answers_of_another_environment_stay_and_rows_beside_them_say_so(
    shared, stories, tmp_path, elsewhere, changed, printed
):
    out = tmp_path / "run"
    assert start(shared, stories, out, "rerun") == []
    before = {row.place: row.score for row in read_document(out).rows}
    elsewhere(**changed)
    [warning] = start(shared, stories, out, "rerun", "magnitude")
    new = next(iter(next(iter(changed.values())).values()))
    assert f"{printed} " in warning
    assert f"-> {new}" in warning
    assert "--out" in warning
    document = read_document(out)
    assert {row.place: row.score for row in document.rows if row.place in before} == before
    for row in document.rows:
        told = [str(note) for note in row.notes if "another environment than its base" in str(note)]
        assert len(told) == (row.strategy.startswith("magnitude")), row.place
        assert all(f"-> {new}" in note for note in told)
    [said] = [str(note) for note in document.run.notes if "another environment" in str(note)]
    assert "magnitude · crows-pairs" in said.replace(":sparsity=0.5", "")
    assert "rerun" not in said


def test_memory_and_idle_cores_are_no_other_hardware(shared, stories, tmp_path, elsewhere):
    start(shared, stories, tmp_path / "run", "rerun")
    elsewhere(hardware={"memory_bytes": 1, "cores": 512})
    assert start(shared, stories, tmp_path / "run", "rerun", "magnitude") == []
    assert not any(row.notes for row in read_document(tmp_path / "run").rows)


def test_a_cell_that_was_half_answered_elsewhere_says_both_even_for_the_base(shared, stories, tmp_path, elsewhere):
    out = tmp_path / "run"
    start(shared, stories, out)
    for done in out.glob("cells/*/done.json"):
        done.unlink()
    [answers] = out.glob("cells/crows-pairs*/answers.jsonl")
    lines = answers.read_text().splitlines(keepends=True)
    assert len(lines) > 1
    answers.write_text("".join(lines[:-1]))
    elsewhere(versions=UPGRADED)
    start(shared, stories, out)
    notes = {row.benchmark: [str(note) for note in row.notes] for row in read_document(out).rows}
    assert ["two environments" in note for note in notes["crows-pairs"]] == [True]
    assert notes["discrim-eval"] == []


def test_a_run_begun_before_environments_were_kept_is_taken_as_of_its_last_start(shared, stories, tmp_path, elsewhere):
    out = tmp_path / "run"
    start(shared, stories, out)
    record = run_record.run_record(out)
    record.environments, record.answered_in = [], {}
    write_record(out / "run.json", record)
    elsewhere(hardware=OTHER_CPU)
    [warning] = start(shared, stories, out, "magnitude")
    assert "Another Maker's 9000" in warning
    assert all(row.notes for row in read_document(out).rows if row.strategy != "none")
