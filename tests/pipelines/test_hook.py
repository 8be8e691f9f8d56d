"""The pre-commit hook: its manifest is one, and what it runs tells a policy from a mistake."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pre_commit.clientlib import load_manifest
from typer.testing import CliRunner

from tiltmeter.cli.commands import app

ROOT = Path(__file__).resolve().parents[2]


def test_the_manifest_fits_and_its_entry_checks_policies(tmp_path):
    (hook,) = load_manifest(ROOT / ".pre-commit-hooks.yaml")
    program, *arguments = shlex.split(hook["entry"])
    assert program == "tiltmeter"
    wrong = tmp_path / "tiltmeter-policy.yaml"
    wrong.write_text("default: {require: never}\n")
    assert CliRunner().invoke(app, [*arguments, str(ROOT / "examples" / "policy.yaml")]).exit_code == 0
    assert CliRunner().invoke(app, [*arguments, str(wrong)]).exit_code == 2


def test_the_hook_looks_at_policy_files_alone():
    (hook,) = load_manifest(ROOT / ".pre-commit-hooks.yaml")
    looked_at = ["tiltmeter-policy.yaml", "ci/tiltmeter_policy.strict.yml", "tiltmeter.policy.yaml"]
    assert [bool(re.search(hook["files"], name)) for name in looked_at] == [True, True, False]
    assert not re.search(hook["files"], "policy.yaml")
