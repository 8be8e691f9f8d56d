"""The GitHub Action: its file is one, and its steps do on this machine, on the built-in model, what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tiltmeter.demo.command import BASE, DATA

ROOT = Path(__file__).resolve().parents[2]
STEPS = ROOT / ".github" / "action" / "steps.sh"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORSE = BASE.parent / "worse"  # one group's log-odds lowered by 0.8


def check(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Held to a schema that check-jsonschema brings along; nothing is downloaded."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_action_fits_githubs_schema(tmp_path):
    found = check("vendor.github-actions", ROOT / "action.yml")
    assert found.returncode == 0, found.stdout
    broken = tmp_path / "action.yml"
    broken.write_text("name: x\nruns: {using: composite}\n")
    assert check("vendor.github-actions", broken).returncode == 1


def test_the_gitlab_job_fits_gitlabs_schema():
    path = ROOT / "examples" / "gitlab-ci.yml"
    found = check("vendor.gitlab-ci", path)
    assert found.returncode == 0, found.stdout
    assert "junit: runs/ci/gate.xml" in path.read_text(encoding="utf-8")


def test_every_input_reaches_the_steps_as_a_variable_and_no_input_is_text_of_a_script():
    """`${{ }}` inside `run:` would be run by the shell, whatever a fork's pull request writes there."""
    steps = ACTION["runs"]["steps"]
    assert not any("${{" in step.get("run", "") for step in steps)
    given = {name for step in steps for name in step.get("env", {})}
    used = set(re.findall(r"INPUT_[A-Z_]+", STEPS.read_text(encoding="utf-8")))
    assert given == used
    inputs = {"INPUT_" + name.upper().replace("-", "_") for name in ACTION["inputs"]}
    assert given == inputs - {"INPUT_ARTIFACT"}  # the second step's


def run_steps(folder: Path, program: str = "", **inputs: str) -> subprocess.CompletedProcess[str]:
    """The script as the action starts it, in a folder of its own, with this checkout's tiltmeter, or a stand-in."""
    command = folder / "bin" / "tiltmeter"
    command.parent.mkdir(exist_ok=True)
    command.write_text(program or f'#!/bin/sh\nexec "{sys.executable}" -m tiltmeter "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}",
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "INPUT_MODEL": str(BASE),
        "INPUT_DATA": str(DATA),
        "INPUT_OUT": "run",
        **{f"INPUT_{name.upper()}": value for name, value in inputs.items()},
    }
    return subprocess.run(["bash", str(STEPS)], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_harmful_variant_fails_the_job_with_an_annotation_a_summary_and_a_report(tmp_path):
    found = run_steps(tmp_path, variants=f"\n  {WORSE}\n", benchmarks="discrim-eval\n")
    assert found.returncode == 1, found.stderr
    assert re.search(r"^::error title=.*discrim-eval", found.stdout, re.M)
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("### tiltmeter: Yes.")
    assert (tmp_path / "output").read_text().split() == ["gate=1", "report=run/report.html"]
    assert (tmp_path / "run" / "report.html").is_file()
    suite = ElementTree.parse(tmp_path / "run" / "gate.xml").getroot()
    assert int(suite.get("failures", 0)) > 0
    badges = list((tmp_path / "run" / "export").glob("*/badge.svg"))
    assert len(badges) == 1 and "worse" in badges[0].read_text(encoding="utf-8")


STAND_IN = """#!/bin/sh
for word in "$@"; do printf '[%s]' "$word" >> calls; done; echo >> calls
[ "$1" != gate ] || exit "$GATE"
[ "$1" != run ] || exit "${RUN:-0}"
"""


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("gate", "fail_on", "status"),
    [
        (0, "unjudged", 0), (1, "unjudged", 1), (3, "unjudged", 3), (2, "never", 2),
        (1, "broken", 1), (3, "broken", 0), (1, "never", 0), (3, "never", 0),
    ],
)  # fmt: skip
def test_what_fails_the_job_is_chosen_and_a_mistake_always_does(tmp_path, monkeypatch, gate, fail_on, status):
    monkeypatch.setenv("GATE", str(gate))
    assert run_steps(tmp_path, STAND_IN, strategies="int8", fail_on=fail_on).returncode == status
    assert calls(tmp_path)[-1] == "[gate][run][--junit][run/gate.xml][--github]"
    assert f"gate={gate}" in (tmp_path / "output").read_text()


@pytest.mark.parametrize(("run", "gated"), [(3, True), (2, False), (130, False)])
def test_a_run_with_failed_cells_is_judged_and_one_that_could_not_be_made_ends_the_job(
    tmp_path, monkeypatch, run, gated
):
    monkeypatch.setenv("RUN", str(run))
    monkeypatch.setenv("GATE", "3")
    assert run_steps(tmp_path, STAND_IN, strategies="int8").returncode == (3 if gated else run)
    assert (calls(tmp_path)[-1].startswith("[gate]")) is gated


def test_every_line_of_an_input_is_one_word_and_nothing_in_it_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("GATE", "0")
    hostile = "$(touch hacked); `touch hacked`"
    inputs = {"strategies": f"int4\n\n {hostile} \n", "benchmarks": "crows-pairs\nbbq", "arguments": "--format\nchat"}
    run_steps(tmp_path, STAND_IN, **inputs, limit="20", policy="my policy.yaml", data="")
    assert calls(tmp_path)[:2] == [
        "[data][fetch][crows-pairs][bbq]",
        f"[run][{BASE}][--strategy][int4][--strategy][{hostile}][--benchmark][crows-pairs][--benchmark][bbq]"
        "[--format][chat][--limit][20][--out][run]",
    ]
    assert calls(tmp_path)[-1] == "[gate][run][--policy][my policy.yaml][--junit][run/gate.xml][--github]"
    assert not (tmp_path / "hacked").exists()


def test_a_dry_run_plans_and_does_nothing_else(tmp_path):
    assert run_steps(tmp_path, STAND_IN, strategies="int8", dry_run="true", data="").returncode == 0
    assert calls(tmp_path) == [f"[run][{BASE}][--strategy][int8][--out][run][--dry-run]"]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"fail_on": "sometimes"}, "fail-on is broken, unjudged or never"),
        ({"dry_run": "yes"}, "dry-run is true or false"),
        ({"strategies": "int8", "variants": str(WORSE)}, "not both"),
    ],
)
def test_a_mistake_ends_with_2_before_anything_is_done(tmp_path, inputs, says):
    found = run_steps(tmp_path, STAND_IN, **inputs)
    assert found.returncode == 2 and says in found.stderr and not (tmp_path / "calls").exists()
