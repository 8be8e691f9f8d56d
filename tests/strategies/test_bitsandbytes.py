"""int8 and int4: that they act, and the AVX512-BF16 packing trap."""

import pytest
import torch

from tiltmeter.models import reading
from tiltmeter.strategies import _bitsandbytes
from tiltmeter.strategies.base import DidNothing
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

IDS = torch.tensor([[1, 80, 147, 201, 282, 81, 286, 1132]])


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits


@pytest.mark.parametrize("strategy", ["int8", "int4", "int4:type=nf4"])
def test_every_linear_layer_but_the_head_is_quantized_and_the_logits_change(stories, strategy):
    variant = apply.load(stories, parse(strategy))
    [step] = variant.proof["steps"].values()
    assert step["quantized_layers"] == 14  # 2 layers x (q k v o gate up down)
    assert step["untouched_linear_layers"] == ["lm_head"]
    assert variant.proof["largest_logit_change"] > 0.01


@pytest.mark.parametrize("quant_type", ["fp4", "nf4"])
def test_int4_computes_with_exactly_its_dequantized_weights_and_survives_state_dict(stories, quant_type):
    """On CPUs with AVX512-BF16 both fail without `keep_plain_packing`: compute is then bfloat16 (differences of
    1e-2) and state_dict() corrupts the live model. On other CPUs the trap does not exist."""
    import bitsandbytes as bnb

    variant = apply.load(stories, parse(f"int4:type={quant_type}"))
    before = logits(variant.model)
    variant.model.state_dict()
    assert torch.equal(logits(variant.model), before)

    plain = apply.load(stories, parse("none")).model
    for name, layer in variant.model.named_modules():
        if isinstance(layer, bnb.nn.Linear4bit):
            weight = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            plain.get_submodule(name).weight.data = weight.float()
    torch.testing.assert_close(before, logits(plain), rtol=0, atol=1e-5)


def test_without_the_guard_this_cpu_would_answer_otherwise(stories, monkeypatch):
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, so the trap does not exist here")
    guarded = logits(apply.load(stories, parse("int4")).model)
    monkeypatch.setattr(reading, "keep_plain_packing", lambda model: 0)
    trapped = apply.load(stories, parse("int4")).model
    assert (logits(trapped) - guarded).abs().max() > 1e-3  # bfloat16 where float32 was asked
    trapped.state_dict()
    assert (logits(trapped) - guarded).abs().max() > 1e-3


def test_a_model_without_layers_to_quantize_is_no_variant():
    import bitsandbytes as bnb

    with pytest.raises(DidNothing, match="no linear layer"):
        _bitsandbytes.evidence(torch.nn.Sequential(torch.nn.ReLU()), bnb.nn.Linear4bit, "int4")
