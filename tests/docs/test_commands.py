"""Commands that the pages show: every option exists, and every policy on the page about gates is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

from tiltmeter.cli.commands import app
from tiltmeter.decisions import policy_schema
from tiltmeter.decisions.policy import read_policy
from tiltmeter.registry import known

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "README.zh.md"]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def blocks(path: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def options(command) -> set[str]:
    """All names of a command's options; of its own commands' where it has some."""
    found = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found.union(*(options(inner) for inner in getattr(command, "commands", {}).values()), {"--help"})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_option_on_a_page_exists(path):
    for _, block in blocks(path):
        for line in re.findall(r"^(?:\$ )?tiltmeter (.+)$", block, re.M):
            name, *words = shlex.split(line.partition("  #")[0].replace("…", ""))
            given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert given <= options(COMMANDS[name]), line


def test_every_policy_on_the_page_about_gates_is_one():
    policies = [yaml.safe_load(block) for kind, block in blocks(ROOT / "docs" / "gates.md") if kind == "yaml"]
    assert len(policies) >= 4
    for policy in policies:
        read_policy(policy, benchmarks=list(known("benchmark")))
        jsonschema.validate(policy, policy_schema.schema())
