"""Mixtures of experts: a method acts on the experts or is refused before it compresses; its share is counted."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiltmeter.errors import UserError
from tiltmeter.models import linear as _layers
from tiltmeter.models import reading
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

SIZES = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 16}
KINDS = {
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {**ROUTED, "norm_topk_prob": True},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 16},
    "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
}


@pytest.fixture(scope="module", params=KINDS)
def mixture(request, stories, tmp_path_factory) -> Path:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SIZES, **KINDS[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, folder / file.name)
    return folder


@pytest.mark.parametrize("spoil", ["missing", "cut", "one too many"])
@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe"])
def test_an_expert_that_is_not_like_the_others_is_named(stories, tmp_path, kind, spoil):
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SIZES, **KINDS[kind])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, tmp_path / file.name)
    tensors = load_file(tmp_path / "model.safetensors")
    name = max(name for name in tensors if ".layers.1." in name and ".experts.3." in name)
    if spoil == "missing":
        del tensors[name]
    elif spoil == "cut":
        tensors[name] = tensors[name][:-1].clone()
    else:
        name = name.replace(".experts.3.", ".experts.4.")
        tensors[name] = torch.zeros(2, 2)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        apply.load(str(tmp_path), parse("none"), device="cpu")
    assert name.rpartition(".experts.")[0] in caught.value.message
    assert "fetch the file again" in caught.value.fix


def counted(folder: Path) -> tuple[int, int, int]:
    """Parameters of attention's linear layers, of experts, and of all weights in the blocks, from names alone."""
    model = reading.load_model(folder, "float32", "cpu")
    sizes = {n: p.numel() for n, p in model.named_parameters() if ".layers." in n and p.ndim > 1 and "bias" not in n}
    linear = sum(size for name, size in sizes.items() if name.endswith("_proj.weight"))
    experts = sum(size for name, size in sizes.items() if "experts" in name)
    return linear, experts, sum(sizes.values())


@pytest.mark.parametrize(
    "strategy", ["int8", "awq", "gptq", "w4a16", "w8a8", "fp8", "wanda", "wanda-2:4", "sparsegpt", "dynamic-int8"]
)
def test_a_method_that_leaves_the_experts_alone_is_refused_by_its_check(mixture, strategy):
    linear, experts, total = counted(mixture)
    assert experts > 0.5 * total
    refused = apply.refusals(str(mixture), [parse(strategy)], device="cpu", dtype="float32", calibration=None)
    share = f"{(total - linear) / total:.0%} of the block weights"
    assert share in refused[strategy].message
    assert "experts" in refused[strategy].message
    with pytest.raises(UserError, match="lie elsewhere"):
        apply.load(str(mixture), parse(strategy), device="cpu")


def test_int4_holds_every_expert_in_four_bits(mixture):
    linear, experts, total = counted(mixture)
    plain = reading.load_model(mixture, "float32", "cpu")
    variant = apply.load(str(mixture), parse("int4"), device="cpu")
    assert variant.proof["changed_share_of_block_weights"] == pytest.approx((linear + experts) / total)
    assert f"{100 * (linear + experts) / total:.4g} % of the block weights changed" in variant.proof["summary"]
    for name, weight in _layers.experts(plain).items():
        owner, _, last = name.rpartition(".")
        held = getattr(variant.model.get_submodule(owner), last)
        blocks = (held.reshape(-1, 64) / weight.reshape(-1, 64).abs().amax(dim=1, keepdim=True)).round(decimals=4)
        assert len(blocks.unique()) <= 16  # the values of fp4
        assert 0.05 < float((held - weight).abs().mean() / weight.abs().mean()) < 0.2


def test_magnitude_prunes_every_expert_by_itself(mixture):
    linear, experts, total = counted(mixture)
    plain = reading.load_model(mixture, "float32", "cpu")
    variant = apply.load(str(mixture), parse("magnitude"), device="cpu")
    assert variant.proof["changed_share_of_block_weights"] == pytest.approx((linear + experts) / total)
    left_alone = set(variant.proof["block_weights_left_alone"])
    assert left_alone == {
        name for name in _layers.block_weights(plain) if name.endswith(("gate.weight", "router.weight"))
    }
    before = _layers.matrices(plain)
    for name, matrix in _layers.matrices(variant.model).items():
        smallest = before[name].abs().flatten().argsort()[: matrix.numel() // 2]
        expected = before[name].clone().flatten()
        expected[smallest] = 0
        assert torch.equal(matrix.flatten(), expected), name
