"""Logits in one buffer: the same bits, in the same place, for whoever reads them before asking again."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model, tiny_variant
from torch import nn

from tiltmeter.scoring.kernels import output_layer
from tiltmeter.scoring.kernels.output_layer import OutputLayer
from tiltmeter.scoring.reference import sequence_logprob
from tiltmeter.scoring.trees.tree_model import TreeModel
from tiltmeter.scoring.trees.tree_scoring import sequence_logprobs

TEXTS = sorted([[1, 5, 9, 7, 8, 11], [1, 5, 9, 7, 12], [1, 5, 20, 21, 22, 23, 24], [1, 6, 6, 6], [1, 30, 2, 3, 4, 5]])


@pytest.fixture
def large_from_one_byte(monkeypatch):
    monkeypatch.setattr(output_layer, "LARGE", 1)


@torch.inference_mode()
def test_logits_are_the_layers_own_bit_for_bit_and_stand_in_one_place(large_from_one_byte):
    model = tiny_model("llama")
    ids = torch.tensor([[1, 5, 9, 7], [3, 4, 5, 6]])
    own = [model(part[None]).logits for part in (*ids, ids[0, :2])]
    layer, buffer = OutputLayer(model), []
    with layer.writing_into(buffer, 4):
        first = model(ids[:1]).logits
        assert torch.equal(first, own[0])
        second = model(ids[1:]).logits
        assert torch.equal(second, own[1])
    assert first.data_ptr() == second.data_ptr() == buffer[0].data_ptr()
    with layer.writing_into(buffer, 2):  # fewer rows fit in what is there
        assert torch.equal(model(ids[:1, :2]).logits, own[2])
    assert buffer[0].shape == (4, own[0].shape[-1])
    assert model(ids[:1]).logits.data_ptr() != buffer[0].data_ptr()


@torch.inference_mode()
def test_another_number_of_rows_than_announced_gets_a_tensor_of_its_own(large_from_one_byte):
    model = tiny_model("llama")
    buffer: list[torch.Tensor] = []
    with OutputLayer(model).writing_into(buffer, 3):
        found = model(torch.tensor([[1, 5, 9, 7]])).logits
    assert found.data_ptr() != buffer[0].data_ptr()
    assert torch.equal(found, model(torch.tensor([[1, 5, 9, 7]])).logits)


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "cohere"])  # plain, soft-capped, scaled logits
def test_texts_in_several_pieces_score_as_one_at_a_time(architecture, large_from_one_byte):
    variant = tiny_variant(architecture)
    found = sequence_logprobs(TreeModel(variant, sparse=True), TEXTS, budget=6)
    assert found == pytest.approx([sequence_logprob(variant, text) for text in TEXTS], abs=1e-4)


def test_small_logits_and_other_layers_keep_their_own_way():
    model, buffer = tiny_model("llama"), []
    with OutputLayer(model).writing_into(buffer, 4):
        assert "forward" not in model.lm_head.__dict__
    assert not buffer
    for change in (
        lambda: setattr(model, "lm_head", nn.Linear(64, 96)),  # with a bias
        lambda: model.lm_head.register_forward_hook(lambda *_: None),
        lambda: model.half(),
    ):
        change()
        assert OutputLayer(model)._layer is None


def test_whatever_stood_in_for_the_layer_stands_in_again(large_from_one_byte):
    model = tiny_model("llama")
    layer = OutputLayer(model)
    model.lm_head.forward = packed = model.lm_head.forward
    with pytest.raises(KeyError), layer.writing_into([], 4):
        assert model.lm_head.forward is not packed
        raise KeyError
    assert model.lm_head.forward is packed
