"""A message is English where it is printed, any language where one is asked for, and the same after JSON."""

from __future__ import annotations

import copy
import importlib
import json
import pkgutil
from importlib.util import find_spec

import pytest

import tiltmeter
from tiltmeter.messages import (
    LANGUAGES,
    Message,
    as_json,
    from_json,
    join,
    named,
    say,
    sentence,
    sentences,
    spoken,
    translated,
)
from tiltmeter.report.words import Words


def moved() -> Message:
    change = say("moved.score", change="+2.5", unit=say("unit.points"), level="95", low="+1", high="+4")
    return say("reason.worse", ideal="50", p="< 0.001", moved=change)


ENGLISH = "The score moved away from the ideal of 50 by +2.5 points (95 % interval +1 to +4), more than chance " \
          "explains (adjusted p < 0.001)."  # fmt: skip


def test_a_message_is_english_text_and_chinese_where_asked():
    assert str(moved()) == ENGLISH
    assert moved().text("zh").startswith("分数远离理想值 50，变化 +2.5 百分点（95% 区间 +1 至 +4）")


@pytest.mark.parametrize(
    "text",
    [
        moved(),
        join("join.clauses", [say("rot.empty", after="30", before="0"), "a name"]),
        translated("noise of 0.1", zh="噪声 0.1"),
        "plain text of a plug-in",
    ],
)
def test_what_is_stored_is_read_back_as_it_was(text):
    assert from_json(json.loads(json.dumps(as_json(text)))) == text
    assert copy.deepcopy(text) == text and hash(copy.deepcopy(text)) == hash(text)


def test_joined_sentences_have_each_languages_own_sign_between_them():
    both = join("join.clauses", [say("rot.empty", after="30", before="0"), "a name"])
    assert str(both) == "30 % of its answers are empty (base 0 %); a name"
    assert both.text("zh") == "30% 的回答为空（基础模型 0%）；a name"


def test_an_unknown_key_and_a_missing_value_are_mistakes_where_they_are_made():
    with pytest.raises(KeyError, match="nowhere"):
        say("nowhere.at.all")
    with pytest.raises(KeyError, match="needs before"):
        say("rot.empty", after="30")


def test_a_name_without_a_sentence_stays_a_name():
    assert named("unit", "points") == say("unit.points") and named("unit", "furlongs") == "furlongs"


def test_words_of_ones_own_need_no_catalogue_and_show_english_where_a_language_lacks():
    assert translated("more often", zh="更常").text("zh") == "更常"
    assert translated("more often").text("zh") == "more often" and not translated("more often").speaks("zh")


@pytest.mark.parametrize(
    "data",
    [
        {"text": "Stored.", "key": "of.another.version", "values": {}},
        {"text": "Stored.", "key": "reason.worse", "values": {}},
        {"text": "Stored.", "key": "reason.worse", "values": 3},
        {"text": "Stored."},
        "Stored.",
    ],
)
def test_a_sentence_of_another_version_is_the_english_it_was_stored_in(data):
    assert from_json(data) == "Stored."
    told = Words("zh").told(from_json(data))
    assert told == "Stored." and told.foreign


def test_documents_hold_english_with_the_data_beside_it():
    stored = as_json(moved())
    document = spoken({"change": {"reason": stored, "n": 3}, "notes": [stored, "plain"], "names": ["a", "b"]})
    assert document["change"] == {"reason": ENGLISH, "reason_message": stored, "n": 3}
    assert document["notes"] == [ENGLISH, "plain"] and document["notes_messages"] == [stored, "plain"]
    assert document["names"] == ["a", "b"] and "names_messages" not in document
    assert sentence(document["change"], "reason") == moved()
    assert sentences(document, "notes") == [moved(), "plain"]
    assert sentence({"reason": "Only text."}, "reason") == "Only text." and sentence({}, "reason") == ""


def test_names_are_shown_otherwise_where_asked():
    models = join("join.and", ["owner/one", "owner/two"])
    said = say("finding.few_cells", models=models, n=2, signs=say("finding.no_signs"))
    told = Words("en").told(said, {"owner/one": "one", "owner/two": "two"})
    assert str(told).startswith("Do one and two agree?")


def constants() -> list[tuple[str, Message]]:
    """Messages that modules and classes hold: no call checked their keys."""
    found = []
    for module in pkgutil.walk_packages(tiltmeter.__path__, "tiltmeter."):
        if module.name.startswith(("tiltmeter.demo.training", "tiltmeter.__main__")):
            continue
        if module.name == "tiltmeter.scoring.kernels.decode_kernel" and not find_spec("triton"):
            continue
        held = vars(importlib.import_module(module.name))
        classes = [value for value in held.values() if isinstance(value, type) and value.__module__ == module.name]
        for name, value in [*held.items(), *(pair for each in classes for pair in vars(each).items())]:
            found += [(f"{module.name}.{name}", value)] if isinstance(value, Message) else []
    return found


def test_every_message_that_the_code_holds_is_in_the_catalogue_in_every_language():
    found = constants()
    assert len(found) > 30
    for name, message in found:
        assert all(message.text(language).strip() for language in LANGUAGES), name
        assert all(map(message.speaks, LANGUAGES)), name
