"""Nothing half-written is ever seen under its name, nothing is written through a link, and leftovers are cleared."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from killing import at_file, killed
from report_run import write_run

from tiltmeter.cli.commands import main
from tiltmeter.cli.decisions import run_gate
from tiltmeter.errors import UserError
from tiltmeter.files.whole import write_whole, written_whole
from tiltmeter.results.document import read_document
from tiltmeter.runs.store import Store, stored_failures, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a", "old")
    with pytest.raises(OSError, match="full"), written_whole(tmp_path / "a") as out:
        out.write(b"half")
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a", "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_device_or_a_pipe_is_written_to_and_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        write_whole(tmp_path / name, "text")
        assert os.read(reader, 100) == b"text"
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


@pytest.mark.parametrize("name", ["run.json", "results.json", "failures.json"])
def test_a_pipe_in_a_run_folder_from_elsewhere_is_not_waited_for(tmp_path, name):
    write_run(tmp_path / "run", strategies=("int4",), benchmarks=("crows-pairs",))
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(UserError, match="it is no file"):
        stored_failures(tmp_path / "run") if name == "failures.json" else read_document(tmp_path / "run")


def test_links_are_replaced_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "a").symlink_to(precious)
    (tmp_path / f".a.{os.getpid()}.part").symlink_to(precious)
    write_whole(tmp_path / "a", "new")
    assert precious.read_text() == "kept" and (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("name", ["run.json", ".lock", "cells", "inputs/x.jsonl", "cells/c/answers.jsonl"])
def test_a_run_folder_with_a_link_in_it_is_not_written(tmp_path, name):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    with pytest.raises(UserError, match="symbolic link") as caught, Store(tmp_path / "run"):
        pass
    assert str(link) in caught.value.message and precious.read_text() == "kept"


def test_what_killed_writers_left_is_removed_by_the_next_one(tmp_path):
    for name in (".run.json.17.part", "cells/c/.done.json.17.part", "inputs/.17.part"):
        write_whole(tmp_path / name, "half")
    write_whole(tmp_path / "run.part", "a user's own")
    with Store(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*part*")) == ["run.part"]


def test_a_full_disk_is_a_message_and_exit_status_2(tmp_path, monkeypatch, capsys, shared):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tiltmeter.pipeline.run", full)
    with pytest.raises(SystemExit) as stop:
        main(["run", "m", "-b", "crows-pairs", "--out", str(tmp_path / "r")])
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and "No space left" in shown and "the same command goes on" in shown


def test_an_interrupt_says_what_is_kept(tmp_path, monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tiltmeter.pipeline.run", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["run", "m", "-b", "crows-pairs", "--out", str(tmp_path / "r")])
    assert stop.value.code == 130 and "kept in" in capsys.readouterr().err


HOW = ["half", "before", "after"]


@pytest.mark.parametrize("how", HOW)
def test_a_gate_killed_while_it_writes_leaves_a_whole_file(tmp_path, how):
    run, junit = tmp_path / "run", tmp_path / "run" / "junit.xml"
    write_run(run, strategies=("int4",), benchmarks=("crows-pairs", "worldbench"))
    run_gate(run, junit=junit)
    new = junit.read_bytes()
    junit.write_bytes(b"<old/>")
    assert killed(lambda: run_gate(run, junit=junit), at_file(1, how, junit.name))
    assert junit.read_bytes() == (new if how == "after" else b"<old/>")
    with Store(run):  # the next writer of the folder clears what a kill left
        assert not list(run.glob(".*.part"))
    run_gate(run, junit=junit)
    assert junit.read_bytes() == new


# In a process of its own: its pictures come from a library that does not survive a fork once it is at work.
REPORTS = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from killing import at_file, killed
from tiltmeter.report import build_report
run = Path(sys.argv[1])
page, write = run / "report.html", lambda: build_report(run)
assert not killed(write, nullcontext())
new, found = page.read_bytes(), {}
for how in sys.argv[2:]:
    page.write_bytes(b"old")
    assert killed(write, at_file(1, how, page.name))
    found[how] = {b"old": "old", new: "new"}.get(page.read_bytes(), "neither")
assert not killed(write, nullcontext()) and page.read_bytes() == new
print(json.dumps(found))
"""


def test_a_report_killed_while_it_writes_leaves_a_whole_page_and_is_written_again(tmp_path):
    write_run(tmp_path / "run", strategies=("int4",), benchmarks=("crows-pairs", "worldbench"))
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", REPORTS, str(tmp_path / "run"), *HOW],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"half": "old", "before": "old", "after": "new"}


@pytest.mark.parametrize("out", ["", "  "])
def test_an_empty_out_is_a_mistake_and_writes_nothing_here(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["run", "m", "-b", "crows-pairs", "--out", out])
    assert stop.value.code == 2 and list(tmp_path.iterdir()) == []


def test_a_document_is_written_by_rename(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    inode = (tmp_path / "a.json").stat().st_ino
    write_json(tmp_path / "a.json", {"a": 2})
    assert (tmp_path / "a.json").stat().st_ino != inode
