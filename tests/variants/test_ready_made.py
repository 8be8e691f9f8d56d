"""Ready-made checkpoints: what differs from the base is named with the benchmarks it makes incomparable."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiltmeter.decisions.gate import evaluate
from tiltmeter.decisions.policy import read_policy
from tiltmeter.errors import UserError
from tiltmeter.messages import json_default
from tiltmeter.models import reading
from tiltmeter.models.difference import READS_TOKENS, WRITES, incomparable, same_tokens
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_document, read_results
from tiltmeter.runs.loading import Loader
from tiltmeter.runs.progress import Silent
from tiltmeter.schema import RunRecord
from tiltmeter.strategies.base import DidNothing
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply
from tiltmeter.variants.ready_made import describe, differences


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "tinystories-656k")


def edit(folder: Path, file: str, **values) -> None:
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps(content))


def test_the_same_model_differs_in_nothing_and_is_no_variant(stories, copy):
    assert differences(stories, str(copy)) == []
    with pytest.raises(DidNothing, match="exactly as"):
        describe(apply.load(str(copy), parse("none")), stories)


def test_another_tokenizer_makes_token_scores_incomparable(stories, shared):
    found = {each.about: each for each in differences(stories, str(shared / "models" / "stories260k"))}
    assert found["tokenizer"].incomparable == READS_TOKENS
    assert "vocabulary of 512 instead of 2048" in found["tokenizer"].text
    assert "hidden_size 64 instead of 128" in found["architecture"].text
    assert found["end tokens"].incomparable == WRITES  # 1 instead of 2


def test_a_tokenizer_that_adds_no_bos_is_another_tokenizer(stories, copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(copy, "tokenizer_config.json", add_bos_token=False, tokenizer_class="PreTrainedTokenizerFast")
    [found] = differences(stories, str(copy))
    assert (found.about, found.incomparable) == ("tokenizer", READS_TOKENS)
    assert "BOS" in found.text


def test_template_end_tokens_and_context_are_each_named(stories, copy):
    edit(copy, "tokenizer_config.json", chat_template="{{ messages[0]['content'] }}")
    edit(copy, "generation_config.json", eos_token_id=[2, 5])
    edit(copy, "config.json", max_position_embeddings=256)
    found = {each.about: each for each in differences(stories, str(copy))}
    assert found["chat template"].chat_only
    assert "only one of the two" in found["chat template"].text
    assert "[2, 5] instead of [2]" in found["end tokens"].text
    assert "256 instead of 512" in found["context length"].text
    assert set(found) == {"chat template", "end tokens", "context length"}


KINDS = [("w4a16", "compressed-tensors"), ("int4", "bitsandbytes"), ("magnitude", None)]


@pytest.mark.parametrize(("strategy", "method"), KINDS)
def test_a_ready_made_checkpoint_answers_as_the_strategy_that_made_it(stories, copy, strategy, method):
    """A saved bitsandbytes checkpoint falls into the AVX512-BF16 trap too, unless the guard covers it."""
    made = apply.load(stories, parse(strategy), cache_dir=copy.parent / "cache")
    for file in copy.glob("*.safetensors"):
        file.unlink()
    if strategy == "int4":
        made.model.save_pretrained(copy)
    else:
        from tiltmeter.models.artifacts import Artifacts

        [artifact] = [a for a in Artifacts(copy.parent / "cache").entries() if a.key.get("strategy") == strategy]
        shutil.copytree(artifact.path / "model", copy, dirs_exist_ok=True)
    variant = apply.load(str(copy), parse("none"))
    ids = torch.tensor([[1, 80, 147, 201, 282]])
    with torch.inference_mode():
        assert torch.equal(variant.model(ids).logits, made.model(ids).logits)
    assert describe(variant, stories) == []
    assert (method or "not quantized") in variant.proof["summary"]
    assert variant.proof["quantized_layers"] == (0 if method is None else 14)
    assert variant.proof["largest_logit_change"] == pytest.approx(made.proof["largest_logit_change"])
    json.dumps(variant.proof, default=json_default)


def test_a_checkpoint_whose_library_is_missing_says_which(copy):
    tensors = load_file(copy / "model.safetensors")
    codes = {"model.layers.0.mlp.up_proj.codes": torch.zeros(4, 4, dtype=torch.int8)}
    save_file(tensors | codes, copy / "model.safetensors", metadata={"format": "pt"})
    edit(copy, "config.json", quantization_config={"quant_method": "aqlm"})
    with pytest.raises(UserError, match="cannot be loaded here") as caught:
        apply.load(str(copy), parse("none"))
    assert "install the package it names" in caught.value.fix


def test_a_quantized_checkpoint_is_not_quantized_again(stories, copy):
    made = apply.load(stories, parse("int4"), cache_dir=copy.parent / "cache")
    (copy / "model.safetensors").unlink()
    made.model.save_pretrained(copy)
    with pytest.raises(UserError, match="quantized already"):
        apply.load(str(copy), parse("int8"))


def test_a_special_token_more_leaves_everything_comparable(stories, copy):
    """Many quantized checkpoints bring a padding token that their base has not; no text is cut otherwise."""
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    padding = {
        "id": 2048,
        "content": "<|padding|>",
        "special": True,
        "normalized": False,
        "lstrip": False,
        "rstrip": False,
        "single_word": False,
    }
    tokenizer["added_tokens"].append(padding)
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(copy, "tokenizer_config.json", pad_token="<|padding|>")
    [found] = differences(stories, str(copy))
    assert (found.about, found.incomparable) == ("tokenizer", ())
    assert "<|padding|>" in found.text


def test_what_makes_a_row_incomparable_depends_on_benchmark_and_format():
    proof = {
        "differences": [
            {"about": "tokenizer", "text": "another tokenizer", "incomparable": ["sequence"], "chat_only": False},
            {"about": "chat template", "text": "chat template", "incomparable": ["worldbench"], "chat_only": True},
        ]
    }
    assert incomparable(proof, "crows-pairs", "sequence", "plain") == "another tokenizer"
    assert incomparable(proof, "worldbench", "generation", "chat") == "chat template"
    assert incomparable(proof, "worldbench", "generation", "plain") is None
    assert incomparable({}, "crows-pairs", "sequence", "plain") is None
    assert not same_tokens(proof) and same_tokens({"differences": proof["differences"][1:]}) and same_tokens({})


def test_a_row_under_another_tokenizer_gets_no_verdict_and_no_gate_passes_it(stories, copy, shared, tmp_path):
    """Whatever its numbers: even a change of 0 must not read as equivalent."""
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None  # no BOS
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(copy, "tokenizer_config.json", add_bos_token=False, tokenizer_class="PreTrainedTokenizerFast")
    study = make_study(
        models=[stories],
        checkpoints=[str(copy)],
        benchmarks=["crows-pairs"],
        limit=6,
        draws=200,
        data=str(shared / "data"),
        text_quality=False,
        batch_tokens=2048,
    )
    assert run(study, tmp_path / "run").failures == []
    [_, row] = read_results(tmp_path / "run")["rows"]
    assert row["score"] is not None and row["change"]["delta"] is not None  # the numbers stay
    assert row["change"]["verdict"] == "no usable signal"
    assert "another tokenizer (the same vocabulary cuts or opens texts differently" in row["change"]["reason"]
    assert row["change"]["p_adjusted"] is None  # and it is no hypothesis among the others
    gate = evaluate(read_document(tmp_path / "run"), read_policy({"default": {"allow_partial": True}}))
    assert gate.exit_code == 3 and [check.status for check in gate.checks] == ["unjudged"]


def test_a_checkpoint_runs_in_the_type_of_its_base(stories, copy, tmp_path, monkeypatch):
    """Where "auto" means the checkpoint's own type, a bfloat16 base and a float16 variant both run in bfloat16."""
    base = tmp_path / "base"
    shutil.copytree(copy, base)
    edit(base, "config.json", dtype="bfloat16")
    edit(copy, "config.json", dtype="float16")
    monkeypatch.setattr(reading, "pick_device", lambda device: "cuda")
    asked = []
    monkeypatch.setattr(apply, "load", lambda source, chain, **settings: asked.append(settings["dtype"]))
    monkeypatch.setattr("tiltmeter.backends.transformers.describe", lambda variant, base: None)
    study = make_study(models=[str(base)], checkpoints=[str(copy)], benchmarks=["crows-pairs"])
    loader = Loader(study, RunRecord(), tmp_path / "run.json", Silent())
    for spec in study.variants():
        loader.load(spec)
    assert asked == ["bfloat16", "bfloat16"]
    assert loader.identity(str(copy)).dtype == "bfloat16"  # what the answers are stored under
    other = Loader(make_study(models=[str(copy)]), RunRecord(), tmp_path / "run.json", Silent())
    assert other.identity(str(copy)).dtype == "float16"  # alone, it has its own


def test_values_that_the_run_rounds_are_named(stories, copy):
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    save_file({name: tensor.half() + 0.01 for name, tensor in tensors.items()}, copy / "model.safetensors")
    variant = apply.load(str(copy), parse("none"), dtype="bfloat16")
    [found] = describe(variant, stories)
    assert found.about == "dtype" and found.incomparable == ()
    assert "saved in float16 that are rounded to bfloat16" in found.text and found.text in variant.notes
    assert describe(apply.load(str(copy), parse("none"), dtype="float32"), stories) == []


def test_fp8_in_blocks_that_loading_turns_dense_is_proved_as_it_is_stored(stories, copy):
    """Blocks of 64 x 128 with a float32 scale each, as DeepSeek and Qwen publish them."""
    tensors = load_file(copy / "model.safetensors")
    for name in [name for name in tensors if ".layers." in name and name.endswith("proj.weight")]:
        n_out, n_in = tensors[name].shape
        blocks = tensors[name].float().reshape(n_out // 64, 64, n_in // 128, 128)
        scale = blocks.abs().amax(dim=(1, 3)) / 448  # the largest number of E4M3
        whole = (blocks / scale[:, None, :, None]).reshape(n_out, n_in)
        tensors[name], tensors[f"{name}_scale_inv"] = whole.to(torch.float8_e4m3fn), scale
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [64, 128], "fmt": "e4m3"}
    edit(copy, "config.json", quantization_config=settings)
    variant = apply.load(str(copy), parse("none"))
    describe(variant, stories)
    assert (variant.proof["method"], variant.proof["quantized_layers"]) == ("fp8", 14)
    summary = str(variant.proof["summary"])
    assert "fp8: 14 of 15 linear layers quantized" in summary
    assert "turned dense on loading" in summary
    assert "simulated" in summary
    assert 0 < variant.proof["largest_logit_change"] < 2


def test_a_scheme_for_the_kv_cache_alone_is_named_and_leaves_the_weights_unquantized(stories, copy):
    tensors = load_file(copy / "model.safetensors")
    for layer in range(2):
        for part in ("k_scale", "v_scale"):
            tensors[f"model.layers.{layer}.self_attn.{part}"] = torch.tensor([0.5])
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True, "dynamic": False}
    settings = {"format": "dense", "config_groups": {}, "kv_cache_scheme": scheme}
    edit(copy, "config.json", quantization_config={"quant_method": "compressed-tensors", **settings})
    variant = apply.load(str(copy), parse("none"))
    describe(variant, stories)
    assert variant.proof["quantized_layers"] == 0
    assert "KV cache" in str(variant.proof["summary"])
