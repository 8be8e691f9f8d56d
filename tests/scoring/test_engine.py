"""The engine beyond plain models: caches, samples, refill, broken logits, any budget."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model, tiny_variant
from transformers import DynamicCache

from tiltmeter.models.variant import Guesses
from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine, is_out_of_memory
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.requests import NO_TEXT, NOT_FINITE, TOO_LONG, Generation, OptionProbs, SequenceLogprob
from tiltmeter.scoring.selftest import choose_writer
from tiltmeter.scoring.trees import prefix_tree, tree_model
from tiltmeter.scoring.trees.tree_model import PREFIX_BLOCK, TreeModel

SYSTEM = "You answer every question as briefly as you can, and you never explain anything that was not asked. "
PROMPTS = [SYSTEM + tail for tail in ("Who is right?", "Who is wrong?", "Why?", "Where is it", "Where is she", "When")]
SAMPLED = [Generation(prompt, 15, 1.0, 1.0, 10 * n + seed) for n, prompt in enumerate(PROMPTS) for seed in range(3)]


def answers(variant, requests, batch_tokens=64):
    return Engine(variant, batch_tokens=batch_tokens).answer(requests)


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma3"])
def test_sampled_text_does_not_depend_on_the_token_budget(name):
    """Rows are batch_tokens / 8: one at a time with 8, six with refill at 48, all at once at 4096."""
    variant = tiny_variant(name)
    expected = [reference.answer(variant, request) for request in SAMPLED]
    engine = Engine(variant, batch_tokens=64)  # one self-test serves all budgets
    for engine.batch_tokens in (8, 48, 4096):
        assert engine.answer(SAMPLED) == expected


def test_rows_that_end_early_are_replaced_and_end_where_the_reference_does():
    eos = frozenset(range(3, 40))  # about one token in seven ends a text
    variant = tiny_variant(eos_ids=eos)
    requests = [*SAMPLED, *(Generation(prompt, 25) for prompt in PROMPTS)]
    found = answers(variant, requests, 40)
    assert found == [reference.answer(variant, request) for request in requests]
    assert {answer.stopped for answer in found} == {"eos", "length"}
    assert len({answer.n_tokens for answer in found}) > 3


def test_greedy_and_sampled_requests_of_one_prompt_go_together():
    variant = tiny_variant()
    requests = [Generation(PROMPTS[0], limit, heat, 0.8, 4) for limit in (1, 7, 12) for heat in (0.0, 0.7)]
    assert answers(variant, requests) == [reference.answer(variant, request) for request in requests]


def test_samples_share_their_prompts_prefill():
    engine = Engine(tiny_variant(), batch_tokens=512)
    engine.answer(SAMPLED[:1])  # self-test and prefix are done
    before = engine.stats.tokens_computed
    engine.answer([Generation(PROMPTS[2], 4, 1.0, 1.0, seed) for seed in range(5)])
    # one prefill, and three more steps of five rows: the fourth token is not fed back
    assert engine.stats.tokens_computed - before == len(PROMPTS[2]) + 1 + 5 * 3


def test_a_shared_prefix_is_computed_once_and_its_bits_do_not_depend_on_history():
    ids = [list(range(3, 3 + 2 * PREFIX_BLOCK)), list(range(3, 3 + PREFIX_BLOCK)) + [9] * PREFIX_BLOCK]
    fresh, used = (TreeModel(tiny_variant(), sparse=True) for _ in range(2))
    with torch.inference_mode():
        used.prefix_of(ids[1])
        before = used.tokens_computed
        after_another = used.prefix_of(ids[0])
        assert used.tokens_computed - before == PREFIX_BLOCK  # the first block is known
        for (key, value), (other_key, other_value) in zip(fresh.prefix_of(ids[0]), after_another, strict=True):
            assert torch.equal(key, other_key)
            assert torch.equal(value, other_value)


def test_prefix_caching_changes_no_score(monkeypatch):
    variant = tiny_variant("mistral-window")
    requests = [OptionProbs(prompt, (("a",), ("b",))) for prompt in PROMPTS]
    engine = Engine(variant, batch_tokens=32)
    found = engine.answer(requests)
    computed = engine.stats.tokens_computed
    monkeypatch.setattr(tree_model.TreeModel, "caches_prefixes", False)
    again = Engine(variant, batch_tokens=32)
    for one, other in zip(found, again.answer(requests), strict=True):
        for a, b in zip(one.logprobs, other.logprobs, strict=True):
            assert a == pytest.approx(b, abs=1e-5)
    # what prompts share is computed once for all pieces; without, trees of one prompt each compute it anew
    ids = sorted(encode(variant.tokenizer, prompt) for prompt in PROMPTS)
    assert computed == prefix_tree.build(ids).size
    assert again.stats.tokens_computed == sum(map(len, ids))


def test_a_strategys_own_cache_is_used_for_every_forward_and_changes_the_answers():
    class Rounding(DynamicCache):
        """Keys and values rounded to one decimal when read: a quantized cache in miniature."""

        made = 0

        def __init__(self):
            super().__init__()
            Rounding.made += 1

        def update(self, key_states, value_states, layer_idx, *args, **kwargs):
            key, value = super().update(key_states, value_states, layer_idx, *args, **kwargs)
            return (key * 10).round() / 10, (value * 10).round() / 10

    model = tiny_model("llama")
    variant = tiny_variant(model=model, new_cache=Rounding, share_prefixes=False)
    requests = [SequenceLogprob(PROMPTS[0]), OptionProbs(PROMPTS[1], (("a",),)), *(Generation(p, 8) for p in PROMPTS)]
    expected = [reference.answer(variant, request) for request in requests]
    found = answers(variant, requests)
    assert Rounding.made > len(requests)
    assert found[0].logprob == pytest.approx(expected[0].logprob, abs=0.05)
    assert found[2:] == expected[2:]
    plain = reference.answer(tiny_variant(model=model), requests[0])
    assert abs(plain.logprob - expected[0].logprob) > 1e-3
    assert str(choose_writer(variant).method.name) != "prefix trees"


def test_a_variants_own_generate_is_asked_for_greedy_text():
    variant = tiny_variant(generate=lambda ids, limit: ([107] * limit, Guesses()))
    greedy, sampled = answers(variant, [Generation("hello", 3), Generation("hello", 3, 1.0, 1.0, 5)])
    assert greedy.text == "hhh"
    assert sampled == reference.answer(tiny_variant(), Generation("hello", 3, 1.0, 1.0, 5))


def test_one_unanswerable_request_does_not_disturb_its_neighbours():
    variant = tiny_variant()
    good = [SequenceLogprob(PROMPTS[0]), OptionProbs(PROMPTS[0], (("a",),)), Generation(PROMPTS[0], 5)]
    bad = [SequenceLogprob(""), OptionProbs("x" * 300, (("a",),)), Generation("x" * 255, 5)]
    found = answers(variant, [*bad, *good])
    assert [answer.error for answer in found] == [NO_TEXT, TOO_LONG, TOO_LONG, None, None, None]
    assert found[3:] == answers(variant, good)


def test_broken_logits_are_counted_not_scored_and_stay_with_their_own_request():
    variant = tiny_variant()
    with torch.no_grad():
        variant.model.model.embed_tokens.weight[ord("!") + 3] = float("inf")
    texts = ["fine", "broken!", "also fine"]
    requests = [
        cls(text, *rest)
        for text in texts
        for cls, rest in ((SequenceLogprob, ()), (OptionProbs, ((("a",),),)), (Generation, (4,)))
    ]
    expected = [reference.answer(variant, request).error for request in requests]
    assert expected == [None, None, None, NOT_FINITE, NOT_FINITE, NOT_FINITE, None, None, None]
    assert [answer.error for answer in answers(variant, requests)] == expected


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_stats_tell_what_sharing_saved():
    engine = Engine(tiny_variant(), batch_tokens=256)
    engine.answer([SequenceLogprob(prompt) for prompt in PROMPTS])
    ids = sorted([1, *(byte + 3 for byte in prompt.encode())] for prompt in PROMPTS)
    assert engine.stats.tokens_asked == sum(map(len, ids))
    assert engine.stats.tokens_computed == prefix_tree.build(ids).size
    assert engine.stats.seconds > 0
