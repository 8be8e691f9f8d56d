"""The last layer for needed rows only: same answers, fewer rows, and no trust in its word."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import tiny_model, tiny_variant
from torch import nn

from tiltmeter.scoring.kernels.attention import Scores
from tiltmeter.scoring.kernels.blockwise import Blockwise
from tiltmeter.scoring.kernels.last_layer import LastLayer, last_layer, only_rows
from tiltmeter.scoring.kernels.visibility import Visibility
from tiltmeter.scoring.selftest import choose_scorer
from tiltmeter.scoring.trees.prefix_tree import build
from tiltmeter.scoring.trees.tree_model import TreeModel

PROMPTS = [[1, 5, 9, 7, 8, 11], [1, 5, 9, 7, 12], [1, 5, 20, 21, 22, 23, 24]]


class Counted(nn.Module):
    """A network that notes how many rows it was given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(x.shape[1])
        return self.inner(x)


class Mixing(nn.Module):
    """A network whose rows depend on each other."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + x.cumsum(1)


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mixtral", "gemma2", "gpt-neox", "opt"])
def test_logits_and_kept_keys_are_those_of_the_whole_layer(architecture):
    variant = tiny_variant(architecture)
    tree = build(sorted(PROMPTS))
    [piece] = tree.pieces()
    logits, kept = TreeModel(variant, sparse=True).run(piece, tree.last_nodes, keep=True)
    whole = TreeModel(variant, sparse=True)
    whole._fast.last = LastLayer()
    expected, expected_kept = whole.run(piece, tree.last_nodes, keep=True)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    for pair, expected_pair in zip(kept, expected_kept, strict=True):
        for found, wanted in zip(pair, expected_pair, strict=True):
            assert torch.equal(found, wanted)


@torch.inference_mode()
def test_the_last_network_computes_one_row_per_prompt_and_the_others_all():
    model = tiny_model("llama")
    for layer in (model.model.layers[0], model.model.layers[-1]):
        layer.mlp = Counted(layer.mlp)
    tree = build(sorted(PROMPTS))  # 12 nodes
    [piece] = tree.pieces()
    trees = TreeModel(tiny_variant(model=model), sparse=True)
    trees.run(piece, tree.last_nodes)
    assert (model.model.layers[0].mlp.rows, model.model.layers[-1].mlp.rows) == ([12], [3])
    trees.run(piece, tree.last_nodes[:0])  # a piece in the middle of a long prompt
    assert model.model.layers[-1].mlp.rows == [3, 1]
    trees.run(piece, torch.arange(12).numpy())  # every row is read: nothing to pick
    assert model.model.layers[-1].mlp.rows == [3, 1, 12]


@torch.inference_mode()
def test_other_rows_come_out_as_zeros_and_later_calls_see_the_plain_network():
    network = nn.Linear(4, 4)
    x = torch.randn(1, 6, 4)
    with only_rows(LastLayer((network,)), torch.tensor([1, 4]), 6):
        found = network(x)
    expected = torch.zeros(1, 6, 4)
    expected[:, [1, 4]] = network(x[:, [1, 4]])
    torch.testing.assert_close(found, expected)
    assert network(x).shape == (1, 6, 4) and not network._forward_hooks and not network._forward_pre_hooks


@torch.inference_mode()
def test_what_experts_add_to_their_output_is_handed_on():
    class Experts(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return 2 * x, "router"

    network = Experts()
    with only_rows(LastLayer((network,)), torch.tensor([0]), 3):
        found, router = network(torch.ones(1, 3, 2))
    assert (found.tolist(), router) == ([[[2, 2], [0, 0], [0, 0]]], "router")


def test_a_network_that_mixes_rows_fails_the_self_test():
    model = tiny_model("llama")
    model.model.layers[-1].mlp = Mixing(model.model.layers[-1].mlp)
    choice = choose_scorer(tiny_variant(model=model))
    assert str(choice.method.name) == "padded batches"
    assert "prefix trees differ by" in str(choice.notes[0])


@torch.inference_mode()
def test_the_last_attention_computes_the_rows_that_are_read_in_blocks_of_at_most_the_block_size():
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    mask, places = torch.zeros(1, 1, 9, 9), np.arange(9)
    blocks = Blockwise([(mask, Visibility(places, np.full(9, 9), places, places))], 2)
    scores = Scores(8**-0.5)
    whole = blocks(mask, query, key, value, scores)
    blocks.rows = np.array([1, 2, 7])
    found = blocks(mask, query, key, value, scores)
    torch.testing.assert_close(found[:, [1, 2, 7]], whole[:, [1, 2, 7]], rtol=0, atol=1e-6)
    assert not found[:, [0, 3, 4, 5, 6, 8]].any()
    assert [len(rows) for rows, _, _ in blocks._of(mask, query, 2)] == [2, 1]
    blocks.rows = None
    assert torch.equal(blocks(mask, query, key, value, scores), whole)


@torch.inference_mode()
def test_only_the_last_layer_attends_for_some_rows_and_none_does_afterwards():
    model = tiny_model("llama")
    blocks = Blockwise([], 64)
    seen: list[list[int] | None] = []
    with only_rows(last_layer(model), torch.tensor([2]), 4, blocks):
        for layer in model.model.layers:
            layer.self_attn.register_forward_pre_hook(
                lambda *_: seen.append(None if blocks.rows is None else blocks.rows.tolist())
            )
        model(torch.tensor([[1, 5, 9, 7]]))
    assert seen == [*[None] * (len(model.model.layers) - 1), [2]]
    assert blocks.rows is None


def test_parts_under_other_names_are_run_whole():
    assert len(last_layer(tiny_model("llama")).networks) == 3
    assert len(last_layer(tiny_model("opt")).networks) == 1  # its queries
    assert last_layer(tiny_model("gpt2")).attention is None
    assert last_layer(tiny_model("mamba")) == LastLayer()
