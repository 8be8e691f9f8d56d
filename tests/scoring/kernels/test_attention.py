"""Attention in parts and in blocks equals attention over everything."""

from __future__ import annotations

import pytest
import torch
from plain_attention import plain

from tiltmeter.scoring.kernels.attention import Scores, merge, partial_attention


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
