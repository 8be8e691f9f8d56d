"""Killed at any step and started again, a run ends with the same results as an uninterrupted one."""

import json
from fnmatch import fnmatch

import pytest
from killing import at_commit, at_file, killed

from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.study import make_study


def without_times(document):
    """The document as JSON text with measured seconds and the folder's name taken out."""
    document["run"].pop("path")
    for name in ("started", "command", "command_for_all", "path"):  # a time, and the folder's own name
        document["run"].pop(name, None)
    for row in document["rows"]:
        row.pop("seconds")
    return json.dumps(document, sort_keys=True)


@pytest.fixture(scope="module")
def study(shared):
    return make_study(
        models=[str(shared / "models" / "stories260k")],
        strategies=["int8"],
        benchmarks=["crows-pairs", "dt-stereotyping"],
        limits={"crows-pairs": 60, "dt-stereotyping": 6},
        data=str(shared / "data"),
        batch_tokens=512,
        draws=200,
    )


@pytest.fixture(scope="module")
def batches(study):
    """A run of many small batches."""
    asked = {"benchmarks": ("crows-pairs",), "limits": {"crows-pairs": 24}, "strategies": (), "text_quality": False}
    return study.model_copy(update={"batch_tokens": 16, **asked})


def lines(out):
    """(whole lines of answers that a run holds, torn ones)."""
    whole = torn = 0
    for path in out.glob("cells/*/answers.jsonl"):
        *finished, rest = path.read_bytes().split(b"\n")
        whole, torn = whole + len(finished), torn + bool(rest)
    return whole, torn


def test_a_run_killed_at_its_commits_again_and_again_ends_with_the_same_results(batches, tmp_path):
    run(batches, tmp_path / "whole")
    out = tmp_path / "run"
    total, _ = lines(tmp_path / "whole")
    kept = 0
    for number, how in [(1, "before"), (2, "after"), (1, "torn"), (3, "before"), (2, "torn")]:
        assert killed(lambda n=number, how=how: run(batches, out), at_commit(number, how)), "it ended before"
        kept += number if how == "after" else number - 1
        assert lines(out) == (kept, how == "torn")  # the kill hit a cell at work, and cost at most one batch
    assert 5 == kept < total
    run(batches, out)
    assert without_times(read_results(out)) == without_times(read_results(tmp_path / "whole"))
    assert lines(out) == (total, 0)  # no batch was asked twice


def test_a_run_killed_while_it_writes_that_a_cell_is_done_ends_with_the_same_results(batches, tmp_path):
    run(batches, tmp_path / "whole")
    out = tmp_path / "run"
    for how in ("half", "after"):
        assert killed(lambda how=how: run(batches, out), at_file(1, how, "done.json"))
    run(batches, out)
    assert without_times(read_results(out)) == without_times(read_results(tmp_path / "whole"))
    assert not list(out.rglob("*.part"))


EVERY_FILE = ("run.json", "*.jsonl", "cell.json", "stories260k-*.json", "failures.json", "results.json")


@pytest.mark.parametrize("how", ["half", "before", "after"])
def test_a_run_killed_at_every_kind_of_file_it_writes_ends_with_the_same_results(batches, tmp_path, how):
    """In turn, in one folder. magnitude: float32 weights, so no self-test finds noise."""
    study = batches.model_copy(update={"strategies": ("magnitude",), "batch_tokens": 512})
    run(study, tmp_path / "whole")
    out = tmp_path / "run"
    for name in EVERY_FILE:
        assert killed(lambda: run(study, out), at_file(1, how, name)), f"{name} was not written"
    run(study, out)
    assert without_times(read_results(out)) == without_times(read_results(tmp_path / "whole"))
    kinds = {path.name for path in out.rglob("*") if path.is_file()} - {".lock", "done.json", "answers.jsonl"}
    assert all(any(fnmatch(name, pattern) for pattern in EVERY_FILE) for name in kinds), kinds
    assert not list(out.rglob("*.part"))


def test_finished_answers_are_not_asked_again(study, tmp_path):
    first = run(study, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/cells/*/answers.jsonl")}
    again = run(study, tmp_path / "run")
    assert (first.computed, first.reused) == (4, 0)
    assert (again.computed, again.reused) == (0, 4)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/cells/*/answers.jsonl")}


def test_running_out_of_memory_halves_the_batch_writes_it_down_and_goes_on(study, tmp_path, monkeypatch):
    import torch

    from tiltmeter.scoring.engine import Engine

    base = study.model_copy(update={"text_quality": False, "strategies": ()})
    run(base, tmp_path / "roomy")
    answer, sizes = Engine.answer, []

    def cramped(self, requests):
        sizes.append(len(requests))
        if len(requests) > 3:
            raise torch.OutOfMemoryError("no room for more than three")
        return answer(self, requests)

    monkeypatch.setattr(Engine, "answer", cramped)
    summary = run(base, tmp_path / "cramped")
    assert summary.failures == [] and max(sizes) > 3
    halved = [json.loads(path.read_text()) for path in tmp_path.glob("cramped/cells/*/halved.json")]
    assert halved and all(len(batch) > 3 for plan in halved for batch in plan)
    roomy, tight = (
        {r["benchmark"]: r["score"] for r in read_results(tmp_path / name)["rows"] if r["strategy"] == "none"}
        for name in ("roomy", "cramped")
    )
    assert roomy == tight  # float32: the same scores from smaller batches
