"""The artifact cache: made once, never half, by any number of processes."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tiltmeter.models.artifacts import Artifacts

KEY = {"kind": "test", "settings": {"bits": 4}}


def write(folder: Path) -> dict:
    (folder / "weights").write_text("w" * 10)
    return {"layers": 2}


def test_the_second_call_does_not_make_it_again(tmp_path):
    cache = Artifacts(tmp_path)
    first = cache.get_or_make(KEY, write)
    again = cache.get_or_make(dict(KEY), lambda folder: pytest.fail("made twice"))
    assert (first.path, again.facts) == (again.path, {"layers": 2})
    assert (again.path / "weights").read_text() == "w" * 10


@pytest.mark.parametrize(
    "other", [{"kind": "test", "settings": {"bits": 8}}, {"kind": "other", "settings": {"bits": 4}}]
)
def test_another_setting_is_another_artifact(tmp_path, other):
    cache = Artifacts(tmp_path)
    assert cache.get_or_make(KEY, write).path != cache.get_or_make(other, write).path


def test_another_library_version_is_another_artifact(tmp_path, monkeypatch):
    cache = Artifacts(tmp_path)
    first = cache.get_or_make(KEY, write)
    monkeypatch.setattr("tiltmeter.models.artifacts.library_versions", lambda: {"torch": "99"})
    assert cache.get_or_make(KEY, write).path != first.path


def test_a_failure_leaves_nothing_and_passes_through(tmp_path):
    def broken(folder: Path) -> dict:
        write(folder)
        raise RuntimeError("out of memory")

    cache = Artifacts(tmp_path)
    with pytest.raises(RuntimeError):
        cache.get_or_make(KEY, broken)
    assert cache.entries() == []
    assert not any(path.is_dir() for path in cache.folder.iterdir())


def hang(root: str) -> None:
    def slow(folder: Path) -> dict:
        write(folder)
        (Path(root) / "started").touch()
        time.sleep(60)
        return {}

    Artifacts(root).get_or_make(KEY, slow)


def test_a_killed_maker_leaves_nothing_that_looks_finished(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hang, args=(str(tmp_path),))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    cache = Artifacts(tmp_path)
    assert cache.entries() == []
    assert cache.get_or_make(KEY, write).facts == {"layers": 2}
    assert [path.name for path in cache.folder.iterdir() if path.is_dir()] == [cache.entries()[0].path.name]


def count(root: str, number: int) -> None:
    def make(folder: Path) -> dict:
        (Path(root) / f"made-by-{number}").touch()
        time.sleep(0.3)
        return write(folder)

    Artifacts(root).get_or_make(KEY, make)


def test_two_processes_make_it_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count, args=(str(tmp_path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(tmp_path.glob("made-by-*"))) == 1


def test_clear_says_what_it_removed(tmp_path):
    cache = Artifacts(tmp_path)
    size = cache.get_or_make(KEY, write).n_bytes
    assert size > 10
    assert cache.clear() == (1, size)
    assert cache.entries() == []
