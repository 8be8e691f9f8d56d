"""torchao-int8: a scale for each token, so that no answer depends on its neighbours; compiled, the same numbers."""

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.models import linear
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply
from tiltmeter.variants.speed import weight_bytes

IDS = torch.tensor([[1, 80, 147, 201, 282, 81, 286, 1132, 80, 147, 300, 12]])
PLAIN = "torchao-int8"


def logits(model, ids=IDS) -> torch.Tensor:
    with torch.inference_mode():
        return model(ids, use_cache=False).logits


@pytest.fixture(scope="module")
def variant(stories):
    pytest.importorskip("torchao")
    return apply.load(stories, parse(PLAIN))


def test_every_layer_but_the_head_is_held_in_eight_bits(variant, stories):
    step = variant.proof["steps"]["torchao-int8"]
    assert step["quantized_layers"] == 14
    assert variant.proof["changed_share_of_block_weights"] == 1.0
    assert not linear.held_by_torchao(variant.model.lm_head.weight)
    base = apply.load(stories, parse("none")).model
    inside = sum(layer.weight.numel() for layer in linear.linear_layers(base).values())
    assert weight_bytes(base) - weight_bytes(variant.model) == pytest.approx(3 * inside, rel=0.05)


def test_weights_and_activations_are_rounded_by_the_largest_value_of_their_row(variant, stories):
    """One layer against the definition in float64: int8 rows of the weight, int8 rows of what enters."""
    base = linear.linear_layers(apply.load(stories, parse("none")).model)
    name, layer = next(iter(linear.linear_layers(variant.model).items()))
    x = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))

    def rounded(rows: torch.Tensor) -> torch.Tensor:
        step = rows.abs().amax(dim=-1, keepdim=True) / 127.5
        return (rows / step).round().clamp(-128, 127).double() * step.double()

    with torch.inference_mode():
        found = layer(x).double()
    expected = rounded(x) @ rounded(base[name].weight).T
    exact = x.double() @ base[name].weight.double().T
    assert (found - expected).abs().mean() < 0.2 * (exact - expected).abs().mean()


def test_what_shares_a_batch_changes_nothing(variant):
    together = logits(variant.model, torch.cat([IDS, IDS.flip(1), IDS.roll(3, 1)]))
    torch.testing.assert_close(together[:1], logits(variant.model), rtol=0, atol=1e-5)


@pytest.mark.slow  # torch's compiler: half a minute
def test_compiled_layers_give_the_same_numbers_whatever_the_shape(variant, stories):
    compiled = apply.load(stories, parse("torchao-int8:compile=layers")).model
    for ids in (IDS, IDS[:, :1], torch.cat([IDS, IDS]), IDS[:, :7]):
        torch.testing.assert_close(logits(compiled, ids), logits(variant.model, ids), rtol=0, atol=1e-5)


def test_without_a_compiler_what_compiles_is_refused(stories, monkeypatch):
    pytest.importorskip("torchao")
    monkeypatch.setattr("tiltmeter.strategies.torchao_int8.which", lambda name: None)
    [error] = apply.refusals(
        stories, [parse("torchao-int8:compile=layers")], device="cpu", dtype="auto", calibration=None
    ).values()
    assert "needs a C++ compiler" in error.message and "leave compile out" in error.fix
    assert not apply.refusals(stories, [parse(PLAIN)], device="cpu", dtype="auto", calibration=None)


def test_without_the_library_it_is_refused_with_the_extra(stories, monkeypatch):
    monkeypatch.setattr("tiltmeter.strategies._compress.find_spec", lambda name: None)
    [error] = apply.refusals(stories, [parse(PLAIN)], device="cpu", dtype="auto", calibration=None).values()
    assert isinstance(error, UserError) and 'pip install "tiltmeter[torchao]"' in error.fix
