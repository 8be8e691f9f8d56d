"""drop-layers and reap: what is gone, what is left, and that a smaller model writes and chains like any other."""

import shutil
from pathlib import Path

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.models import linear
from tiltmeter.strategies import reap
from tiltmeter.strategies.base import LoadFailed
from tiltmeter.strategies.chain import parse
from tiltmeter.strategies.drop_layers import DropLayers
from tiltmeter.variants import apply

QUICK = "samples=4,length=64"
SIZES = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
MIXTURES = {
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "head_dim": 16,
        "norm_topk_prob": True,
    },
}


def random_model(kind: str, folder: Path, stories: str, **settings) -> str:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **settings)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, folder / file.name)
    return str(folder)


@pytest.fixture(scope="module")
def deep(stories, tmp_path_factory) -> str:
    """Five blocks, of which two slide a window."""
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    folder = tmp_path_factory.mktemp("deep")
    return random_model(
        "Qwen2", folder, stories, num_hidden_layers=5, layer_types=kinds, use_sliding_window=True, sliding_window=16
    )


def greedy(variant, count: int) -> tuple[list[int], list[int]]:
    """New ids through the cache, and without one."""
    ids = variant.tokenizer("Once upon a time there was a little dog", return_tensors="pt").input_ids
    with torch.inference_mode():
        cached = variant.model.generate(ids, do_sample=False, min_new_tokens=count, max_new_tokens=count)
        plain = ids
        for _ in range(count):
            logits = variant.model(plain, use_cache=False).logits[:, -1]
            logits[:, list(variant.eos_ids)] = -torch.inf  # as min_new_tokens does
            plain = torch.cat([plain, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return cached[0].tolist(), plain[0].tolist()


@pytest.mark.parametrize(
    ("strategy", "gone"),
    [("drop-layers", [2]), ("drop-layers:n=2", [1, 2]), ("drop-layers:n=2,from=end", [3, 4])],
)
def test_the_blocks_that_go_are_gone_and_the_others_stay_in_their_order(deep, strategy, gone):
    base = apply.load(deep, parse("none"))
    variant = apply.load(deep, parse(strategy))
    left = [number for number in range(5) if number not in gone]
    for new, old in enumerate(left):
        ours, theirs = variant.model.model.layers[new], base.model.model.layers[old]
        assert all(a.equal(b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
        assert ours.self_attn.layer_idx == new
    types = base.model.config.layer_types
    assert variant.model.config.layer_types == [types[number] for number in left]
    step = variant.proof["steps"]["drop-layers"]
    assert step["dropped_blocks"] == gone
    assert step["removed_share"] == pytest.approx(len(gone) / 5)
    assert variant.proof["reload_difference"] <= 1e-4


def test_a_shallower_model_writes_through_its_cache_what_it_writes_without(deep):
    """A block that kept its old number would write to the cache of another: IndexError, or another text."""
    cached, plain = greedy(apply.load(deep, parse("drop-layers:n=2")), 12)
    assert cached == plain


def test_a_block_that_keeps_its_old_number_is_caught_while_it_is_made(deep, monkeypatch, tmp_path):
    original = DropLayers._slice

    def forgetful(self, model):
        numbers = {id(m): m.layer_idx for m in model.modules() if hasattr(m, "layer_idx")}
        original(self, model)
        for module in model.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = numbers[id(module)]

    monkeypatch.setattr(DropLayers, "_slice", forgetful)
    with pytest.raises((LoadFailed, IndexError)):
        apply.load(deep, parse("drop-layers:from=middle,n=2"), cache_dir=tmp_path)


def test_what_follows_counts_the_smaller_model(deep):
    variant = apply.load(deep, parse("drop-layers:n=2+w4a16:group_size=64+kv8"))
    steps = variant.proof["steps"]
    assert steps["w4a16"]["quantized_layers"] == 3 * 7
    assert steps["kv8"]["layers"] == 3
    assert variant.proof["changed_share_of_block_weights"] == 1.0
    with pytest.raises(UserError, match="comes before w4a16"):
        parse("w4a16+drop-layers")


def test_a_model_is_left_with_a_block(stories):
    [error] = apply.refusals(
        stories, [parse("drop-layers:n=2")], device="cpu", dtype="float32", calibration=None
    ).values()
    assert "n=2 of 2 decoder blocks leaves none" in error.message


@pytest.mark.parametrize("kind", MIXTURES)
def test_reap_takes_whole_experts_out_and_reads_back_what_it_saved(kind, stories, tmp_path):
    folder = random_model(kind, tmp_path / "m", stories, num_hidden_layers=2, **MIXTURES[kind])
    base = apply.load(folder, parse("none")).model
    variant = apply.load(folder, parse(f"reap:{QUICK}"))
    step = variant.proof["steps"]["reap"]
    assert (step["experts_before"], step["experts"]) == (4, 3)
    assert variant.proof["reload_difference"] <= 1e-4
    for name, weight in linear.experts(variant.model).items():
        before = linear.experts(base)[name]
        kept = [any(expert.equal(old) for old in before) for expert in weight]
        assert kept == [True, True, True]  # experts go, none is changed
    sizes = [reap_parameters(model) for model in (base, variant.model)]
    assert step["removed_share"] == pytest.approx(1 - sizes[1] / sizes[0])


@pytest.mark.parametrize("after", ["kv8", "magnitude", "int4"])
def test_what_follows_reap_works_on_the_experts_that_are_left(after, stories, tmp_path):
    folder = random_model("Qwen3Moe", tmp_path, stories, num_hidden_layers=2, **MIXTURES["Qwen3Moe"])
    alone = apply.load(folder, parse(f"reap:{QUICK}"))
    variant = apply.load(folder, parse(f"reap:{QUICK}+{after}"))
    assert variant.model.config.num_experts == 3
    assert variant.proof["largest_logit_change"] != alone.proof["largest_logit_change"]
    if after != "kv8":  # the router alone is left as it is
        assert variant.proof["changed_share_of_block_weights"] > 0.95


def reap_parameters(model) -> int:
    return sum(weight.numel() for weight in linear.block_weights(model).values())


def test_mixtrals_experts_under_the_librarys_names_are_refused_not_drawn_at_random(stories, tmp_path, monkeypatch):
    folder = random_model("Mixtral", tmp_path / "m", stories, num_hidden_layers=2, **MIXTURES["Mixtral"])
    monkeypatch.setattr(reap, "_rename_mixtral", lambda folder: None)
    with pytest.raises((UserError, LoadFailed)):
        apply.load(folder, parse(f"reap:{QUICK}"), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("sparsity", "says"), [(0.2, "takes 0 of 4 experts"), (0.75, "takes 3 of 4 experts; the router chooses 2")]
)
def test_a_share_that_takes_no_expert_or_too_many_is_refused(stories, tmp_path, sparsity, says):
    folder = random_model("Qwen3Moe", tmp_path, stories, num_hidden_layers=2, **MIXTURES["Qwen3Moe"])
    chain = parse(f"reap:sparsity={sparsity}")
    [error] = apply.refusals(folder, [chain], device="cpu", dtype="float32", calibration=None).values()
    assert says in error.message


def test_a_dense_model_has_no_experts_to_take_out(stories):
    [error] = apply.refusals(stories, [parse("reap")], device="cpu", dtype="float32", calibration=None).values()
    assert "this llama model has none" in error.message and "drop-layers" in error.fix
