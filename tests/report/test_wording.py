"""One catalogue: what the analysis says comes from it, what other parts say is in it, a sentence can be told again."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import tiltmeter
from tiltmeter.messages import sentences
from tiltmeter.messages.sentences import Said, as_data, heard, join, say, tell
from tiltmeter.report.words import Words

SOURCE = Path(tiltmeter.__file__).parent
SAYING = ("verdict", "findings", "choose", "coherence", "compare", "resample", "spread", "twoway", "designs", "settle")
WORDY = re.compile(r"(?:\b[a-z]+[,;:]? ){2,}[a-z]+")  # three plain words in a row


def blanked(node: ast.expr) -> str | None:
    """A string literal's text, every expression in it as {}; neighbouring ones as one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return blank(node.value) if "{" in node.value else node.value
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
        return re.sub(r"(\{\})+", "{}", "".join(parts))
    return None


def blank(template: str) -> str:
    try:
        fields = [(literal, name) for literal, name, _, _ in Formatter().parse(template)]
    except ValueError:
        return template
    return "".join(literal + ("" if name is None else "{}") for literal, name in fields)


def expressions(node: ast.AST) -> Iterator[ast.AST]:
    """As ast.walk, but an f-string is one text: its pieces are not visited, the expressions in it are."""
    yield node
    inside = [part for part in node.values if not isinstance(part, ast.Constant)] if isinstance(node, ast.JoinedStr) \
        else ast.iter_child_nodes(node)  # fmt: skip
    for inner in inside:
        yield from expressions(inner)


def literals(node: ast.AST) -> set[str]:
    return {text for inner in expressions(node) if isinstance(inner, ast.expr) and (text := blanked(inner))}


def trees(*folders: str) -> dict[Path, ast.Module]:
    paths = [path for folder in folders for path in sorted((SOURCE / folder).rglob("*.py"))]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def test_every_sentence_the_code_says_is_in_the_catalogue_with_the_values_it_is_given():
    said = 0
    for path, tree in trees(".").items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if not (isinstance(call.func, ast.Name) and call.func.id in ("say", "join")):
                continue
            keys = [
                node.value
                for node in ast.walk(call.args[0])
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value
            ]
            if isinstance(call.args[0], ast.JoinedStr):  # a family, f"rot.{name}"; `named` asks the catalogue itself
                families = [key for key in keys if not key.startswith(".")]
                assert all(any(k.startswith(family) for k in sentences.catalogue()) for family in families), path.name
                continue
            for key in keys:
                said += 1
                given = {keyword.arg for keyword in call.keywords}
                wanted = {name for _, name, _, _ in Formatter().parse(sentences.catalogue()[key]["en"]) if name}
                assert call.func.id == "join" or None in given or wanted <= given, (path.name, key)
    assert said > 60


def test_the_analysis_builds_no_sentence_of_its_own():
    for path, tree in trees("analysis").items():
        if path.stem not in SAYING:
            continue
        raised = {text for node in ast.walk(tree) if isinstance(node, ast.Raise) for text in literals(node)}
        docs = {text for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                for text in literals(node)}  # fmt: skip
        names = {"spread between groups", "spread between countries", "disparity by {}"}  # stored, and recognised
        names |= {"the policy names it, this variant has no row of it"}  # the gate's, for terminals and CI alone
        verdicts = {"no usable signal"}
        texts = literals(tree) - docs - raised - names - verdicts
        assert {text for text in texts if WORDY.search(text)} == set(), path.name


def test_every_stored_template_is_the_text_of_the_code():
    written = set().union(*(literals(tree) for tree in trees(".").values()))
    composed = {  # two literals of the code in one name, or one given through a setting
        "stored.spread_gender", "stored.spread_race", "stored.spread_age", "stored.disparity_region",
        "stored.disparity_income", "stored.two_four", "stored.selftest", "stored.step", "stored.data_rebuilt",
        "stored.data_rows", "stored.data_unknown", "stored.data_unverified", "stored.scheme_bitsandbytes",
    }  # fmt: skip
    gone = [
        key
        for key, texts in sentences.catalogue().items()
        if key.startswith("stored.") and key not in composed and blank(texts["en"]) not in written
    ]
    assert gone == []


def reader_facing() -> set[str]:
    """Literals of strategies, benchmarks, models and checks that a reader of the report meets."""
    found: set[str] = set()
    for tree in trees("strategies", "benchmarks", "scoring").values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "not_exercised":
                found |= {text for inner in ast.walk(node) if isinstance(inner, ast.Return) for text in literals(inner)}
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("notes.append"):
                found |= literals(node)
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values):
                    found |= literals(value) if isinstance(key, ast.Constant) and key.value == "summary" else set()
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("title", "limits"):
                found |= literals(node.value)
    return {text for text in found if WORDY.search(text)}


def test_what_strategies_and_benchmarks_tell_a_reader_is_in_the_catalogue():
    known = {blank(texts["en"]) for texts in sentences.catalogue().values()}
    found = reader_facing()
    assert len(found) > 25
    assert {text for text in found if text not in known} == set()


def test_a_sentence_is_english_text_and_can_be_told_in_chinese_after_json():
    moved = say("moved.score", change="+2.5", unit=say("unit.points"), level="95", low="+1", high="+4")
    sentence = say("reason.worse", ideal="50", p="< 0.001", moved=moved)
    assert sentence == "The score moved away from the ideal of 50 by +2.5 points (95 % interval +1 to +4), more than " \
                       "chance explains (adjusted p < 0.001)."  # fmt: skip
    stored = json.loads(json.dumps({"reason": sentence, "said": as_data(sentence)}))
    assert stored["reason"] == tell(stored["said"], "en") == sentence
    assert tell(stored["said"], "zh").startswith("分数远离理想值 50，变化 +2.5 百分点（95% 区间 +1 至 +4）")
    assert as_data(copy.deepcopy(sentence)) == as_data(sentence)


def test_joined_sentences_have_each_languages_own_sign_between_them():
    both = join("join.clauses", [say("rot.empty", after="30", before="0"), "a name"])
    assert both == "30 % of its answers are empty (base 0 %); a name"
    assert tell(as_data(both), "zh") == "30% 的回答为空（基础模型 0%）；a name"


def test_stored_text_is_recognised_by_its_template_clause_by_clause():
    text = "wanda-2:4: 50.0% zeros in 28 linear layers (least 50.0%), every group of 4 holds 2 zeros, output head " \
           "untouched; int4: 28 linear layers quantized (bitsandbytes fp4), left alone: lm_head"  # fmt: skip
    found = heard(text)
    assert isinstance(found, Said) and found == text
    assert tell(as_data(found), "zh") == (
        "wanda-2:4：28 个线性层中 50.0% 为零（最少 50.0%），每 4 个权重中有 2 个为零，输出层未动；"
        "int4：已量化 28 个线性层（bitsandbytes fp4），未动：lm_head"
    )


@pytest.mark.parametrize("text", ["", "a name", "my model: a sentence of a plug-in", "x" * 5000, "a: b; c: d"])
def test_text_the_catalogue_does_not_know_stays_as_it_is(text):
    assert heard(text) == text and as_data(heard(text)) is None
    assert Words("zh").told(text) == text and Words("zh").told(text).foreign


@pytest.mark.parametrize("data", [{"key": "of.another.version", "values": {}}, {"key": "reason.worse", "values": {}}])
def test_a_sentence_of_another_version_is_shown_in_the_english_it_was_stored_in(data):
    told = Words("zh").told("Stored.", data)
    assert told == "Stored." and told.foreign


def test_model_ids_are_shown_by_their_short_names():
    models = join("join.and", ["owner/one", "owner/two"])
    sentence = say("finding.few_cells", models=models, n=2, signs=say("finding.no_signs"))
    told = Words("en").told(sentence, as_data(sentence), {"owner/one": "one", "owner/two": "two"})
    assert str(told).startswith("Do one and two agree?")
