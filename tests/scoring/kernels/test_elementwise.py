"""The model's element-wise code in place: the same numbers, only where they are the same, and gone afterwards."""

from __future__ import annotations

import sys

import pytest
import torch
from tiny_models import ARCHITECTURES, tiny_model, tiny_variant

from tiltmeter.scoring.kernels.elementwise import ROTARY, TOLERANCE, Elementwise
from tiltmeter.scoring.trees.prefix_tree import build
from tiltmeter.scoring.trees.tree_model import TreeModel

HEADS, TOKENS, SIZE = 4, 7, 8
NO_TREES = {"gpt-neo", "mpt", "bloom", "falcon-alibi", "mamba"}


def replaced_kinds(model: torch.nn.Module) -> set[str]:
    """Class names of the modules that run a replacement."""
    with Elementwise(model).replaced():
        return {type(module).__name__ for module in model.modules() if "forward" in module.__dict__}


def rotary_of(model: torch.nn.Module) -> object:
    return getattr(sys.modules[type(model).__module__], ROTARY)


def random_heads(heads: int) -> torch.Tensor:
    """(1, heads, tokens, size), laid out as a projection leaves it."""
    return torch.randn(1, TOKENS, heads * SIZE).view(1, TOKENS, heads, SIZE).transpose(1, 2)


@torch.inference_mode()
def test_rotary_positions_are_those_of_the_models_own_function():
    model = tiny_model("llama")
    own = rotary_of(model)
    query, key = random_heads(HEADS), random_heads(1)
    cos, sin = torch.randn(2, 1, TOKENS, SIZE)
    with Elementwise(model).replaced():
        replacement = rotary_of(model)
        assert replacement is not own
        for found, expected in zip(replacement(query, key, cos, sin), own(query, key, cos, sin), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_rotary_positions_of_a_part_of_the_head_and_of_other_layouts_are_left_to_the_model():
    model = tiny_model("phi3")  # its function rotates as many values of a head as cos has
    own = rotary_of(model)
    query, key = random_heads(HEADS), random_heads(1)
    cos, sin = torch.randn(2, 1, TOKENS, SIZE // 2)
    with Elementwise(model).replaced():
        replacement = rotary_of(model)
        assert replacement is not own
        for found, expected in zip(replacement(query, key, cos, sin), own(query, key, cos, sin), strict=True):
            assert torch.equal(found, expected)
        swapped = (query.transpose(1, 2), key.transpose(1, 2), *torch.randn(2, 1, TOKENS, SIZE))
        for found, expected in zip(replacement(*swapped, unsqueeze_dim=2), own(*swapped, unsqueeze_dim=2), strict=True):
            assert torch.equal(found, expected)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_norm_is_the_models_own_within_rounding_for_small_and_large_values(scale):
    norm = tiny_model("llama").model.norm
    norm.weight.data = torch.randn(32)
    x = scale * torch.randn(1, TOKENS, 32)
    before = x.clone()
    expected = norm(x)
    with Elementwise(norm).replaced():
        assert "forward" in norm.__dict__
        found = norm(x)
    assert torch.equal(x, before)
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.inference_mode()
def test_a_gated_network_gives_the_same_bits_and_leaves_its_input_alone():
    network = tiny_model("qwen2").model.layers[0].mlp
    x = torch.randn(1, TOKENS, 32)
    before = x.clone()
    expected = network(x)
    with Elementwise(network).replaced():
        assert "forward" in network.__dict__
        found = network(x)
    assert torch.equal(found, expected)
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("architecture", "kinds", "rotary"),
    [
        ("llama", {"LlamaMLP", "LlamaRMSNorm"}, True),
        ("qwen3", {"Qwen3MLP", "Qwen3RMSNorm"}, True),
        ("phi3", {"Phi3RMSNorm"}, True),  # gate and up are one layer
        ("gemma2", set(), True),  # norms times 1 + weight, gates with GELU
        ("cohere", {"CohereMLP"}, False),  # rotates neighbours, not halves
        ("gpt2", set(), None),  # has no such function
    ],
)
def test_what_is_replaced_is_what_gives_the_same_numbers(architecture, kinds, rotary):
    model = tiny_model(architecture)
    assert replaced_kinds(model) == kinds
    if rotary is not None:
        own = rotary_of(model)
        with Elementwise(model).replaced():
            assert (rotary_of(model) is not own) == rotary


def test_a_norm_that_gives_other_numbers_keeps_its_own_code():
    norm = tiny_model("llama").model.norm
    own = type(norm).forward
    try:
        type(norm).forward = lambda self, x: own(self, x) + x
        assert replaced_kinds(norm) == set()
    finally:
        type(norm).forward = own


def test_a_network_with_somebodys_hook_keeps_its_own_code():
    network = tiny_model("llama").model.layers[0].mlp
    handle = network.act_fn.register_forward_hook(lambda module, inputs, output: output.round())
    assert replaced_kinds(network) == set()
    handle.remove()
    network.gate_proj.register_forward_pre_hook(lambda module, inputs: None)
    assert replaced_kinds(network) == set()


def test_bfloat16_models_keep_their_own_code():
    model = tiny_model("llama").bfloat16()
    own = rotary_of(model)
    assert replaced_kinds(model) == set()
    with Elementwise(model).replaced():
        assert rotary_of(model) is own


def test_afterwards_the_model_runs_its_own_code_even_when_the_forward_failed():
    model = tiny_model("llama")
    own = rotary_of(model)
    with pytest.raises(RuntimeError, match="in the middle"), Elementwise(model).replaced():
        raise RuntimeError("in the middle")
    assert rotary_of(model) is own
    assert not any("forward" in module.__dict__ for module in model.modules())


@torch.inference_mode()
@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - NO_TREES))
def test_trees_give_the_logits_of_the_models_own_code(architecture):
    variant = tiny_variant(architecture)
    tree = build([[1, 5, 9, 7, 8, 11], [1, 5, 9, 7, 12], [1, 5, 20, 21, 22, 23, 24]])
    [piece] = tree.pieces()
    found, _ = TreeModel(variant, sparse=False).run(piece, tree.last_nodes)
    plain = TreeModel(variant, sparse=False)
    plain._fast._elementwise = Elementwise(torch.nn.Identity())
    expected, _ = plain.run(piece, tree.last_nodes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
