"""How a command ends: 1 says that a limit is broken, and nothing else ends with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from report_run import write_run
from safetensors.torch import load_file, save_file

from tiltmeter import report
from tiltmeter.cli import decisions
from tiltmeter.cli.commands import main
from tiltmeter.results import document
from tiltmeter.strategies.base import LoadFailed


def status(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    return int(stop.value.code or 0)


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), RecursionError(), MemoryError(), AssertionError("so")])
@pytest.mark.parametrize("command", ["gate", "results", "choose", "report"])
def test_what_nobody_foresaw_keeps_its_traceback_and_is_no_broken_limit(tmp_path, monkeypatch, capsys, command, error):
    write_run(tmp_path / "run", strategies=("int4",), benchmarks=("crows-pairs",))

    def broken(*_: object, **__: object) -> None:
        raise error

    for module in (document, report, decisions):
        monkeypatch.setattr(module, "read_document", broken)
    assert status(command, tmp_path / "run") == 70
    shown = capsys.readouterr().err
    assert "Traceback" in shown and type(error).__name__ in shown and "a fault of tiltmeter" in shown


@pytest.mark.parametrize("name", ["results.json", "run.json"])
@pytest.mark.parametrize("command", ["gate", "results", "choose", "report"])
def test_a_folder_where_a_file_should_be_is_a_message(tmp_path, capsys, command, name):
    write_run(tmp_path / "run", strategies=("int4",), benchmarks=("crows-pairs",))
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).mkdir()
    assert status(command, tmp_path / "run") == 2
    shown = capsys.readouterr().err
    assert name in shown and "Traceback" not in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_request_to_terminate_ends_a_run_as_an_interrupt_does(tmp_path, monkeypatch, capsys, number):
    def terminated(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr("tiltmeter.pipeline.run", terminated)
    usual = signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # these tests may themselves run under nohup
    try:
        assert status("run", "m", "-b", "crows-pairs", "--out", tmp_path / "r") == 130
        assert signal.getsignal(number) is usual  # nothing stays of it in the process
    finally:
        signal.signal(number, before)
    assert "kept in" in capsys.readouterr().err


def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path, monkeypatch):
    monkeypatch.setattr("tiltmeter.pipeline.run", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert status("run", "m", "-b", "crows-pairs", "--out", tmp_path / "r") == 2  # there is no run to show
    finally:
        signal.signal(signal.SIGHUP, before)


def nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-9])


def nothing(folder: Path) -> None:
    """The folder is sound, and its library fails."""


@pytest.mark.parametrize("broken", [nan, cut, nothing], ids=lambda broken: broken.__name__)
def test_a_base_that_cannot_be_loaded_is_a_mistake_of_the_command(
    stories, shared, tmp_path, monkeypatch, capsys, broken
):
    shutil.copytree(stories, tmp_path / "m", copy_function=shutil.copyfile)
    broken(tmp_path / "m")
    if broken is nothing:

        def fails(*_: object, **__: object) -> None:
            raise LoadFailed("none: RuntimeError: a library's own words")

        monkeypatch.setattr("tiltmeter.variants.apply.load_model", fails)
    command = ["run", tmp_path / "m", "-s", "rerun", "-b", "crows-pairs", "--limit", 4, "--data", shared / "data"]
    assert status(*command, "--out", tmp_path / "run") == 2
    shown = capsys.readouterr().err
    assert "Fix:" in shown and "Traceback" not in shown
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["answered_in"] == {}
