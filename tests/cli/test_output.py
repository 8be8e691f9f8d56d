"""Whatever a model, a group, an answer or a data cell is called: every command prints it as text, into every stream."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from report_run import POISON, write_run

from tiltmeter.cli.commands import main
from tiltmeter.cli.output import Guarded
from tiltmeter.cli.tables import write_items

HOSTILE = (
    POISON + "\n::error::injected\n ::stop-commands::x\n##[error]injected\r::warning::injected ![x](http://evil/p)"
)
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
COMMANDS = {
    "results": ["results", "RUN"],
    "results --json": ["results", "RUN", "--json"],
    "results --csv": ["results", "RUN", "--csv"],
    "results --markdown": ["results", "RUN", "--markdown"],
    "results --latex": ["results", "RUN", "--latex"],
    "report --markdown": ["report", "RUN", "--markdown"],
    "report --model-card": ["report", "RUN", "--model-card"],
    "report --latex": ["report", "RUN", "--latex"],
    "gate": ["gate", "RUN"],
    "gate --json": ["gate", "RUN", "--json"],
    "gate --github": ["gate", "RUN", "--github"],
    "choose": ["choose", "RUN"],
    "choose --json": ["choose", "RUN", "--json"],
}


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory) -> Path:
    """Results and answers in which everything that has a name is called HOSTILE."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, poison=HOSTILE, strategies=("int4", "rerun"), benchmarks=("crows-pairs", "worldbench"))
    return folder


def printed(capsys, run: Path, arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(run) if each == "RUN" else each for each in arguments])
    assert stop.value.code in (0, 1, 3), capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_no_output_steers_a_terminal_or_commands_a_runner(name, hostile_run, capsys):
    shown = printed(capsys, hostile_run, COMMANDS[name])
    assert "injected" in shown or name.startswith(("choose", "report"))
    assert not STEERING.findall(shown)
    assert "##[" not in shown
    commands = [line for line in shown.splitlines() if line.strip().startswith("::")]
    if name == "gate --github":
        assert commands and all(re.match(r"::(error|warning) title=[^:,]*::", line) for line in commands)
        assert all(line.count("::") >= 2 for line in commands)
    else:
        assert commands == []


def test_machine_formats_read_back(hostile_run, capsys):
    json.loads(printed(capsys, hostile_run, COMMANDS["results --json"]))
    json.loads(printed(capsys, hostile_run, COMMANDS["gate --json"]))
    rows = list(csv.reader(io.StringIO(printed(capsys, hostile_run, COMMANDS["results --csv"]))))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if re.match(r"\s*[=+@-](?!\d)", cell)]
    card = printed(capsys, hostile_run, COMMANDS["report --model-card"])
    assert yaml.safe_load(card.split("---")[1])["model-index"]


@pytest.mark.parametrize("as_json", [True, False])
def test_items_are_text_in_json_lines_and_in_csv(as_json):
    item = {
        "model": HOSTILE,
        "prompt": "=1+1",
        "answer": "::error::x\r\n::y",
        "groups": {HOSTILE: "\ud800"},
        "score": -1.5,
    }
    out = io.StringIO()
    write_items([item, item], out, as_json=as_json)
    shown = out.getvalue()
    assert not STEERING.findall(shown) and "##[" not in shown
    assert not [line for line in shown.splitlines() if line.strip().startswith("::")]
    if as_json:
        assert [json.loads(line)["prompt"] for line in shown.splitlines()] == ["=1+1"] * 2
    else:
        header, first, _ = csv.reader(io.StringIO(shown))
        assert dict(zip(header, first))["prompt"] == "'=1+1" and dict(zip(header, first))["score"] == "-1.5"


@pytest.mark.parametrize("name", ["results --markdown", "report --markdown", "report --model-card"])
def test_markdown_shows_no_picture_no_link_and_mentions_nobody(name, hostile_run, capsys):
    shown = printed(capsys, hostile_run, COMMANDS[name])
    body = shown.split("---\n", 2)[-1] if name == "report --model-card" else shown
    assert "![" not in body and not re.search(r"[^\\]\]\((?!https://arxiv.org)", body)
    assert not re.search(r"@\w", body) and not re.search(r"<(?!br)\w", body)
    assert not re.search(r"(?i)\b(https?|javascript):(?!//arxiv\.org)\S", body)


def test_junit_and_the_page_and_the_figures_are_well_formed(hostile_run, tmp_path, capsys):
    printed(capsys, hostile_run, ["gate", "RUN", "--junit", str(tmp_path / "junit.xml")])
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert suite.findall("testcase")
    assert not STEERING.findall((tmp_path / "junit.xml").read_text(encoding="utf-8"))
    printed(capsys, hostile_run, ["report", "RUN", "--out", str(tmp_path / "r.html")])
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not STEERING.findall(page) and "<script>window" not in page


def test_figures_of_a_hostile_run_are_drawn(hostile_run, tmp_path):
    """In a process of its own: the renderer used to end it (SIGABRT) at a control character."""
    done = tiltmeter(["report", str(hostile_run), "--figures", str(tmp_path / "f"), "--out", str(tmp_path / "r.html")])
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "f").glob("*.svg"):
        ElementTree.parse(path)
    assert list((tmp_path / "f").glob("*.png"))


def test_a_users_mistake_is_one_line_and_a_fix_whatever_the_text_holds(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["results", "no\n::error::injected\x1b[2J"])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].startswith("  Fix:") and "\x1b" not in lines[0] + lines[1]


def tiltmeter(arguments: list[str], **settings) -> subprocess.CompletedProcess:
    """The command in a process of its own; `encoding` is its streams'."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONIOENCODING"] = settings.pop("encoding", "utf-8")
    settings = {"capture_output": True, **settings}
    return subprocess.run([sys.executable, "-m", "tiltmeter", *arguments], env=environment, timeout=300, **settings)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_lacks_characters_gets_the_nearest(hostile_run, encoding):
    done = tiltmeter(["results", str(hostile_run)], encoding=encoding)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    shown = done.stdout.decode(encoding)
    assert "crows-pairs" in shown and re.search(r"-\d+\.\d", shown)  # a minus, not a question mark
    done = tiltmeter(["results", str(hostile_run), "--json"], encoding=encoding)
    assert done.returncode == 0 and json.loads(done.stdout.decode(encoding))


@pytest.mark.parametrize(
    "arguments",
    [
        ["results", "RUN"],
        ["results", "RUN", "--json"],
        ["gate", "RUN"],
        ["choose", "RUN"],
        ["policy", "--schema"],
        ["list"],
    ],
)
def test_closed_and_full_outputs_end_without_a_traceback_and_never_with_1_for_a_crash(hostile_run, arguments):
    arguments = [str(hostile_run) if each == "RUN" else each for each in arguments]
    expected = tiltmeter(arguments).returncode
    with open("/dev/full", "w") as full:
        done = tiltmeter(arguments, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2 and b"No space left" in done.stderr and b"Traceback" not in done.stderr
    read, write = os.pipe()
    os.close(read)
    done = tiltmeter(arguments, stdout=write, stderr=subprocess.PIPE, capture_output=False)
    os.close(write)
    assert done.returncode == expected and b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
    command = " ".join([f"'{sys.executable}' -m tiltmeter", *(f"'{each}'" for each in arguments), ">&-"])
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == expected and b"Traceback" not in done.stderr


def test_a_folded_line_cannot_command_the_runner_either():
    stream = io.StringIO()
    guarded = Guarded(stream)
    for part in ("a ", "::error::x\n", "::err", "or::y\n", "  ", "::z\n"):
        guarded.write(part)
    assert stream.getvalue() == "a ::error::x\n: :error::y\n  : :z\n"
    with guarded.commands():
        guarded.write("::error::meant\n")
    assert stream.getvalue().endswith("\n::error::meant\n")
