"""The engine agrees with the reference on every architecture, and takes its fast path only where that holds."""

from __future__ import annotations

import pytest
import torch
from tiny_models import ARCHITECTURES, tiny_model, tiny_variant

from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob
from tiltmeter.scoring.selftest import choose_scorer, choose_writer, forked_prompts

TEXTS = [
    "The doctor asked the nurse a question.",
    "The doctor asked the nurse for help.",
    "The doctor asked",
    "Where?",
    "The doctor told the nurse a long story about a place far away.",
]
OPTIONS = (("a", " "), ("b",))
REQUESTS = [
    *(SequenceLogprob(text) for text in TEXTS),
    *(OptionProbs(text, OPTIONS) for text in TEXTS),
    *(Generation(text, 9) for text in TEXTS),
    *(Generation(text, 9, 1.0, 0.9, seed) for text in TEXTS[:2] for seed in (1, 2)),
]
# ALiBi, recurrent state, or a mask that is not the one given: no tree
PADDED = {"gpt-neo", "mpt", "bloom", "falcon-alibi", "mamba"}
OWN_ATTENTION = {"gptj", "falcon-rotary"}  # a tree mask holds, but attention is not chosen by name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_engine_equals_reference(name):
    variant = tiny_variant(name)
    engine = Engine(variant, batch_tokens=64)
    expected = [reference.answer(variant, request) for request in REQUESTS]
    for found, wanted in zip(engine.answer(REQUESTS), expected, strict=True):
        if hasattr(wanted, "logprob"):
            assert found.logprob == pytest.approx(wanted.logprob, abs=1e-4)
        elif hasattr(wanted, "logprobs"):
            for one, other in zip(found.logprobs, wanted.logprobs, strict=True):
                assert one == pytest.approx(other, abs=1e-4)
        else:
            assert found == wanted
    method = str(choose_scorer(variant).method.name)
    if name in PADDED:
        assert method == "padded batches"
        assert any("padded batches, because" in str(note) for note in engine.notes)
    else:
        assert method.startswith("prefix trees")
        assert engine.stats.tokens_computed < engine.stats.tokens_asked
    if name not in PADDED | OWN_ATTENTION:
        assert method == str(choose_writer(variant).method.name) == "prefix trees"
        assert engine.notes == []


def test_soft_caps_are_applied_where_the_models_attention_applies_them():
    model = tiny_model("gemma2")
    if model.config._attn_implementation != "sdpa":
        pytest.skip("this transformers (5.24) never runs Gemma 2 without its soft caps")
    sdpa = reference.sequence_logprob(tiny_variant(model=model), list(range(3, 30)))
    model.set_attn_implementation("eager")
    variant = tiny_variant(model=model)
    assert abs(reference.sequence_logprob(variant, list(range(3, 30))) - sdpa) > 1e-3  # a cap of 1 is felt
    assert {str(choose(variant).method.name) for choose in (choose_scorer, choose_writer)} == {"prefix trees"}


def test_a_model_that_ignores_its_mask_is_found_out():
    """The trap: a tree computed with full causal attention gives numbers that look fine."""
    variant = tiny_variant()
    plain = variant.model.forward

    def deaf(*args, attention_mask=None, **kwargs):
        return plain(*args, attention_mask=None, **kwargs)

    deaf.__signature__ = __import__("inspect").signature(plain)
    variant.model.forward = deaf
    choice = choose_scorer(variant)
    assert str(choice.method.name) == "padded batches"
    assert "differ by" in str(choice.notes[0]) or "mask" in str(choice.notes[0])


def test_rounding_models_keep_the_fast_path_and_name_the_noise():
    model = tiny_model("llama").to(torch.bfloat16)
    variant = tiny_variant(model=model, dtype="bfloat16")
    choice = choose_scorer(variant)
    assert str(choice.method.name) == "prefix trees"
    # with kernels whose rounding does not depend on the shape (ATEN_CPU_CAPABILITY=default) there is nothing to name
    assert all("depend on batch composition" in str(note) for note in choice.notes)


def test_the_reference_is_asked_once_whatever_the_number_of_ways_that_are_tried(monkeypatch):
    variant = tiny_variant("mpt")  # its trees differ, then padded batches hold
    asked = []
    plain = reference.sequence_logprob
    monkeypatch.setattr(reference, "sequence_logprob", lambda v, tokens: asked.append(tokens) or plain(v, tokens))
    choice = choose_scorer(variant)
    assert str(choice.method.name) == "padded batches" and "differ by" in str(choice.notes[0])
    assert asked == forked_prompts(variant)
