"""Killed at any instant and started again, a run ends with the same results as an uninterrupted one."""

import json
import os
import random
import signal
import time

import pytest

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


@pytest.fixture
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


def run_in_child(study, out):
    """A real process of its own (forked, so that torch is not imported 20 times over)."""
    child = os.fork()
    if child == 0:
        try:
            run(study, out)
        finally:
            os._exit(0)
    return child


def test_a_run_killed_at_twenty_random_moments_ends_with_the_same_results(study, tmp_path):
    started = time.perf_counter()
    run(study, tmp_path / "uninterrupted")
    whole = time.perf_counter() - started
    expected = without_times(read_results(tmp_path / "uninterrupted"))
    rng, place = random.Random(7), 0
    for _ in range(20):
        child = run_in_child(study, tmp_path / f"run{place}")
        time.sleep(rng.uniform(0.02, 0.5 * min(whole, 12.0)))
        finished, _ = os.waitpid(child, os.WNOHANG)
        if finished:
            place += 1  # it was done before the kill: the next kills hit a fresh run
            continue
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    for number in range(place + 1):
        run(study, tmp_path / f"run{number}")
        assert without_times(read_results(tmp_path / f"run{number}")) == expected


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

    run(study, tmp_path / "roomy")
    answer, sizes = Engine.answer, []

    def cramped(self, requests):
        sizes.append(len(requests))
        if len(requests) > 3:
            raise torch.OutOfMemoryError("no room for more than three")
        return answer(self, requests)

    monkeypatch.setattr(Engine, "answer", cramped)
    quiet = study.model_copy(update={"text_quality": False, "strategies": ()})
    summary = run(quiet, tmp_path / "cramped")
    assert summary.failures == [] and max(sizes) > 3
    halved = [json.loads(path.read_text()) for path in tmp_path.glob("cramped/cells/*/halved.json")]
    assert halved and all(len(batch) > 3 for plan in halved for batch in plan)
    roomy, tight = (
        {r["benchmark"]: r["score"] for r in read_results(tmp_path / name)["rows"] if r["strategy"] == "none"}
        for name in ("roomy", "cramped")
    )
    assert roomy == tight  # float32: the same scores from smaller batches
