"""GGUF files answer as the weights they stand for, beside the base they were made from, or are refused in time.

The files are written by hand (`gguf_checkpoints`); what their blocks stand for is written there in plain loops.
"""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_checkpoints import llama, write_gguf, write_other, write_qwen35
from packaging.version import Version
from quantized_checkpoints import edit

from tiltmeter.errors import UserError
from tiltmeter.messages import json_default
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.difference import READS_TOKENS, WRITES, Difference, incomparable
from tiltmeter.models.resolve import resolve
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.pipeline import run
from tiltmeter.report.words import Words
from tiltmeter.results.document import read_results
from tiltmeter.strategies.base import DidNothing
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply
from tiltmeter.variants.ready_made import describe, differences

IDS = torch.tensor([[1, 80, 147, 201, 282]])
LAYERS = {"model.layers": "Q4_K"}


@pytest.fixture(scope="module")
def stories(shared: Path) -> Path:
    return shared / "models" / "tinystories-656k"


@pytest.fixture(scope="module")
def base(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("gguf") / "base", stories)


def load(file: Path, base: Path, **options) -> LoadedVariant:
    return apply.load(str(file), parse("none"), base=str(base), **options)


def logits(variant: LoadedVariant) -> torch.Tensor:
    with torch.inference_mode():
        return variant.model(IDS).logits


def refusal(file: Path | str, base: Path | None) -> UserError:
    with pytest.raises(UserError) as caught:
        resolve(str(file), base and str(base))
    return caught.value


@pytest.mark.parametrize("name", ["stories260k", "tinystories-656k"])
def test_a_file_in_full_precision_is_the_base_itself(shared, tmp_path, name):
    """So rotary rows, tied embeddings, positions and the norm's epsilon come back as they were."""
    original = shared / "models" / name
    write_gguf(original, tmp_path / "model.gguf")
    variant = load(tmp_path / "model.gguf", original)
    assert torch.equal(logits(variant), logits(apply.load(str(original), parse("none"))))
    assert variant.proof["converted"]["quantized_layers"] == 0
    assert differences(str(original), str(tmp_path / "model.gguf")) == []
    with pytest.raises(DidNothing, match="exactly as"):
        describe(variant, str(original))


QUANTIZED = {
    "Q8_0": {"model.layers": "Q8_0", "lm_head": "Q8_0", "model.embed_tokens": "Q8_0"},
    "Q4_0": {"model.layers": "Q4_0"},
    "Q4_K and Q6_K": {
        "model.layers.0.mlp.down_proj": "Q6_K",
        "model.layers.0.self_attn.v_proj": "Q6_K",
        "model.layers": "Q4_K",
    },
}


@pytest.mark.parametrize("case", QUANTIZED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_are_those_that_the_blocks_stand_for(base, tmp_path, case, dtype):
    kinds = {f"{start}": kind for start, kind in QUANTIZED[case].items()}
    norms = dict.fromkeys(["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"])
    expected = write_gguf(base, tmp_path / "model.gguf", kinds=norms | kinds)
    held = load(tmp_path / "model.gguf", base, dtype=dtype).model.state_dict()
    assert set(held) == set(expected)
    for name, weight in expected.items():
        assert torch.equal(held[name], weight.to(getattr(torch, dtype))), name


def test_the_hand_written_blocks_mean_what_llama_cpps_own_package_says():
    """So that the test above does not rest on a mistake of ours that cancels."""
    import gguf
    from gguf_checkpoints import BLOCKS, random_blocks, stands_for

    for kind in BLOCKS:
        blocks = random_blocks(kind, np.random.default_rng(0), 4)
        theirs = gguf.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        assert np.array_equal(theirs.reshape(-1), np.array(stands_for(kind, blocks), dtype=np.float32)), kind
    quantized = gguf.quantize(np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32), gguf.GGMLQuantizationType.Q8_0)
    assert np.allclose(stands_for("Q8_0", quantized), np.linspace(-1, 1, 64), atol=1 / 127)


def test_mistral_is_kept_under_llamas_name_and_runs_as_its_base(stories, tmp_path):
    base = llama(tmp_path / "mistral", stories, model_type="mistral", sliding_window=64)
    write_gguf(base, tmp_path / "model.gguf")
    variant = load(tmp_path / "model.gguf", base)
    assert variant.model.config.model_type == "mistral" and variant.model.config.sliding_window == 64
    assert torch.equal(logits(variant), logits(apply.load(str(base), parse("none"))))
    assert differences(str(base), str(tmp_path / "model.gguf")) == []


def test_what_a_file_cannot_say_is_the_bases(stories, tmp_path):
    """transformers alone would run this file with SiLU, the default of its class."""
    base = llama(tmp_path / "base", stories, hidden_act="gelu")
    write_gguf(base, tmp_path / "model.gguf")
    variant = load(tmp_path / "model.gguf", base)
    assert variant.model.config.hidden_act == "gelu"
    assert torch.equal(logits(variant), logits(apply.load(str(base), parse("none"))))


OTHERS = {
    "qwen2": {"num_key_value_heads": 2},
    "qwen3": {"head_dim": 32},
    "phi3": {"pad_token_id": 0},
    "gemma2": {
        "head_dim": 64,
        "query_pre_attn_scalar": 100,
        "attn_logit_softcapping": 7.0,
        "tie_word_embeddings": True,
    },
    "gemma3_text": {"head_dim": 64, "query_pre_attn_scalar": 100},
    "stablelm": {"partial_rotary_factor": 0.5, "layer_norm_eps": 1e-3},
    "starcoder2": {"norm_epsilon": 1e-3},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_come_back_too(stories, tmp_path, kind):
    base = llama(tmp_path / "base", stories, model_type=kind, **OTHERS[kind])
    write_other(base, tmp_path / "model.gguf")
    variant = load(tmp_path / "model.gguf", base)
    torch.testing.assert_close(logits(variant), logits(apply.load(str(base), parse("none"))), rtol=0, atol=1e-4)
    assert differences(str(base), str(tmp_path / "model.gguf")) == []


@pytest.mark.skipif(Version(version("transformers")) < Version("5.17"), reason="transformers reads none before 5.17")
def test_qwen_3_5_comes_back_from_its_tiled_heads(stories, tmp_path):
    """Half its layers have no attention; llama.cpp's converter turns their value heads round and stores -exp(A)."""
    base = llama(tmp_path / "base", stories, model_type="qwen3_5_text", **QWEN35)
    write_qwen35(base, tmp_path / "model.gguf")
    variant = load(tmp_path / "model.gguf", base)
    torch.testing.assert_close(logits(variant), logits(apply.load(str(base), parse("none"))), rtol=0, atol=1e-4)
    assert differences(str(base), str(tmp_path / "model.gguf")) == []


QWEN35 = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 64,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
}


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def llama3_factors(head: int) -> np.ndarray:
    """Long waves are stretched 8 times, short ones not at all, those between by degrees (Llama 3.1's definition)."""
    factors = []
    for i in range(head // 2):
        wave = 2 * np.pi * 10000 ** (2 * i / head)
        if wave < 64 / 4:
            factors.append(1.0)
        elif wave > 64 / 1:
            factors.append(8.0)
        else:
            smooth = (64 / wave - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / 8 + smooth))
    return np.array(factors, dtype=np.float32)


def test_llama_3_scales_its_positions_as_the_base_does(stories, tmp_path):
    """transformers alone leaves the factors out: the same weights at other positions, without a word."""
    base = llama(tmp_path / "base", stories, rope_parameters=LLAMA3)
    factors = llama3_factors(64)
    assert len(set(factors)) > 3
    write_gguf(base, tmp_path / "model.gguf", extra={"rope_freqs.weight": factors})
    variant = load(tmp_path / "model.gguf", base)
    assert torch.equal(logits(variant), logits(apply.load(str(base), parse("none"))))
    write_gguf(base, tmp_path / "other.gguf", extra={"rope_freqs.weight": factors * 2})
    assert "factors in rope_freqs.weight are not the base's" in refusal(tmp_path / "other.gguf", base).message
    write_gguf(base, tmp_path / "old.gguf")
    refused = refusal(tmp_path / "old.gguf", base)
    assert "kind 'llama3', of which the file has no rope_freqs.weight" in refused.message
    assert "convert it anew" in refused.fix


@pytest.mark.parametrize(
    ("in_base", "in_file", "fits"),
    [
        ({"rope_type": "linear", "factor": 2.0}, {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}, True),
        ({"rope_type": "linear", "factor": 2.0}, {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, False),
        ({"rope_type": "linear", "factor": 2.0}, {}, False),
        ({}, {"rope.scaling.type": "none"}, True),
        ({}, {"rope.scaling.type": "linear", "rope.scaling.factor": 1.0}, True),
        ({}, {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, False),
    ],
)
def test_a_scale_of_positions_is_held_to_the_base(stories, tmp_path, in_base, in_file, fits):
    base = llama(tmp_path / "base", stories, rope_parameters={"rope_type": "default", "rope_theta": 10000.0} | in_base)
    write_gguf(base, tmp_path / "model.gguf", **in_file)
    if fits:
        variant = load(tmp_path / "model.gguf", base)
        assert torch.equal(logits(variant), logits(apply.load(str(base), parse("none"))))
    else:
        assert "scales its rotary positions otherwise" in refusal(tmp_path / "model.gguf", base).message


def test_an_output_head_of_its_own_is_used_though_the_base_ties_it(shared, tmp_path):
    stories = shared / "models" / "stories260k"
    head = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
    write_gguf(stories, tmp_path / "model.gguf", extra={"output.weight": head})
    variant = load(tmp_path / "model.gguf", stories)
    assert torch.equal(variant.model.lm_head.weight, torch.from_numpy(head))
    assert not torch.equal(variant.model.lm_head.weight, variant.model.model.embed_tokens.weight)


def test_the_proof_names_types_and_size_and_the_file_is_converted_once(base, tmp_path):
    file, said = tmp_path / "model.Q4_K_M.gguf", []
    norms = dict.fromkeys(["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"])
    write_gguf(base, file, kinds=norms | {"model.layers.0.mlp.down_proj": "Q6_K"} | LAYERS)
    for _ in range(2):
        variant = load(file, base, cache_dir=tmp_path / "cache", progress=said.append)
    assert len([line for line in said if line.startswith("converting")]) == 1
    assert describe(variant, str(base)) == []
    assert str(variant.proof["summary"]).startswith(
        "ready-made checkpoint, GGUF (tensors 6 × Q4_K, 1 × Q6_K, 5 × F32): 7 of 8 linear layers quantized; read as "
        "the weights the file stands for, where llama.cpp also rounds activations and has a KV cache of its own; "
        "simulated: no speed measured here; largest logit change on probe prompts "
    )
    told = Words("zh").told(variant.proof["summary"])
    assert told.startswith("现成检查点，GGUF（张量 6 × Q4_K, 1 × Q6_K, 5 × F32）：8 个线性层中已量化 7 个")
    assert not told.foreign
    assert variant.proof["converted"]["types"] == {"Q4_K": 6, "Q6_K": 1, "F32": 5}
    assert variant.proof["checkpoint_bytes"] == file.stat().st_size
    assert variant.eos_ids == {2} and variant.max_length == 256
    json.dumps(variant.proof, default=json_default)
    [artifact] = [each for each in Artifacts(tmp_path / "cache").entries() if "loading" in each.title]
    assert artifact.title == f"{file} · gguf, for loading"
    assert artifact.key["weights"] == variant.weight_hash == apply.fingerprint(str(file), str(base))


def test_a_variant_is_known_by_the_content_of_its_file_and_the_tokenizer_that_asks(base, tmp_path):
    write_gguf(base, tmp_path / "a.gguf", kinds={"lm_head": "Q8_0"})
    write_gguf(base, tmp_path / "c.gguf", kinds={"lm_head": "Q8_0"}, seed=1)
    shutil.copyfile(tmp_path / "a.gguf", tmp_path / "b.gguf")
    shutil.copytree(base, tmp_path / "moved")
    known = apply.fingerprint(str(tmp_path / "a.gguf"), str(base))
    assert apply.fingerprint(str(tmp_path / "b.gguf"), str(tmp_path / "moved")) == known
    assert apply.fingerprint(str(tmp_path / "c.gguf"), str(base)) != known
    edit(tmp_path / "moved", "tokenizer_config.json", add_bos_token=False)
    assert apply.fingerprint(str(tmp_path / "b.gguf"), str(tmp_path / "moved")) != known


def test_what_llama_cpp_would_ask_otherwise_is_named_and_makes_nothing_incomparable(base, tmp_path):
    write_gguf(
        base,
        tmp_path / "model.gguf",
        **{
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.ggml.eos_token_id": 7,
            "tokenizer.chat_template": "{{ messages }}\x1b[2J",
            "attention.layer_norm_rms_epsilon": 1e-3,
            "context_length": 128,
        },
    )
    found = {str(each.text): each for each in differences(str(base), str(tmp_path / "model.gguf"))}
    assert set(found) == {
        "llama.cpp would not open texts with a BOS token, here both are asked as the base's tokenizer does",
        "the EOS token of the GGUF file is 7 instead of 2, here both run with the base's",
        "the GGUF file has another chat template, here both are asked with the base's",
        "the GGUF file runs as it says (rms_norm_eps 0.0010000000474974513 instead of 1e-06)",
        "context length 128 instead of 256: what fits one only is unscored in the other",
    }
    assert not any(each.incomparable for each in found.values())
    assert not any(Words("zh").told(each.text).foreign for each in found.values())
    variant = load(tmp_path / "model.gguf", base)
    assert variant.eos_ids == {2} and variant.max_length == 128
    assert variant.model.config.rms_norm_eps == pytest.approx(1e-3)


def vocabulary(base: Path) -> list[str]:
    entries = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(entries, key=entries.get)


def test_another_vocabulary_makes_every_benchmark_incomparable(base, tmp_path):
    """The base's numbers would ask for other words, in answers too."""
    tokens = vocabulary(base)
    write_gguf(base, tmp_path / "model.gguf", tokens=[*tokens[:1000], *reversed(tokens[1000:])])
    [found] = differences(str(base), str(tmp_path / "model.gguf"))
    assert found.about == "tokenizer" and set(found.incomparable) == {*READS_TOKENS, *WRITES}
    assert "another vocabulary (1048 of 2048 tokens are other words)" in str(found.text)
    proof = {"differences": [json.loads(json.dumps(found.as_json()))]}
    assert proof["differences"][0]["text"]["text"] == str(found.text)  # for a version that lost the key
    assert Difference.from_json(proof["differences"][0]) == found
    assert not Words("zh").told(found.text).foreign
    for name, kind in (("worldbench", "generation"), ("crows-pairs", "sequence"), ("anything", "options")):
        assert incomparable(proof, name, kind, "plain") == found.text


def test_a_few_tokens_that_a_converter_spells_otherwise_are_a_note(base, tmp_path):
    tokens = vocabulary(base)
    tokens[500] = "\x1b[31mred"
    tokens[501] = tokens[501].replace("▁", " ")
    write_gguf(base, tmp_path / "model.gguf", tokens=tokens)
    [found] = differences(str(base), str(tmp_path / "model.gguf"))
    assert found.incomparable == ()
    assert (
        f"1 of 2048 tokens are spelled otherwise in the GGUF file (first '\\x1b[31mred' instead of "
        f"{vocabulary(base)[500]!r})" in str(found.text)
    )


def test_values_that_the_run_rounds_are_named(stories, tmp_path):
    """A block's scale times its integer is a number in float32, and of a finer grain than a base in bfloat16."""
    base = llama(tmp_path / "base", stories, dtype="bfloat16")
    write_gguf(base, tmp_path / "model.gguf", kinds={"lm_head": "Q8_0"})
    [found] = describe(load(tmp_path / "model.gguf", base, dtype="bfloat16"), str(base))
    assert found.about == "dtype" and "saved in float32 that are rounded to bfloat16" in found.text
    assert describe(load(tmp_path / "model.gguf", base, dtype="float32"), str(base)) == []


def test_compare_runs_a_file_and_a_second_run_converts_nothing(shared, tmp_path, monkeypatch):
    """hidden 64 takes blocks of 32; the 172 inputs of down_proj do not, so it stays in F32 as llama.cpp keeps such."""
    stories, file = shared / "models" / "stories260k", tmp_path / "model.Q8_0.gguf"
    wide = ("self_attn", "mlp.gate_proj", "mlp.up_proj")
    write_gguf(stories, file, kinds={f"model.layers.{layer}.{part}": "Q8_0" for layer in range(5) for part in wide})
    study = make_study(
        models=[str(stories)],
        checkpoints=[str(file)],
        benchmarks=["crows-pairs", "worldbench"],
        limit=4,
        draws=200,
        data=str(shared / "data"),
        text_quality=False,
        batch_tokens=2048,
    )
    assert run(study, tmp_path / "run").failures == []
    document = read_results(tmp_path / "run")
    assert [row["strategy"] for row in document["rows"]] == ["none"] * 2 + [f"checkpoint={file}"] * 2
    assert all(row["n_items"] for row in document["rows"])
    proof = document["variants"][1]["proof"]
    assert "GGUF (tensors 30 × Q8_0, 17 × F32): 30 of 36 linear layers quantized" in proof["summary"]
    assert document["variants"][1]["weight_hash"] == apply.fingerprint(str(file), str(stories))
    monkeypatch.setattr("tiltmeter.models.formats.gguf.weights._convert", None)
    monkeypatch.setattr("tiltmeter.models.formats.gguf.beside._make", None)
    assert run(study, tmp_path / "again").failures == []
    assert [row["score"] for row in read_results(tmp_path / "again")["rows"]] == [r["score"] for r in document["rows"]]
