"""Steps of few rows from weights laid out beforehand: the layers' own products but for rounding."""

from __future__ import annotations

import gc

import pytest
import torch
from tiny_models import tiny_model, tiny_variant
from torch import nn

from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.kernels import few_rows
from tiltmeter.scoring.kernels.few_rows import FewRows
from tiltmeter.scoring.kernels.packed_linear import available
from tiltmeter.scoring.reference import answer
from tiltmeter.scoring.requests import Generation

pytestmark = pytest.mark.skipif(
    not (available() and torch.backends.mkldnn.is_available()), reason="this torch was built without MKL or oneDNN"
)


@pytest.fixture
def no_cache(monkeypatch):
    """Every layer is one that no cache holds."""
    monkeypatch.setattr(few_rows, "NO_CACHE_HOLDS", 1)


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, 33, bias=False))


def computed(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with FewRows(model).at(len(x)):
        assert "forward" in model[0].__dict__
        return model(x)


@torch.inference_mode()
def test_products_of_few_rows_are_the_definitions_but_for_rounding(no_cache):
    model, x = two_layers(), torch.randn(32, 48)
    defined = two_layers().double()(x.double())
    torch.testing.assert_close(computed(model, x).double(), defined, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_rows_answer_does_not_depend_on_how_many_rows_stand_beside_it(no_cache):
    model, x = two_layers(), torch.randn(128, 48)
    together = computed(model, x)
    for rows in (2, 3, 16, 20, 32, 33, 64):
        assert torch.equal(computed(model, x[:rows]), together[:rows])


@pytest.mark.parametrize("rows", [1, 129])
def test_one_row_and_many_rows_are_the_layers_own_product(rows, no_cache):
    model = two_layers()
    with FewRows(model).at(rows):
        assert "forward" not in model[0].__dict__
    assert not FewRows(model).takes_all(rows)


def test_beyond_32_rows_only_what_no_cache_holds_is_taken(monkeypatch):
    model = two_layers()
    monkeypatch.setattr(few_rows, "NO_CACHE_HOLDS", model[0].weight.nbytes)
    few = FewRows(model)
    assert few.takes_all(32) and not few.takes_all(33)
    with few.at(33):
        assert ["forward" in layer.__dict__ for layer in (model[0], model[2])] == [True, False]


def test_weights_are_laid_out_once_for_all_who_run_a_model_and_go_with_it(no_cache):
    before = len(few_rows._forwards)
    model = two_layers()
    for few in (FewRows(model), FewRows(model)):
        assert few.takes_all(2)
    assert len(few_rows._forwards) == before + 2
    del few, model
    gc.collect()
    assert len(few_rows._forwards) == before


def test_where_memory_is_short_and_for_small_models_layers_keep_their_own_way(no_cache, monkeypatch):
    model = two_layers()
    monkeypatch.setattr(few_rows, "free_bytes", lambda _: 0)
    assert not FewRows(model).takes_all(2)
    monkeypatch.setattr(few_rows, "free_bytes", lambda _: 2**40)
    assert not FewRows(model).takes_all(2)  # a run does not change its arithmetic when others give memory back
    monkeypatch.undo()
    assert not FewRows(two_layers()).takes_all(2)


def test_whatever_stood_in_for_a_layer_stands_in_again(no_cache):
    model = two_layers()
    few = FewRows(model)
    model[0].forward = packed = model[0].forward
    with pytest.raises(KeyError), few.at(4):
        assert model[0].forward is not packed
        raise KeyError
    assert model[0].forward is packed


@torch.inference_mode()
@pytest.mark.parametrize("architecture", ["llama", "gpt-neox", "qwen2", "gemma2"])  # without biases, with, capped
def test_texts_written_side_by_side_are_the_references(architecture, no_cache):
    variant = tiny_variant(architecture)
    prompts = ("Ann went to the", "Ann and Bob", "The nurse said that", "Yes")
    asked = [Generation(text, 12, heat, 1.0, seed) for seed, text in enumerate(prompts) for heat in (0.0, 1.0)]
    found = Engine(variant).answer(asked)
    assert [each.text for each in found] == [answer(variant, each).text for each in asked]
    assert any(layer in few_rows._forwards for layer in variant.model.modules())


def test_a_model_of_another_kind_has_nothing_to_lay_out(no_cache):
    assert not FewRows(tiny_model("llama").half()).takes_all(2)
