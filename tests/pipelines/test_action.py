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


def run_steps(folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The script as the action starts it, in a folder of its own, with this checkout's tiltmeter."""
    command = folder / "bin" / "tiltmeter"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tiltmeter "$@"\n')
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


@pytest.fixture(scope="module")
def harmed(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("action")
    return folder, run_steps(folder, variants=f"\n  {WORSE}\n", benchmarks="discrim-eval\n")


def test_a_harmful_variant_fails_the_job_with_an_annotation_a_summary_and_a_report(harmed):
    folder, found = harmed
    assert found.returncode == 1, found.stderr
    assert re.search(r"^::error title=.*discrim-eval", found.stdout, re.M)
    assert (folder / "summary.md").read_text(encoding="utf-8").startswith("### tiltmeter: Yes.")
    assert (folder / "output").read_text().split() == ["gate=1", "report=run/report.html"]
    assert (folder / "run" / "report.html").is_file()
    suite = ElementTree.parse(folder / "run" / "gate.xml").getroot()
    assert int(suite.get("failures", 0)) > 0
    badges = list((folder / "run" / "export").glob("*/badge.svg"))
    assert len(badges) == 1 and "worse" in badges[0].read_text(encoding="utf-8")


def test_the_same_command_goes_on_there_and_may_be_told_never_to_fail(harmed):
    folder, _ = harmed
    found = run_steps(folder, variants=str(WORSE), benchmarks="discrim-eval", fail_on="never")
    assert found.returncode == 0, found.stderr
    assert (folder / "output").read_text().split()[-2] == "gate=1"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"fail_on": "sometimes"}, "fail-on is broken, unjudged or never"),
        ({"dry_run": "yes"}, "dry-run is true or false"),
        ({"strategies": "int8", "variants": str(WORSE)}, "not both"),
        ({"strategies": "$(touch hacked); `touch hacked`"}, "no strategy called"),
    ],
)
def test_a_mistake_ends_with_2_and_nothing_in_an_input_is_run(tmp_path, inputs, says):
    found = run_steps(tmp_path, **inputs)
    assert found.returncode == 2 and says in found.stderr
    assert not (tmp_path / "hacked").exists() and not (tmp_path / "run" / "run.json").exists()
