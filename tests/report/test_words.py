"""Both languages say everything, and numbers are printed honestly."""

from __future__ import annotations

import ast
import re
from importlib.resources import files
from pathlib import Path
from string import Formatter

import pytest

import tiltmeter
from tiltmeter import printed
from tiltmeter.errors import UserError
from tiltmeter.messages.sentences import catalogue
from tiltmeter.report import words


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_every_sentence_exists_in_both_languages_with_the_same_placeholders():
    for key, texts in catalogue().items():
        assert set(texts) == {"en", "zh"}, key
        assert all(text.strip() for text in texts.values()) or key == "join.sentences", key  # "" and " " between
        assert placeholders(texts["en"]) == placeholders(texts["zh"]), key


def test_chinese_sentences_are_chinese():
    same = [key for key, texts in catalogue().items() if not re.search(r"[\u4e00-\u9fff]", texts["zh"])]
    signs = {
        "arm.as_bias",
        "choice.figure.size",
        "choice.of",
        "data.of_file",
        "facts.p",
        "fidelity.p99",
        "finding.most",
        "flips.cell",
        "forecast.warning",
        "note.of_strategies",
        "page.title",
        "proof.dtype",
        "proof.step",
        "reason.spread_open",
        "table.arm",
        "table.missing_cell",
        "table.reason",
        "trend.unusable",
        "unit.percent",
        "who.group",
    }
    assert {key for key in same if not key.startswith("join.")} == signs


def test_every_key_the_templates_and_the_code_name_is_in_the_catalogue():
    folder = files("tiltmeter.report")
    texts = [
        path.read_text(encoding="utf-8")
        for part in (folder, folder.joinpath("templates"))
        for path in part.iterdir()
        if path.name.endswith((".py", ".j2"))
    ]
    named = {key for text in texts for key in re.findall(r"""\b(?:w|words)\(\s*["']([a-z_]+\.[a-z_-]+)["']""", text)}
    assert len(named) > 80
    assert named <= set(catalogue())


def test_every_sentence_said_by_a_literal_key_gets_all_its_values():
    said = [
        (call.args[0].value, {word.arg for word in call.keywords})
        for path in Path(tiltmeter.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "say"
        if call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value in catalogue()
    ]
    assert len(said) > 80
    for key, given in said:
        assert None in given or placeholders(catalogue()[key]["en"]) <= given, key  # None: **values, seen when run


def test_an_unknown_language_is_a_mistake_with_its_fix():
    with pytest.raises(UserError, match="--lang en"):
        words.Words("fr")


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (2.345, 1, "+2.3"),
        (-0.04, 1, "±0.0"),
        (0.0, 3, "±0.000"),
        (-0.0214, 3, "−0.021"),
        (None, 1, "–"),
        (float("nan"), 1, "–"),
    ],
)
def test_a_change_is_printed_with_its_sign_and_an_undefined_one_as_a_dash(value, places, text):
    assert printed.signed(value, places) == text


def test_an_interval_needs_both_ends():
    assert printed.interval([-0.5, 1.25], 1) == "[−0.5, +1.2]"
    assert printed.interval([None, 1.0]) == printed.interval(None) == "–"


def test_sizes_and_figures_of_unknown_scale_are_readable():
    assert [printed.size(n) for n in (512, 5 << 20, 3 << 30, None)] == ["512 B", "5.0 MiB", "3.0 GiB", "–"]
    assert [printed.compact(x) for x in (True, 12345, 1234.5, 0.1234, 1e-9, None)] == [
        "✓",
        "12,345",
        "1,234",
        "0.123",
        "1.00e-09".replace("-", "−"),
        "–",
    ]
