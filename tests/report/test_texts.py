"""Markdown, model card and LaTeX say what the page says, and hostile names stay text."""

from __future__ import annotations

import re

import report_synthetic
import yaml
from report_run import POISON

from tiltmeter.report.texts import latex_table, markdown_summary, model_card
from tiltmeter.report.view import View
from tiltmeter.report.words import Words

SMALL = {"strategies": ("int4", "wanda"), "benchmarks": ("crows-pairs", "dt-stereotyping")}


def view(lang: str = "en", **document) -> View:
    return View(report_synthetic.document(**{**SMALL, **document}), Words(lang))


def judged(document: View, *verdicts: str) -> View:
    for row, verdict in zip(document.compared, verdicts):
        row["change"].update(verdict=verdict, delta=2.5, ci=[1.0, 4.0])
    return document


def test_a_pull_request_sees_headline_reasons_and_table():
    text = markdown_summary(judged(view(), "worse", "equivalent", "better", "inconclusive"))
    assert text.startswith("### tiltmeter: Yes. In 1 of 4 comparisons")
    assert "▲ **worse** int4 · crows-pairs: +2.5 points [+1.0, +4.0]" in text
    assert "| int4 | ▲ +2.5 worse | ＝ +2.5 equivalent |" in text


def test_the_summary_speaks_chinese():
    assert "变差" in markdown_summary(judged(view("zh"), "worse"))


def test_markdown_tables_keep_their_columns_under_hostile_names():
    text = markdown_summary(view(poison=POISON))
    assert "<script>" not in text and "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in rows)


def test_the_model_card_opens_with_yaml_that_holds_scores_and_verdicts():
    text = model_card(judged(view(poison=POISON), "worse"))
    _, front, body = text.split("---\n", 2)
    results = yaml.safe_load(front)["model-index"]
    verdicts = [
        metric["verdict"] for one in results for r in one["results"] for metric in r["metrics"] if "verdict" in metric
    ]
    assert verdicts and verdicts[0] == "worse"
    assert "| model | strategy |" in body and "<script>" not in body


def test_latex_has_the_base_first_and_then_changes_per_strategy():
    text = latex_table(judged(view(), "worse", "equivalent", "not exercised", "no usable signal"))
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert lines[1] == r"strategy & crows-pairs & dt-stereotyping \\"
    assert lines[2] == r"base & 62.0 & 12.0 \\"
    assert lines[3] == r"int4 & \textbf{+2.5} & +2.5 $\approx$ \\"
    assert lines[4] == r"wanda & n.e. & n.s. \\"


def test_latex_never_runs_what_a_name_says():
    text = latex_table(view(models=("m",), poison=r" \input{x} $a_b$ 5%"))
    assert r"\input" not in text and r"\textbackslash{}input" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
