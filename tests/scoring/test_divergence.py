"""KL divergence from logits in blocks: the plain float64 sum, 0 for equal logits, the same for every block size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiltmeter.demo.command import BASE
from tiltmeter.scoring.divergence import divergence, logits_at
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply


def plain(base: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """The definition: sum p (log p - log q) over the whole vocabulary, float64; (positions,)."""
    log_p, log_q = (
        x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) - x.max(1, keepdims=True)
        for x in (base.astype(np.float64), variant.astype(np.float64))
    )
    return (np.exp(log_p) * (log_p - log_q)).sum(1)


def logits(vocabulary: int, seed: int = 0, positions: int = 70) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = (rng.normal(0, 3, (positions, vocabulary))).astype(np.float32)
    return base, (base + rng.normal(0, 0.3, base.shape)).astype(np.float32)


NOTHING = np.full(70, -1)


@pytest.mark.parametrize("vocabulary", [5, 8_192, 50_000])
def test_blocks_give_the_plain_sum(vocabulary):
    base, variant = logits(vocabulary)
    found = divergence(base, variant, NOTHING)
    np.testing.assert_allclose(found.kl, plain(base, variant), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("block", [1, 7, 999, 1_000, 10_000])
def test_chunked_equals_whole(block):
    base, variant = logits(1_000)
    whole, chunked = (divergence(base, variant, NOTHING, block=b) for b in (1_000_000, block))
    np.testing.assert_allclose(chunked.kl, whole.kl, rtol=1e-12, atol=1e-14)
    assert (chunked.same_top == whole.same_top).all()


@pytest.mark.parametrize("strategy", ["none", "kv4", "kv4:read=transformers"])
def test_a_beginning_that_texts_share_is_computed_once_and_changes_no_logit(strategy):
    variant = apply.load(str(BASE), parse(strategy), device="cpu")
    start = list(range(20, 50))
    texts = [([*start, 60, 61], (31,)), ([*start, 60, 62, 63], (5, 32)), ([*start, 70], (30,)), (start[:9], (3, 8))]
    computed = []
    variant.model.register_forward_pre_hook(lambda _, given: computed.append(given[0].shape[1]))
    shared = list(logits_at(variant, texts))
    alone = [next(logits_at(variant, [text])) for text in texts]
    for one, other in zip(shared, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 if strategy == "none" else 0.2)
    whole = [32, 33, 31, 9]
    kept = strategy != "kv4:read=transformers"  # its cache is read otherwise than it was written
    assert computed[:4] == ([32, 33 - 5, 31 - 30, 9 - 3] if kept else whole) and computed[4:] == whole


def test_a_model_beside_itself_has_exactly_none():
    base, _ = logits(50_000)
    found = divergence(base, base.copy(), NOTHING)
    assert (found.kl == 0).all() and found.same_top.all()


def test_a_hand_made_distribution():
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 + 1/4 ln 1/2 + 0 = 1/4 ln 2."""
    p, q = (np.log(np.array([x], dtype=np.float32)) for x in ((0.5, 0.25, 0.25), (0.25, 0.5, 0.25)))
    found = divergence(p, q, np.array([0]))
    assert found.kl[0] == pytest.approx(0.25 * np.log(2), abs=1e-7)
    assert not found.same_top[0]
    assert (found.base_next[0], found.variant_next[0]) == pytest.approx((np.log(0.5), np.log(0.25)), abs=1e-7)


def test_tokens_that_both_exclude_add_nothing_and_one_that_only_the_variant_excludes_is_infinitely_far():
    base = np.array([[0.0, 1.0, -np.inf]], dtype=np.float32)
    assert divergence(base, base.copy(), np.array([-1])).kl[0] == 0
    assert divergence(base, np.array([[-np.inf, 1.0, -np.inf]], dtype=np.float32), np.array([-1])).kl[0] == np.inf


def test_other_vocabularies_are_refused():
    with pytest.raises(ValueError, match="other shapes"):
        divergence(torch.zeros(1, 3), torch.zeros(1, 4), np.array([-1]))
