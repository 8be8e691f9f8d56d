"""What commands print, in both languages: the same numbers, no English sentence on the Chinese side."""

from __future__ import annotations

import re

import pytest

from tiltmeter.cli import tables
from tiltmeter.cli.language import language
from tiltmeter.demo.command import BASE, DATA
from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_document
from tiltmeter.study import make_study

SENTENCE = re.compile(r"(?:\b[a-z’'-]+ ){3}[a-z]+\b")  # four plain English words in a row
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("spoken") / "run"
    run(make_study(models=(str(BASE),), strategies=("magnitude",), data=str(DATA), limit=6, draws=100), out)
    return out


def printed(capsys, act) -> tuple[str, str]:
    found = []
    for lang in ("en", "zh"):
        act(lang)
        found.append(capsys.readouterr().out)
    return found[0], found[1]


def test_the_table_says_the_same_in_both_languages(made, capsys):
    document = read_document(made)
    english, chinese = printed(capsys, lambda lang: tables.show(document, 200, lang))
    assert len(SENTENCE.findall(english)) >= 2, english
    assert SENTENCE.findall(chinese) == [], chinese
    assert re.search(r"[\u4e00-\u9fff]", chinese)
    assert set(NUMBER.findall(english)) == set(NUMBER.findall(chinese))


def test_markdown_speaks_the_language_and_csv_and_json_stay(made):
    document = read_document(made)
    english, chinese = (tables.render(document, "markdown", lang) for lang in ("en", "zh"))
    assert "| strategy |" in english and "| 加速方法 |" in chinese
    for kind in ("json", "csv"):
        assert tables.render(document, kind, "zh") == tables.render(document, kind)


@pytest.mark.parametrize(
    ("given", "terminal", "spoken"),
    [("zh", "en_US.UTF-8", "zh"), (None, "zh_CN.UTF-8", "zh"), (None, "de_DE.UTF-8", "en"), (None, "", "en")],
)
def test_the_language_is_the_one_asked_for_else_the_terminals(given, terminal, spoken, monkeypatch):
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", terminal)
    assert language(given) == spoken
    with pytest.raises(UserError, match="does not speak"):
        language("fr")
