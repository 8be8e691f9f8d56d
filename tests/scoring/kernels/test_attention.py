"""Attention in parts and in blocks equals attention over everything."""

from __future__ import annotations

import pytest
import torch

from tiltmeter.scoring.kernels import attention
from tiltmeter.scoring.kernels.attention import Blockwise, Scores, merge, partial_attention


def plain(query, key, value, hidden, scores):
    """softmax(scores) V with every key's group of query heads, the long way."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    products = query @ key.transpose(-1, -2) * scores.scale
    if scores.softcap:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    return products.masked_fill(hidden, -torch.inf).softmax(-1) @ value


@pytest.mark.parametrize("softcap", [None, 0.7])
def test_parts_joined_by_their_log_sum_exps_are_the_whole(softcap):
    torch.manual_seed(0)
    scores = Scores(0.4, softcap)
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    hidden = torch.zeros(2, 1, 5, 9, dtype=torch.bool)
    hidden[0, :, 1, :4] = True  # one query sees nothing of the first part
    bias = torch.where(hidden, torch.finfo(torch.float32).min, 0.0)
    parts = [
        partial_attention(query, key[:, :, columns], value[:, :, columns], bias[..., columns], scores)
        for columns in (slice(0, 4), slice(4, 6), slice(6, 9))
    ]
    torch.testing.assert_close(merge(parts), plain(query, key, value, hidden, scores), rtol=0, atol=1e-6)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("block", [1, 4, 64])
@pytest.mark.parametrize("most_ranges", [0, 2, 99])  # keys are gathered, either, copied by the ranges they form
def test_blocks_of_rows_see_what_the_mask_leaves_visible(block, softcap, most_ranges, monkeypatch):
    monkeypatch.setattr(attention, "MOST_RANGES", most_ranges)
    torch.manual_seed(1)
    scores = Scores(0.4, softcap)
    query, key, value = torch.randn(1, 6, 11, 8), torch.randn(1, 2, 15, 8), torch.randn(1, 2, 15, 8)
    hidden = torch.rand(11, 15) < 0.6
    hidden[:, 2] = False
    mask = torch.where(hidden, torch.finfo(torch.float32).min, 0.0)[None, None]
    found = Blockwise([mask], block)(mask, query, key, value, scores)
    torch.testing.assert_close(found.transpose(1, 2), plain(query, key, value, hidden, scores), rtol=0, atol=1e-6)


def test_a_mask_the_engine_did_not_make_is_refused():
    mask = torch.zeros(1, 1, 2, 2)
    with pytest.raises(NotImplementedError, match="mask"):
        Blockwise([mask], 64)(mask.clone(), *(torch.zeros(1, 1, 2, 4) for _ in range(3)), Scores(1.0))
