"""A strategy and a benchmark of another package, found through entry points: nothing in tiltmeter is edited.

The package is the one docs/extend.md shows (examples/plugin). It is put on the path of a fresh process with the
metadata an installer would write from its pyproject.toml.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a process in which the example package is installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "tiltmeter_example").symlink_to(PLUGIN / "src" / "tiltmeter_example")
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
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def tiltmeter(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", "from tiltmeter.cli import main; main()", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list_shows_the_strategy_and_the_benchmark_of_the_other_package(installed):
    assert "weight-noise" in tiltmeter(installed, "list", "strategies")
    assert "job-pronouns" in tiltmeter(installed, "list", "benchmarks")


def test_a_run_uses_both_and_the_report_shows_them(installed, tmp_path):
    model = ROOT / "src" / "tiltmeter" / "demo" / "models" / "base"
    run = tmp_path / "run"
    tiltmeter(
        installed,
        "run",
        str(model),
        "-s",
        "weight-noise:relative=0.3",
        "-b",
        "job-pronouns",
        "--data",
        str(PLUGIN / "data"),
        "--out",
        str(run),
    )
    rows = json.loads(tiltmeter(installed, "results", str(run), "--json"))["rows"]
    base, variant = rows
    assert variant["strategy"] == "weight-noise:relative=0.3" and variant["benchmark"] == "job-pronouns"
    assert base["n_scored"] == variant["change"]["n_paired"] == 24
    assert variant["change"]["verdict"] in ("equivalent", "inconclusive", "worse", "better", "no usable signal")
    page = Path(tiltmeter(installed, "report", str(run)).strip()).read_text(encoding="utf-8")
    assert "job-pronouns" in page and "weight-noise" in page and "Two dozen sentences" in page
