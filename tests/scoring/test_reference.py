"""The definition of each answer, against plain transformers calls and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import tiny_variant

from tiltmeter.models.variant import Guesses
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import (
    NO_TEXT,
    NO_TOKEN,
    NOT_FINITE,
    TOO_LONG,
    Generation,
    OptionProbs,
    SequenceLogprob,
    answer_from_dict,
    answer_to_dict,
)

VARIANT = tiny_variant()
# ids are bytes + 3 after <pad>, <s>, </s>
IDS = torch.tensor([[1, *(byte + 3 for byte in b"hello")]])


def test_a_sequence_logprob_is_minus_the_models_own_loss_times_its_tokens():
    with torch.inference_mode():
        loss = VARIANT.model(IDS, labels=IDS).loss  # mean over 5 predicted tokens
    answer = reference.answer(VARIANT, SequenceLogprob("hello"))
    assert answer.n_tokens == 5
    assert answer.logprob == pytest.approx(-5 * float(loss), abs=1e-5)


def test_option_probabilities_are_the_softmax_of_the_last_row():
    with torch.inference_mode():
        probabilities = VARIANT.model(IDS).logits[0, -1].softmax(-1)
    answer = reference.answer(VARIANT, OptionProbs("hello", (("a", " "), ("b", "yes"))))
    (a, space), (b, yes) = answer.logprobs
    assert yes is None  # no single token writes it
    for logprob, byte in ((a, b"a"), (space, b" "), (b, b"b")):
        assert math.exp(logprob) == pytest.approx(float(probabilities[byte[0] + 3]), rel=1e-5)


def test_greedy_text_is_that_of_transformers_generate():
    generated = VARIANT.model.generate(IDS, max_new_tokens=20, do_sample=False)[0, IDS.shape[1] :]
    answer = reference.answer(VARIANT, Generation("hello", 20))
    assert answer.text == VARIANT.tokenizer.decode(generated)
    assert answer.n_tokens == len(generated)


def test_a_generation_ends_with_its_end_token_and_only_the_raw_text_shows_it():
    first = reference.answer(VARIANT, Generation("hello", 20))
    ids = VARIANT.tokenizer(first.text, add_special_tokens=False).input_ids
    third = ids[2]
    model = tiny_variant(eos_ids=frozenset([2, third]))
    answer = reference.answer(model, Generation("hello", 20))
    assert answer.stopped == "eos"
    assert answer.n_tokens == ids.index(third) + 1
    assert first.stopped == "length"
    ended = reference.generation_answer(VARIANT, Generation("", 9), [107, 108, 2])
    assert (ended.text, ended.clean, ended.stopped) == ("hi</s>", "hi", "eos")


def test_sampling_depends_on_the_request_alone():
    asked = [Generation("hello", 12, 1.0, 1.0, seed) for seed in (1, 2, 1)]
    one, two, again = (reference.answer(VARIANT, request) for request in asked)
    assert one == again
    assert one.text != two.text


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (SequenceLogprob("x" * 256), TOO_LONG),  # 257 tokens with <s>, 256 fit
        (OptionProbs("x" * 255, (("a",),)), TOO_LONG),  # 256 and one answer token
        (Generation("x" * 200, 56), TOO_LONG),  # 201 + 56
        (SequenceLogprob(""), NO_TEXT),
        (OptionProbs("x", (("a",), ("yes", "no"))), NO_TOKEN),
    ],
)
def test_what_cannot_be_asked_says_why_and_holds_no_number(request_, reason):
    answer = reference.answer(VARIANT, request_)
    assert answer.error == reason
    assert answer_from_dict(answer_to_dict(answer)) == answer
    assert not any(isinstance(value, float) for value in answer_to_dict(answer).values())


def test_what_just_fits_is_answered():
    for request in (SequenceLogprob("x" * 255), OptionProbs("x" * 254, (("a",),)), Generation("x" * 253, 2)):
        assert reference.answer(VARIANT, request).error is None


def test_logits_that_are_not_finite_are_an_error_never_a_number():
    broken = tiny_variant()
    with torch.no_grad():
        broken.model.model.norm.weight[0] = float("nan")
    for request in (SequenceLogprob("hello"), OptionProbs("hello", (("a",),)), Generation("hello", 4)):
        assert reference.answer(broken, request).error == NOT_FINITE


def test_a_variants_own_generate_replaces_greedy_decoding_only():
    own = tiny_variant(generate=lambda ids, limit: ([107, 108][:limit], Guesses(4, 1)))
    answered = reference.answer(own, Generation("hello", 5))
    assert (answered.text, answered.guessed, answered.accepted) == ("hi", 4, 1)
    sampled = Generation("hello", 5, 1.0, 1.0, 3)
    assert reference.answer(own, sampled) == reference.answer(VARIANT, sampled)
