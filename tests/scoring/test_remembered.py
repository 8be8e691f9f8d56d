"""A self-test's outcome is kept per model and machine, and a run goes on with what it began with."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_variant

from tiltmeter.runs.loading import ask
from tiltmeter.scoring import engine as engine_module
from tiltmeter.scoring import remembered
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.remembered import Remembered
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob

REQUESTS = [SequenceLogprob("hello there"), OptionProbs("hello", (("a",),)), Generation("hello", 3)]


@pytest.fixture
def tests_made(monkeypatch):
    """What was tested, in order."""
    made = []
    for name in ("choose_scorer", "choose_writer"):
        choose = getattr(engine_module, name)
        monkeypatch.setattr(engine_module, name, lambda variant, c=choose, n=name: made.append(n) or c(variant))
    return made


def answers(variant, folder, **settings):
    engine = Engine(variant, batch_tokens=64, remembered=Remembered(variant, folder), **settings)
    return engine.answer(REQUESTS), engine


def test_a_model_is_tested_once_on_a_machine(tmp_path, tests_made):
    said = []
    first, engine = answers(tiny_variant(), tmp_path, say=said.append)
    assert tests_made == ["choose_scorer", "choose_writer"] and len(said) == 2
    assert engine.stats.test_seconds > 0
    again, second = answers(tiny_variant(), tmp_path, say=said.append)
    assert again == first and len(tests_made) == 2 and second.stats.test_seconds == 0
    assert (
        second.outcomes
        == engine.outcomes
        == {
            "scores": {"method": "prefix trees", "notes": []},
            "generation": {"method": "prefix trees", "notes": []},
        }
    )


@pytest.mark.parametrize(
    "other",
    [{"weight_hash": "another"}, {"strategy": "int8"}, {"settings": {"bits": 3}}, {"dtype": "bfloat16"}],
)
def test_another_variant_is_tested_anew(tmp_path, tests_made, other):
    answers(tiny_variant(), tmp_path)
    answers(tiny_variant(**other), tmp_path)
    assert len(tests_made) == 4


def test_other_libraries_another_instruction_set_and_other_code_are_tested_anew(tmp_path, tests_made, monkeypatch):
    answers(tiny_variant(), tmp_path)
    changes = (
        (remembered, "version", lambda name: "99"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "SSE"),
        (remembered, "_engine_code", lambda: "other"),
    )
    for count, (owner, name, value) in enumerate(changes, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, value)
            answers(tiny_variant(), tmp_path)
        assert len(tests_made) == 2 * count


def test_notes_are_remembered_with_the_method(tmp_path):
    _, first = answers(tiny_variant("gpt-neo"), tmp_path)
    _, second = answers(tiny_variant("gpt-neo"), tmp_path)
    assert first.notes == second.notes and "padded batches, because" in str(first.notes[0])


def test_a_run_goes_on_with_the_method_it_began_with(tmp_path, tests_made):
    variant = tiny_variant()
    engine = Engine(variant, batch_tokens=64, remembered=Remembered(variant, tmp_path))
    engine.outcomes["scores"] = {"method": "padded batches", "notes": ["as it began"]}
    engine.answer(REQUESTS[:2])
    assert tests_made == [] and engine.notes == ["as it began"]
    assert str(engine._scorer.method.name) == "padded batches"


def test_a_damaged_or_unknown_outcome_is_tested_anew(tmp_path, tests_made):
    answers(tiny_variant(), tmp_path)
    [file] = tmp_path.iterdir()
    for text in ("{", "[]", '{"scores": {"method": "magic", "notes": []}, "generation": 3}'):
        file.write_text(text)
        tests_made.clear()
        answers(tiny_variant(), tmp_path)
        assert len(tests_made) == 2


def test_the_time_of_a_self_test_is_booked_to_no_benchmark(tmp_path, monkeypatch):
    clock = [0.0]
    choose = engine_module.choose_scorer

    def slow(variant):
        clock[0] += 100
        return choose(variant)

    monkeypatch.setattr(engine_module, "choose_scorer", slow)
    engine = Engine(tiny_variant(), batch_tokens=64, remembered=Remembered(tiny_variant(), tmp_path))
    monkeypatch.setattr(engine_module.time, "perf_counter", lambda: clock[0])
    answered = ask(engine, REQUESTS[:1])
    assert (engine.stats.test_seconds, engine.stats.seconds, answered.seconds) == (100, 0, 0)
