"""`tiltmeter report`: the page and the other outputs from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_run import write_run
from typer.testing import CliRunner

from tiltmeter.cli.commands import app
from tiltmeter.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, strategies=("int4",), benchmarks=("dt-stereotyping",))
    return folder


def report(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_goes_where_it_is_asked_and_its_path_is_printed(run, tmp_path):
    page = tmp_path / "deep" / "page.html"
    assert report(run, "--out", page).strip() == str(page)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_page_speaks_chinese(run, tmp_path):
    report(run, "--out", tmp_path / "zh.html", "--lang", "zh")
    assert '<html lang="zh-Hans">' in (tmp_path / "zh.html").read_text(encoding="utf-8")


def test_text_outputs_print_themselves_and_write_no_page(run):
    assert "### tiltmeter:" in report(run, "--markdown")
    card = report(run, "--model-card")
    assert card.startswith("---\n") and "\nmodel-index:" in card
    assert r"\begin{tabular}" in report(run, "--latex")
    assert not (run / "report.html").exists()


def test_figures_are_written_beside_the_page(run, tmp_path):
    report(run, "--figures", tmp_path / "figures", "--out", tmp_path / "page.html")
    specification = next((tmp_path / "figures").glob("forest-*.vl.json"))
    assert "vega-lite" in json.loads(specification.read_text(encoding="utf-8"))["$schema"]


def test_a_folder_that_is_no_run_is_a_mistake_that_says_what_to_type(tmp_path):
    with pytest.raises(UserError, match="tiltmeter run"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)
