"""Attention in blocks equals attention over everything that a dense mask leaves visible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_attention import plain

from tiltmeter.scoring.kernels import blockwise
from tiltmeter.scoring.kernels.attention import Scores
from tiltmeter.scoring.kernels.blockwise import Blockwise
from tiltmeter.scoring.kernels.visibility import Visibility
from tiltmeter.scoring.trees import prefix_tree

SEQUENCES = sorted([[1, 5, 9, 7, 8, 11], [1, 5, 9, 7, 12], [1, 5, 20, 21, 22, 23, 24], [1, 5, 9], [3, 3], [3, 4, 1]])


def pieces():
    """Pieces with known ancestors, and with a cached prefix of two tokens."""
    together = [[0, 0, *sequence] for sequence in SEQUENCES]
    return [*prefix_tree.build(SEQUENCES).pieces(5), *prefix_tree.build(together, start=2).pieces(7)]


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("block", [1, 4, 64])
@pytest.mark.parametrize("most_ranges", [0, 2, 99])  # keys are gathered, either, copied by the ranges they form
@pytest.mark.parametrize("multiple", [1, 8])  # 8: as on a GPU
def test_blocks_of_rows_see_what_the_dense_mask_leaves_visible(block, softcap, most_ranges, multiple, monkeypatch):
    monkeypatch.setattr(blockwise, "MOST_RANGES", most_ranges)
    monkeypatch.setattr(blockwise, "KEY_MULTIPLE", {"cpu": multiple})
    torch.manual_seed(1)
    scores = Scores(0.4, softcap)
    for piece in pieces():
        for window in (None, 1, 3):
            visible = piece.visible(window)
            dense = visible.dense()
            rows, keys = dense.shape
            query, key, value = torch.randn(1, 6, rows, 8), torch.randn(1, 2, keys, 8), torch.randn(1, 2, keys, 8)
            mask = torch.zeros(1).expand(1, 1, rows, keys)
            blocks = Blockwise([(mask, visible)], block)
            found = blocks(mask, query, key, value, scores)
            expected = plain(query, key, value, torch.from_numpy(~dense), scores)
            torch.testing.assert_close(found.transpose(1, 2), expected, rtol=0, atol=1e-6)
            widths = {bias.shape[-1] % multiple for _, _, bias in blocks._of(mask, query, 3)}
            assert widths == {0}


def test_the_keys_of_a_block_are_those_that_some_row_sees_and_with_a_window_few_more():
    for piece in pieces():
        for window in (None, 1, 3):
            visible = piece.visible(window)
            dense = visible.dense()
            for rows in (np.arange(len(dense)), np.arange(len(dense))[::2], np.array([len(dense) - 1])):
                seen = dense[rows].any(0)
                found = visible.keys_of(rows)
                assert set(np.flatnonzero(seen)) <= set(found.tolist())
                if window is None:
                    assert found.tolist() == np.flatnonzero(seen).tolist()


def test_a_mask_the_engine_did_not_make_is_refused():
    mask, zero = torch.zeros(1, 1, 2, 2), np.zeros(2, dtype=np.int64)
    with pytest.raises(NotImplementedError, match="mask"):
        Blockwise([(mask, Visibility(zero, zero, zero, zero))], 64)(
            mask.clone(), *(torch.zeros(1, 1, 2, 4) for _ in range(3)), Scores(1.0)
        )
