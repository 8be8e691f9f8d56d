"""Where a model enters: what cannot be taken as it is stored is refused with file, layer and fix, before any weight is
read; what only running shows is refused by the first forward."""

import json
import os
import shutil

import pytest
import torch
from entering import LAYER, change, configure, enter, refused
from safetensors.torch import load_file

from tiltmeter.errors import UserError
from tiltmeter.models import reading
from tiltmeter.models.folders import fingerprint_folder
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply


def test_a_sound_checkpoint_enters(copy):
    enter(copy)


def test_tensors_that_are_missing_misshapen_or_without_a_place_are_named_with_their_layer(copy):
    whole = (copy / "model.safetensors").read_bytes()
    change(copy, lambda t: t.pop(LAYER))
    assert f"lacks {LAYER}" in refused(copy)
    (copy / "model.safetensors").write_bytes(whole)
    change(copy, lambda t: t.update({LAYER: t[LAYER][:, :-8]}))
    assert f"model.safetensors: {LAYER} is (128, 376), where config.json makes it (128, 384)" in refused(copy)
    (copy / "model.safetensors").write_bytes(whole)
    change(copy, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(128)}))
    text = refused(copy)
    assert "model.safetensors: model.layers.0.self_attn.q_proj.bias" in text
    assert "dropped" in text
    (copy / "model.safetensors").write_bytes(whole)
    configure(copy, num_hidden_layers=1)
    assert "model.layers.1." in refused(copy)


def test_weights_under_another_prefix_are_recognized(copy):
    def rename(tensors):
        for name in list(tensors):
            tensors[f"base_model.model.{name}"] = tensors.pop(name)

    change(copy, rename)
    assert "under another prefix" in refused(copy)


def test_fp8_weights_without_their_configuration_are_refused_with_and_without_scales(copy):
    def shrink(tensors, scale: bool = True):
        for name in [name for name in tensors if "layers" in name and name.endswith("proj.weight")]:
            top = tensors[name].float().abs().max() / 448
            tensors[name] = (tensors[name].float() / top).to(torch.float8_e4m3fn)
            if scale:
                tensors[f"{name}_scale"] = top.reshape(1)

    whole = (copy / "model.safetensors").read_bytes()
    for scale in (True, False):
        (copy / "model.safetensors").write_bytes(whole)
        change(copy, lambda tensors, scale=scale: shrink(tensors, scale))
        assert "quantization_config" in refused(copy)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", "git-lfs pointer"),
        (b"\x80\x04K\x01.", "no safetensors file"),
        (b"\xff" * 64, "no safetensors file"),
        (b"", "no safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "no safetensors file"),
    ],
)
def test_a_weight_file_that_is_something_else_is_named(copy, content, said):
    (copy / "model.safetensors").write_bytes(content)
    assert said in refused(copy)


def test_a_file_cut_in_half_says_how_much_there_is(copy):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert f"holds {len(content) // 2:,} of {len(content):,} bytes" in refused(copy)


@pytest.mark.parametrize(
    "edit",
    [
        lambda h: h[LAYER].update(data_offsets=h["model.layers.0.mlp.down_proj.weight"]["data_offsets"]),
        lambda h: h[LAYER].update(shape=[-1, 2]),
        lambda h: h[LAYER].update(shape=[10**18, 10**18]),
        lambda h: h[LAYER].update(dtype="Q4_K"),
        lambda h: h[LAYER].update(data_offsets=[10, 5]),
        lambda h: h.update({LAYER: 3}),
    ],
    ids=["same bytes twice", "negative size", "more than memory", "unknown type", "backwards", "a number"],
)
def test_a_header_that_lies_says_to_fetch_the_file_again(copy, edit):
    content = (copy / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    made = json.dumps(header).encode()
    (copy / "model.safetensors").write_bytes(len(made).to_bytes(8, "little") + made + content[8 + length :])
    with pytest.raises(UserError) as caught:
        enter(copy)
    assert "model.safetensors is " in caught.value.message
    assert "fetch the file again" in caught.value.fix


@pytest.mark.parametrize("kind", [torch.bool, torch.complex64, torch.int8, torch.uint8, torch.float8_e5m2])
def test_a_weight_of_a_type_that_holds_no_weight_in_full_is_refused_without_settings(copy, kind):
    change(copy, lambda t: t.update({LAYER: t[LAYER].to(kind)}))
    assert LAYER in refused(copy)


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8])
def test_masks_that_older_models_keep_beside_their_weights_are_no_weights(copy, kind):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=2048, eos_token_id=2, **sizes)).save_pretrained(copy)
    mask = torch.ones(1, 1, 64, 64).tril().to(kind)
    change(copy, lambda t: t.update({f"gpt_neox.layers.{n}.attention.bias": mask.clone() for n in range(2)}))
    enter(copy)
    loaded, saved = reading.load_model(copy, "float32", "cpu"), load_file(copy / "model.safetensors")
    kept = [name for name, _ in loaded.named_parameters() if name in saved]
    assert len(kept) > 20 and all(torch.equal(saved[name], loaded.get_parameter(name)) for name in kept)


@pytest.mark.parametrize(
    "settings",
    [
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {"quant_method": "mxfp4"},
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4, "group_size": 128},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "no-such-method"},
    ],
    ids=lambda settings: settings["quant_method"],
)
def test_settings_of_quantized_weights_over_full_ones_are_refused(copy, settings):
    configure(copy, quantization_config=settings)
    text = refused(copy)
    assert settings["quant_method"] in text.lower()


@pytest.mark.parametrize("settings", [[1], "int4", 4, True])
def test_settings_that_are_none_are_refused(copy, settings):
    configure(copy, quantization_config=settings)
    assert refused(copy)


@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("token", [2048, [2, 99999], -1])
def test_an_end_token_that_the_model_cannot_write_is_refused(copy, where, token):
    (copy / "generation_config.json").write_text("{}")
    configure(copy, file=where, eos_token_id=token)
    assert "eos_token_id" in refused(copy)


def test_zeros_alone_are_a_note_of_the_run(copy):
    change(copy, lambda t: t.update({name: torch.zeros_like(t[name]) for name in t if "layers.1.mlp" in name}))
    notes = [str(note) for note in apply.load(str(copy), parse("none"), device="cpu").notes]
    assert [note for note in notes if "nothing but zeros" in note and note.startswith("3 weight matrices")]


def test_weights_that_keep_size_and_time_get_another_hash(copy):
    file = copy / "model.safetensors"
    before, stat = fingerprint_folder(copy), file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    assert fingerprint_folder(copy) != before


@pytest.mark.parametrize(
    "name",
    [
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "adapters.safetensors",
        "pytorch_lora_weights.safetensors",
    ],
)
def test_an_adapter_is_not_left_out_without_a_word(copy, name):
    (copy / name).write_bytes(b"{}")
    text = refused(copy)
    assert name in text
    assert "merge" in text


@pytest.mark.parametrize("part", ["base_layer.weight", "lora_A.default.weight"])
def test_names_of_a_model_that_still_wears_its_adapter_say_to_merge_it(copy, part):
    name = "model.layers.0.self_attn.q_proj"
    change(copy, lambda t: t.update({f"{name}.{part}": t.pop(f"{name}.weight")}))
    with pytest.raises(UserError) as caught:
        enter(copy)
    assert name in caught.value.message
    assert "merge" in caught.value.fix


def test_a_tokenizer_larger_than_the_embedding_is_refused(copy):
    change(copy, lambda t: t.update({k: t[k][:1300] for k in list(t) if t[k].shape[0] == 2048}))
    configure(copy, vocab_size=1300)
    assert "2048 entries, the model 1300" in refused(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{bad json"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "no-such-model"}'),
        ("config.json", "[" * 100_000),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"version": "1.0", "model": {"type": "BPE"}}'),
        ("tokenizer_config.json", '{"tokenizer_class": 3}'),
    ],
)
def test_files_that_make_no_sense_are_no_traceback(copy, file, content):
    (copy / file).write_text(content)
    assert "m" in refused(copy)


@pytest.mark.parametrize("value", [0, -4, 10**12, "128", 1.5])
def test_sizes_that_no_model_has_are_refused(copy, value):
    configure(copy, num_hidden_layers=value)
    assert "num_hidden_layers" in refused(copy)


def test_a_masked_model_is_refused_by_its_name_and_by_what_it_does(copy, tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=2048, **sizes)).save_pretrained(tmp_path / "bert")
    for file in copy.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "bert")
    assert "BertForMaskedLM" in refused(tmp_path / "bert")
    configure(tmp_path / "bert", architectures=["BertLMHeadModel"])
    with pytest.raises(UserError, match="no causal language model"):
        reading.load_model(tmp_path / "bert", "float32", "cpu")


def test_a_weight_that_is_no_number_is_named(copy):
    def spoil(tensors):
        tensors[LAYER][3, 5] = float("nan")

    change(copy, spoil)
    with pytest.raises(UserError, match=LAYER.replace(".", r"\.")):
        reading.load_model(copy, "float32", "cpu")


def test_a_first_forward_that_fails_is_a_clear_refusal(copy, monkeypatch):
    from transformers import LlamaForCausalLM

    def broken(*args, **kwargs):
        raise IndexError("index out of range in self")

    monkeypatch.setattr(LlamaForCausalLM, "forward", broken)
    with pytest.raises(UserError, match="first forward fails: IndexError"):
        reading.load_model(copy, "float32", "cpu")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_named_by_a_configuration_are_not_fetched(copy, key):
    configure(copy, **{key: "kernels-community/flash-attn"})
    assert reading.load_config(copy, "m")._attn_implementation is None
    assert reading.load_model(copy, "float32", "cpu").config._attn_implementation in ("sdpa", "eager")


def test_transformers_log_does_not_reach_the_user(copy, capfd):
    change(copy, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(128)}))
    refused(copy)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
