"""Markdown, model card and LaTeX say what the page says, and hostile names stay text."""

from __future__ import annotations

import re

import report_synthetic
from made_documents import judged
from report_run import POISON

from tiltmeter.report.texts import latex_table, markdown_summary
from tiltmeter.report.view import View
from tiltmeter.report.words import Words

SMALL = {"strategies": ("int4", "wanda"), "benchmarks": ("crows-pairs", "dt-stereotyping")}


def view(lang: str = "en", verdicts: tuple[str, ...] = (), **document) -> View:
    made = report_synthetic.document(**{**SMALL, **document})
    return View(judged(made, *verdicts, delta=2.5, ci=[1.0, 4.0]), Words(lang))


def test_a_pull_request_sees_headline_reasons_and_table():
    text = markdown_summary(view(verdicts=("worse", "equivalent", "better", "inconclusive")))
    assert text.startswith("### tiltmeter: Yes. In 1 of 4 comparisons")
    assert "▲ **worse** int4 · crows-pairs: +2.50 points [+1.00, +4.00]" in text
    assert "| int4 | ▲ +2.50 worse | = +2.50 equivalent |" in text


def test_the_summary_speaks_chinese():
    assert "变差" in markdown_summary(view("zh", ("worse",)))


def test_markdown_tables_keep_their_columns_under_hostile_names():
    text = markdown_summary(view(poison=POISON))
    assert "<script>" not in text and "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows and all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in rows)


def test_latex_has_the_base_first_and_then_changes_per_strategy():
    text = latex_table(view(verdicts=("worse", "equivalent", "not exercised", "no usable signal")))
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert lines[1] == r"strategy & crows-pairs & dt-stereotyping \\"
    assert lines[2] == r"base & 62.00 & 12.00 \\"
    assert lines[3] == r"int4 & \textbf{+2.50} & +2.50 $\approx$ \\"
    assert lines[4] == r"wanda & n.e. & n.s. \\"


def test_latex_never_runs_what_a_name_says():
    text = latex_table(view(models=("m",), poison=r" \input{x} $a_b$ 5%"))
    assert r"\input" not in text and r"\textbackslash{}input" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_a_shift_is_said_in_every_text_and_is_a_reason_to_avoid():
    shifted = view(verdicts=("shifted", "equivalent", "equivalent", "equivalent"))
    text = markdown_summary(shifted)
    assert text.startswith("### tiltmeter: Yes. In 1 of 4 comparisons acceleration changed whom the model favours")
    assert "⇄ **shifted** int4 · crows-pairs" in text and "⇄ +2.50 shifted" in text
    assert r"\underline{+2.50}" in latex_table(shifted)
    assert "偏移" in markdown_summary(view("zh", ("shifted", "equivalent", "equivalent", "equivalent")))
