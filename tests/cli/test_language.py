"""What commands print, in both languages: the same numbers, no English sentence on the Chinese side."""

from __future__ import annotations

import re

import pytest
from made_documents import document, row

from tiltmeter.cli import decisions, tables
from tiltmeter.cli.commands import app
from tiltmeter.cli.language import language
from tiltmeter.demo.command import BASE, DATA
from tiltmeter.errors import UserError
from tiltmeter.messages import catalogue, say
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_document
from tiltmeter.schema import Speed, Variant, Verdict
from tiltmeter.study import make_study

SENTENCE = re.compile(r"(?:\b[a-z’'-]+ ){3}[a-z]+\b")  # four plain English words in a row
PLACE = re.compile(r"\{\w+\}")
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


@pytest.fixture
def judged(monkeypatch):
    """Rows and failures on which the gate finds something to say of every kind."""
    reason = say("rot.empty", after="30", before="0")
    rows = [
        row(strategy="none"),
        *(row(verdict, strategy=f"s{i}", change={"reason": reason}) for i, verdict in enumerate(Verdict)),
        row(strategy="half", complete=False),
        row(strategy="part", partial=True),
        row(strategy="alone", change=None),
        row("inconclusive", strategy="open", change={"reason": reason, "far": None}),
        row("inconclusive", strategy="far", change={"reason": reason, "far": 9.0}),
        row("inconclusive", strategy="near", change={"reason": reason, "far": 0.5}),
        row(strategy="bare", change={"reason": reason, "flips": None, "distance_delta": None}),
    ]
    failed = [{"model": "m", "strategy": "awq", "reason": "CUDA"}]
    lost = {"model": "m", "strategy": "s1", "format": "plain", "decoding": "greedy", "benchmark": "worldbench"}
    missing = [{**lost, "reason": reason}]
    speeds = [Variant(model="m", strategy=name, speed=Speed(decode_tokens_per_s=9)) for name in ("none", "s3")]
    made = document(rows, speeds, failures=failed, missing=missing, command="tiltmeter run m --out x")
    monkeypatch.setattr(decisions, "read_document", lambda run: made)
    return made


EVERY_LIMIT = """
default: {max_rise: 0.1, max_flips: 0.9, max_toward_bias: 0.001, max_unscored: 0.0001, max_group_change: 1,
          groups: {bias_type=tall: 5}}
benchmarks: {discrim-eval: {}}
cells: [{strategy: nobody, benchmark: crows-pairs}]
"""


def test_gate_and_choice_say_the_same_in_both_languages(judged, tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text(EVERY_LIMIT)
    for act in (
        lambda lang: decisions.run_gate(tmp_path, policy, github=True, lang=lang),
        lambda lang: decisions.run_choose(tmp_path, policy, lang=lang),
        lambda lang: decisions.run_choose(tmp_path, lang=lang),
    ):
        english, chinese = printed(capsys, act)
        assert len(SENTENCE.findall(english)) >= 2, english
        assert SENTENCE.findall(chinese.replace(judged.run.command, "")) == [], chinese
        assert len(english.splitlines()) == len(chinese.splitlines())
        assert set(NUMBER.findall(english)) == set(NUMBER.findall(chinese))


def test_every_sentence_of_the_gate_is_said_here(judged, tmp_path, capsys):
    """So that the test above sees each of them."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(EVERY_LIMIT)
    decisions.run_gate(tmp_path, policy)
    said = capsys.readouterr().out
    unsaid = {"gate_why.no_variant", "gate_why.run", "gate_why.no_interval", "gate_why.group_chance"}
    unsaid |= {"gate_why.no_base", "gate_why.nothing_learned"}
    keys = {key for key in catalogue() if key.startswith("gate_why.")} - unsaid
    first = {key: max(PLACE.split(catalogue()[key]["en"]), key=len).strip(" :[") for key in keys}
    assert {key for key, words in first.items() if words not in said} == set()


def test_gate_json_is_english_in_every_language(judged, tmp_path, capsys):
    english, chinese = printed(capsys, lambda lang: decisions.run_gate(tmp_path, as_json=True, lang=lang))
    assert english == chinese


def test_the_commands_take_the_terminals_language(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    for command, words in (("gate", "门禁关闭"), ("choose", "帕累托")):
        with pytest.raises(SystemExit):
            app([command, str(tmp_path)])
        assert words in capsys.readouterr().out
        with pytest.raises(SystemExit):
            app([command, str(tmp_path), "--lang", "en"])
        assert words not in capsys.readouterr().out
