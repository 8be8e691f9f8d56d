"""The README is true: its demo table is what the built-in model gives, its commands and links exist."""

from __future__ import annotations

import re
import shlex
from glob import glob
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tiltmeter.cli.commands import app
from tiltmeter.demo import command
from tiltmeter.pipeline import run
from tiltmeter.registry import build
from tiltmeter.results.document import read_results
from tiltmeter.study import make_study

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WHOLE = ("crows-pairs", "worldbench", "bbq", "winobias")  # asked whole, and quick


def table() -> dict[str, list[float]]:
    """Row name -> the numbers of the demo's table, in the order of BENCHMARKS; it may stand in several blocks."""
    block = README.split("```text\n", 1)[1].split("```", 1)[0]
    rows: dict[str, list[float]] = {}
    for line in block.splitlines():
        if numbers := re.findall(r"[+−±]?\d+\.\d+", line):
            row = rows.setdefault(line.split()[0], [])
            row.extend(float(number.replace("−", "-").replace("±", "")) for number in numbers)
    return rows


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[tuple[str, str], float]:
    folder = tmp_path_factory.mktemp("demo") / "run"
    run(
        make_study(
            models=(str(command.BASE),), benchmarks=WHOLE, data=str(command.DATA), draws=100, text_quality=False
        ),
        folder,
    )
    return {(row["strategy"], row["benchmark"]): row["score"] for row in read_results(folder)["rows"]}


def test_the_demo_table_shows_what_was_planted_and_what_the_base_scores(measured):
    rows, planted = table(), command.planted_scores()
    for name, of_plan, of_base in zip(command.BENCHMARKS, rows["planted"], rows["base"], strict=True):
        in_hundreds = build("benchmark", name).unit in ("percent", "points")
        printed = 0.005 if in_hundreds else 0.0005  # half a unit of the last digit
        assert of_plan == pytest.approx(planted[name], abs=printed * 1.01)
        if name in WHOLE:
            assert of_base == pytest.approx(measured["none", name], abs=printed * 1.01)


def test_the_demo_table_has_the_strategies_the_demo_runs_and_every_benchmark_of_each():
    assert {len(numbers) for numbers in table().values()} == {len(command.BENCHMARKS)}
    assert [name for name in table() if name not in ("ideal", "planted", "base")] == list(command.WANTED)


def test_every_command_the_readme_and_the_pages_name_exists():
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        code = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) + re.findall(r"`([^`\n]+)`", text)
        named = {name for part in code for name in re.findall(r"^tiltmeter ([a-z]+)", part, re.M)}
        assert named <= known, page


def test_the_way_from_plan_to_proof_is_as_the_readme_says(tmp_path, monkeypatch):
    """In a clone's folder, as typed; the last command ends with 3 because nobody signed."""
    block = README.split("## From plan to proof", 1)[1].split("```\n", 2)[1]
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    said = []
    for line in block.splitlines():
        words = [found for word in shlex.split(line)[1:] for found in sorted(glob(word)) or [word]]
        said.append(CliRunner().invoke(app, words))
    assert [each.exit_code for each in said] == [0] * (len(said) - 1) + [3], said[-1].output
    assert "give it to the byte" in said[-1].output and "nobody vouches" in said[-1].output


def test_every_local_link_of_the_readme_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links and all((ROOT / link).exists() for link in links)
