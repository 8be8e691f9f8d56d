"""A strategy and a benchmark of another package, found through entry points: one file each, no edit elsewhere.

The package is the one docs/extend.md shows (examples/plugin). It is put on the path of fresh processes with the
metadata an installer would write from its pyproject.toml; only the address of its data is that of a server here.
"""

from __future__ import annotations

import ast
import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiltmeter import plugins

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "plugin"
MODEL = ROOT / "src" / "tiltmeter" / "demo" / "models" / "base"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Address of a server of the example's data."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(PLUGIN / "data"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/job_pronouns/jobs.csv"
        server.shutdown()


@pytest.fixture(scope="module")
def installed(served, tmp_path_factory) -> dict[str, str]:
    """The environment of a process in which the example package is installed."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(PLUGIN / "src" / "tiltmeter_example", site / "tiltmeter_example")
    module = site / "tiltmeter_example" / "job_pronouns.py"
    text = module.read_text(encoding="utf-8")
    address = next(line for line in text.splitlines() if line.startswith("DATA = "))
    module.write_text(text.replace(address, f'DATA = "{served}"'), encoding="utf-8")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(about)
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    return {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT / 'src'}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def tiltmeter(environment: dict[str, str], *arguments: str, ends: int = 0) -> str:
    command = [sys.executable, "-c", "from tiltmeter.cli import main; main()", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stderr
    return done.stdout + done.stderr if ends else done.stdout


@pytest.fixture(scope="module")
def data(installed, tmp_path_factory) -> Path:
    """The example's data, fetched."""
    folder = tmp_path_factory.mktemp("data")
    tiltmeter(installed, "data", "fetch", "job-pronouns", "--data", str(folder))
    return folder


def test_list_shows_the_strategy_and_the_benchmark_of_the_other_package(installed):
    assert "weight-noise" in tiltmeter(installed, "list", "strategies")
    assert "job-pronouns" in tiltmeter(installed, "list", "benchmarks")


def test_its_data_are_listed_fetched_and_verified_like_any_other(installed, data, tmp_path):
    assert (data / "job_pronouns" / "jobs.csv").read_bytes() == (PLUGIN / "data/job_pronouns/jobs.csv").read_bytes()
    assert "job-pronouns" in tiltmeter(installed, "data", "list")
    lines = tiltmeter(installed, "data", "verify", "--data", str(data), ends=2).splitlines()  # the others are missing
    [line] = [line for line in lines if "job-pronouns" in line]
    assert " ok " in line and "the published file" in line
    about = ("-s", "weight-noise", "-b", "job-pronouns", "--data", str(tmp_path), "--out", str(tmp_path / "run"))
    missing = tiltmeter(installed, "run", str(MODEL), *about, ends=2)
    assert "tiltmeter data fetch job-pronouns" in missing


def test_a_run_is_judged_and_the_report_speaks_its_words_in_both_languages(installed, data, tmp_path):
    run = tmp_path / "run"
    noise = "weight-noise:relative=0.3"
    about = ("-s", noise, "-b", "job-pronouns", "--data", str(data), "--out", str(run))
    tiltmeter(installed, "run", str(MODEL), *about)
    base, variant = json.loads(tiltmeter(installed, "results", str(run), "--json"))["rows"]
    assert variant["strategy"] == noise and variant["benchmark"] == "job-pronouns"
    assert base["n_scored"] == variant["change"]["n_paired"] == 24
    assert variant["change"]["verdict"] in ("equivalent", "inconclusive", "worse", "better", "no usable signal")
    page = Path(tiltmeter(installed, "report", str(run)).strip()).read_text(encoding="utf-8")
    english = ("Two dozen sentences", "noise of 0.3 sd on", "By field of work.", "office work")
    assert all(words in page for words in english)
    tiltmeter(installed, "report", str(run), "--lang", "zh", "--out", str(tmp_path / "zh.html"))
    page = (tmp_path / "zh.html").read_text(encoding="utf-8")
    chinese = ("二十余个句子", "个线性层加入 0.3 倍标准差的噪声", "向右：该领域", "按工作领域分组。", "办公室工作")
    assert all(words in page for words in chinese) and not any(words in page for words in english)


def test_a_plan_tells_what_it_would_ask_and_that_so_few_items_give_no_verdict(installed, data, tmp_path):
    about = ("-s", "weight-noise", "-b", "job-pronouns", "--data", str(data), "--out", str(tmp_path / "run"))
    row, few = (
        line for line in tiltmeter(installed, "run", str(MODEL), *about, "--dry-run").splitlines() if "job" in line
    )
    assert row.split()[:4] == ["job-pronouns", "plain", "24", "48"]  # two sentences an item
    assert "24 items; below 30 no verdict is given" in few


def test_the_demo_asks_what_its_world_has_data_of_whatever_else_is_installed(installed):
    code = (
        "from tiltmeter.demo.command import study_of; from tiltmeter.registry import known\n"
        "print('job-pronouns' in known('benchmark'), *study_of([], False, 0).benchmark_names())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "True",
        "crows-pairs",
        "discrim-eval",
        "discrim-eval-gen",
        "dt-stereotyping",
        "global-opinion-qa",
        "worldbench",
        "bbq",
        "winobias",
    ]


def test_a_checkpoint_with_another_tokenizer_is_incomparable_on_it(installed, data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(MODEL, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    one, two = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    run = tmp_path / "run"
    about = ("-b", "job-pronouns", "--data", str(data), "--out", str(run))
    tiltmeter(installed, "compare", str(MODEL), str(other), *about)
    _, row = json.loads(tiltmeter(installed, "results", str(run), "--json"))["rows"]
    assert row["change"]["verdict"] == "no usable signal" and "another tokenizer" in row["change"]["reason"]


def test_the_example_imports_nothing_of_tiltmeter_but_the_door():
    for file in (PLUGIN / "src").rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
        assert {name for name in froms if name.startswith("tiltmeter.")} <= {"tiltmeter.plugins"}


def test_the_names_of_the_door_are_those_that_were_promised():
    """Taking one away breaks packages of others: a new major version. Adding one: add it to the list."""
    promised = (Path(__file__).parent / "plugin_names.txt").read_text(encoding="utf-8").split()
    assert sorted(plugins.__all__) == sorted(promised)
    assert all(hasattr(plugins, name) for name in promised)
    assert all(name in (plugins.__doc__ or "") for name in promised)
