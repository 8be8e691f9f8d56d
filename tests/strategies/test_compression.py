"""Pruning and weight quantization through llm-compressor and torch: the traps, the proofs, and Wanda's rule by hand."""

import numpy as np
import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.models import linear as _layers
from tiltmeter.strategies import _compress, _pruning, wanda
from tiltmeter.strategies.base import DidNothing, LoadFailed
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

QUICK = "samples=4,length=64"


def weights(model) -> dict[str, torch.Tensor]:
    return {name: layer.weight.detach() for name, layer in _layers.linear_layers(model).items()}


def test_wandas_mask_is_the_published_rule_on_a_layer_computed_by_hand():
    """Row 0: |w| x norm = 4, 4, 2, 0.3 -> columns 2 and 3 go. Row 1: 20, 5, 5, 0.5 -> column 3, then 1 wins the tie."""
    from llmcompressor.modifiers.pruning.wanda.wanda_sparsify import (
        accumulate_row_scalars,
        make_empty_row_scalars,
        sparsify_weight,
    )

    layer = torch.nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, -4.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
    inputs = torch.diag(torch.tensor([4.0, 1.0, 1.0, 0.1]))[None]  # one sequence of 4 tokens; column norms 4, 1, 1, 0.1
    norms, _ = accumulate_row_scalars(inputs, layer, make_empty_row_scalars(layer), 0)
    pruned = sparsify_weight(layer, {layer: norms}, 0.5, 0, 0)
    assert (pruned == 0).nonzero().tolist() == [[0, 2], [0, 3], [1, 1], [1, 3]]


@pytest.mark.parametrize("strategy", ["wanda", "wanda-2:4"])
def test_wandas_mask_on_the_first_layers_of_a_model_follows_magnitude_times_input_norm(tiny, strategy):
    """The inputs of the first block's q, k and v do not depend on earlier pruning: a plain loop can tell the mask."""
    folder, seen = tiny("llama-3.1"), {}
    chain = parse(f"{strategy}:{QUICK}")
    original = _compress.oneshot

    def spy(model, recipe, context, windows):
        seen["windows"] = windows
        original(model, recipe, context, windows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_compress, "oneshot", spy)
        variant = apply.load(folder, chain, seed=17)  # a seed of its own, so that the artifact is made here
    base = apply.load(folder, parse("none")).model
    squares = torch.zeros(128)

    def watch(_, args):
        squares.add_(args[0].float().pow(2).sum(dim=(0, 1)))

    base.model.layers[0].self_attn.q_proj.register_forward_pre_hook(watch)
    with torch.inference_mode():
        for window in seen["windows"].ids:
            base(torch.tensor([window]))
    for part in ("q_proj", "k_proj", "v_proj"):
        before = base.model.layers[0].self_attn.get_submodule(part).weight
        after = variant.model.model.layers[0].self_attn.get_submodule(part).weight
        score = (before.abs() * squares.sqrt()).numpy()
        blocks = score.reshape(len(score), -1, 4) if strategy.endswith("2:4") else score[:, None, :]
        order = np.argsort(blocks, axis=-1, kind="stable")
        goes = np.zeros(blocks.shape, dtype=bool)
        np.put_along_axis(goes, order[..., : blocks.shape[-1] // 2], True, axis=-1)
        assert np.array_equal(goes.reshape(score.shape), (after == 0).numpy())
        assert torch.equal(after[after != 0], before[after != 0])


@pytest.mark.parametrize("strategy", ["wanda", "wanda-2:4", "sparsegpt", "sparsegpt-2:4", "magnitude"])
def test_pruning_reaches_half_zeros_in_every_layer_and_spares_head_and_embeddings(stories, strategy):
    """The head is tied to the embeddings here: llm-compressor's default would prune both."""
    chain = strategy if strategy == "magnitude" else f"{strategy}:{QUICK}"
    variant = apply.load(stories, parse(chain))
    for weight in weights(variant.model).values():
        assert abs(float((weight == 0).float().mean()) - 0.5) < 0.001
        if strategy.endswith("2:4"):
            assert bool(((weight == 0).reshape(-1, 4).sum(dim=1) == 2).all())
    base = apply.load(stories, parse("none")).model
    assert torch.equal(variant.model.lm_head.weight, base.lm_head.weight)
    assert torch.equal(variant.model.model.embed_tokens.weight, base.model.embed_tokens.weight)
    step = variant.proof["steps"][strategy]
    assert step["layers"] == len(step["sparsity_per_layer"]) == 14
    assert step["lm_head_untouched"] is True
    assert (step["intact_2_4_share"] == 1.0) == strategy.endswith("2:4")


def test_a_pruner_that_prunes_nothing_is_caught(stories, monkeypatch):
    """llm-compressor's targets="Linear" as a string is such a pruner: no error, no zeros."""
    from llmcompressor.modifiers.pruning import WandaPruningModifier

    monkeypatch.setattr(
        wanda._Wanda, "modifier", lambda self, blocks: WandaPruningModifier(sparsity=0.5, targets="Linear")
    )
    with pytest.raises(DidNothing, match="of the weights are zero, 50% were asked for"):
        apply.load(stories, parse("wanda:samples=3,length=64"))


def test_a_pruner_that_prunes_the_head_is_caught(tiny, monkeypatch):
    from llmcompressor.modifiers.pruning import WandaPruningModifier

    everything = ["re:.*layers\\.\\d+$", "re:^$", "re:.*"]
    monkeypatch.setattr(
        wanda._Wanda, "modifier", lambda self, blocks: WandaPruningModifier(sparsity=0.5, targets=everything)
    )
    with pytest.raises(DidNothing, match="changed the output head"):
        apply.load(tiny("llama-2"), parse("wanda:samples=3,length=64"))


def test_a_broken_two_four_pattern_is_caught():
    from types import SimpleNamespace

    facts = {"sparsity": 0.5, "sparsity_per_layer": {"a": 0.5}, "layers": 1, "intact_2_4_share": 0.97}
    with pytest.raises(DidNothing, match=r"only 97.0% of the groups"):
        _pruning.proof_of_sparsity("wanda-2:4", SimpleNamespace(facts=facts), 0.5, True)


def test_sparsity_facts_count_zeros_and_groups_of_four():
    weight = torch.tensor([[0.0, 0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0]])  # 3 of 8 zero; first group holds 2, second 1
    facts = _layers.sparsity_of({"a": weight})
    assert facts == _layers.Sparsity(0.375, {"a": 0.375}, 0.5)


@pytest.mark.parametrize(
    ("strategy", "scheme"),
    [
        (f"awq:{QUICK}", "4-bit integers, asymmetric"),
        (f"gptq:{QUICK}", "4-bit integers, symmetric"),
        ("w4a16", "rounded to nearest"),
        ("w8a8", "per token"),
        (f"w8a8:smooth=0.8,{QUICK}", "SmoothQuant 0.8"),
        ("fp8", "E4M3"),
    ],
)
def test_quantizers_take_every_layer_but_the_head_and_reload_exactly(stories, strategy, scheme, monkeypatch, tmp_path):
    """AWQ fails on a machine without a GPU unless the pinning of memory is skipped.

    The weights that are read back are, bit for bit, the ones the quantized model computed with when it was saved. Its
    logits are not: llm-compressor's model multiplies with weights laid out otherwise, and which kernel that takes
    differs by processor. 1e-4 is a hundred units of rounding of a logit near 10.
    """
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize

    saved: dict[str, torch.Tensor] = {}
    probe = _compress.probe_logits

    def spy(model, tokenizer):
        for name, layer in _layers.linear_layers(model).items():
            scales = layer.weight_scale, getattr(layer, "weight_zero_point", None)
            args = layer.quantization_scheme.weights
            saved[name] = fake_quantize(layer.weight, *scales, args, getattr(layer, "weight_g_idx", None)).detach()
        return probe(model, tokenizer)

    monkeypatch.setattr(_compress, "probe_logits", spy)
    monkeypatch.setenv("TILTMETER_CACHE", str(tmp_path))  # the artifact is made here
    variant = apply.load(stories, parse(strategy))
    [step] = variant.proof["steps"].values()
    assert step["quantized_layers"] == step["layers"] == 14
    assert scheme in step["scheme"]
    assert step["lm_head_untouched"] is True
    reloaded = weights(variant.model)
    assert saved.keys() == reloaded.keys()
    assert all(torch.equal(saved[name], reloaded[name]) for name in saved)
    assert variant.proof["reload_difference"] <= 1e-4
    assert variant.proof["largest_logit_change"] > 0.01


def test_four_bit_weights_have_sixteen_levels_per_group(stories):
    variant = apply.load(stories, parse("w4a16"))
    groups = variant.model.model.layers[0].mlp.down_proj.weight.reshape(-1, 128)  # 128 x 384 in groups of 128
    assert max(len(row.unique()) for row in groups) <= 16


@pytest.mark.parametrize("chain", ["wanda-2:4+w4a16", "wanda-2:4+fp8", "sparsegpt-2:4+w8a8", f"wanda-2:4+awq:{QUICK}"])
def test_quantizers_that_may_follow_two_four_keep_its_pattern(stories, chain):
    pruner, quantizer = chain.split("+")
    variant = apply.load(stories, parse(f"{pruner}:{QUICK}+{quantizer}"))
    for weight in weights(variant.model).values():
        assert bool(((weight == 0).reshape(-1, 4).sum(dim=1) >= 2).all())


def test_a_quantizer_that_destroys_two_four_is_caught(stories, monkeypatch):
    """GPTQ after 2:4 is refused before loading; were it let through, the measured pattern would show it."""
    from tiltmeter.strategies.gptq import GPTQ

    chain = parse(f"wanda-2:4:{QUICK}")
    forced = type(chain)((*chain.parts, GPTQ(samples=4, length=64)))
    with pytest.raises(DidNothing, match="destroyed the 2:4 pattern"):
        apply.load(stories, forced)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("wanda-2:4+gptq", "undoes the pruning"),
        ("wanda+gptq", "undoes the pruning"),
        ("awq+int4", "quantized the weights already"),
        ("awq+gptq", "quantized the weights already"),
        ("int4+wanda", "comes before int4"),
        ("fp8+sparsegpt-2:4", "comes before fp8"),
        ("wanda+sparsegpt", "prune again"),
        ("dtype:bfloat16+dynamic-int8", "float32 only"),
        ("kv4:read=transformers+assisted", "rejected guess"),
    ],
)
def test_an_order_that_cannot_work_is_refused_with_its_reason(typed, reason):
    with pytest.raises(UserError, match=reason):
        parse(typed)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("wanda:sparsity=1.5", "between 0 and 1"),
        ("magnitude:sparsity=0", "between 0 and 1"),
        ("wanda:sparsity=nan", "a finite number"),
        ("awq:bits=1", "bits is 2 to 8"),
        ("gptq:group_size=0", "at least 1"),
        ("w8a8:smooth=2", "between 0 and 1"),
        ("wanda:samples=0", "at least 1"),
        ("wanda-2:4:sparsity=0.5", "no setting 'sparsity'"),
        ("assisted:guesses=0", "at least 1"),
    ],
)
def test_an_impossible_setting_is_named(typed, says):
    with pytest.raises(UserError, match=says):
        parse(typed)


@pytest.mark.parametrize("strategy", ["awq", "gptq", "w4a16"])
def test_a_group_size_that_cannot_fit_names_the_layer_and_the_sizes_that_do(shared, strategy):
    with pytest.raises(UserError) as caught:  # stories260k: layers of 64 and 172 inputs
        apply.load(str(shared / "models" / "stories260k"), parse(strategy))
    assert "model.layers.0.self_attn.q_proj: it has 64 inputs" in caught.value.message
    assert caught.value.fix.endswith("4")
    variant = apply.load(str(shared / "models" / "stories260k"), parse("w4a16:group_size=4"))
    assert variant.proof["steps"]["w4a16"]["quantized_layers"] == 35


def test_a_model_without_the_layers_a_method_knows(tmp_path, stories):
    """GPT-2 keeps its weights in Conv1D, which these methods do not know."""
    import shutil
    from pathlib import Path

    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=2048, n_positions=64, eos_token_id=1, bos_token_id=1)
    ).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(stories) / name, tmp_path / name)
    with pytest.raises(UserError, match="this gpt2 model has none"):
        apply.load(str(tmp_path), parse("magnitude"))


def test_nothing_is_cached_when_memory_runs_out_half_way(stories, monkeypatch, tmp_path):
    def full(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(_compress, "oneshot", full)
    with pytest.raises(UserError, match="does not fit into the memory"):
        apply.load(stories, parse("w4a16"), cache_dir=tmp_path)
    from tiltmeter.models.artifacts import Artifacts

    assert Artifacts(tmp_path).entries() == []


def test_a_damaged_artifact_is_noticed(stories, tmp_path):
    from safetensors.torch import load_file, save_file

    from tiltmeter.models.artifacts import Artifacts

    apply.load(stories, parse("magnitude"), cache_dir=tmp_path)
    [artifact] = [a for a in Artifacts(tmp_path).entries() if a.key["kind"] == "compressed checkpoint"]
    file = artifact.path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] *= 2
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(LoadFailed, match="tiltmeter cache clear"):
        apply.load(stories, parse("magnitude"), cache_dir=tmp_path)


def test_libraries_keep_stdout_clean_for_results(stories, capfd):
    apply.load(stories, parse("w4a16:group_size=64"))
    out, err = capfd.readouterr()
    assert out == ""
    assert "it/s" not in err
