"""Formats by presets: each rounds what its name says, in the type it is read in, and is read back as it was saved."""

import shutil
from pathlib import Path

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.models import linear
from tiltmeter.strategies import presets
from tiltmeter.strategies.base import DidNothing, LoadFailed
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

QUICK = "samples=2,length=64"
LEVELS = {  # distinct magnitudes a group of weights may show: of the format, times what its group's scale allows
    "w8a16": 2**8,
    "w4a8": 2**4,
    "w4afp8": 2**4,
    "mxfp4a16": 15,  # E2M1: 0 and seven magnitudes of either sign
    "mxfp4": 15,
    "nvfp4a16": 15,
    "nvfp4": 15,
    "mxfp8": 2**8 - 2,  # E4M3 without its two NaNs
}
GROUPS = {"mxfp4a16": 32, "mxfp4": 32, "mxfp8": 32, "nvfp4a16": 16, "nvfp4": 16}


def quick(name: str):
    return parse(f"{name}:{QUICK}" if parse(name).calibrated else name)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_layer_but_the_head_is_rounded_and_read_back_exactly(stories, name):
    variant = apply.load(stories, quick(name))
    step = variant.proof["steps"][name]
    assert step["quantized_layers"] == step["layers"] == 14
    assert step["lm_head_untouched"] is True
    assert variant.proof["changed_share_of_block_weights"] == 1.0
    assert variant.proof["reload_difference"] <= 1e-4
    assert variant.proof["largest_logit_change"] > 0.01
    rounded = presets.PRESETS[name].activations
    assert all(("activations as they are" not in scheme) == rounded for scheme in step["roundings"])
    assert any("rounded as they come" in str(note) for note in variant.notes) == rounded
    if name in LEVELS:
        weight = variant.model.model.layers[0].mlp.down_proj.weight  # (128, 384)
        groups = weight.reshape(-1, GROUPS.get(name, 128))
        assert max(len(row.unique()) for row in groups) <= LEVELS[name]
        if name != "mxfp8":  # whose scales are powers of two, as are E4M3's own steps
            assert len(weight.unique()) > LEVELS[name]  # each group has a scale of its own


@pytest.mark.parametrize("name", [name for name, preset in presets.PRESETS.items() if preset.bfloat16])
def test_a_format_that_is_read_in_bfloat16_runs_in_it_and_says_so(stories, name):
    variant = apply.load(stories, quick(name))
    assert variant.dtype == "bfloat16"
    assert any("read in bfloat16 only" in str(note) and "base in float32" in str(note) for note in variant.notes)
    in_step = apply.load(stories, quick(name), dtype="bfloat16")  # its base runs in it too: nothing to say
    assert not any("read in bfloat16 only" in str(note) for note in in_step.notes)


def test_without_its_type_such_a_format_does_not_run(stories, tmp_path, monkeypatch):
    """Packing is undone to bfloat16 whatever the model runs in."""
    monkeypatch.setattr(presets.PresetQuantizer, "runs_in", None)
    with pytest.raises((UserError, LoadFailed), match="read in bfloat16 only"):
        apply.load(stories, parse("nvfp4a16"), cache_dir=tmp_path)


def test_a_type_that_a_format_cannot_be_read_in_is_refused_when_it_is_typed():
    with pytest.raises(UserError, match="bfloat16 only"):
        parse("dtype:float32+mxfp4")
    assert parse("dtype:bfloat16+mxfp4").canonical == "dtype:bfloat16+mxfp4"


def model_of(folder: Path, stories: str, hidden: int) -> str:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=2048, max_position_embeddings=512, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, folder / file.name)
    return str(folder)


def test_block_formats_group_activations_so_that_they_divide_the_inputs(stories, tmp_path, monkeypatch):
    """The preset's groups of 128 fail at the first forward of a model of width 96 (or 576, SmolLM2's)."""
    folder = model_of(tmp_path, stories, 96)
    variant = apply.load(folder, parse("fp8-block"))
    scheme = next(iter(linear.linear_layers(variant.model).values())).quantization_scheme
    assert scheme.input_activations.group_size == 32
    assert list(scheme.weights.block_structure) == [128, 128]
    assert any("groups of 32 instead of 128" in str(note) for note in variant.notes)
    assert any("vLLM (0.32) refuses" in str(note) for note in variant.notes)
    monkeypatch.setattr(presets.PresetQuantizer, "fitted", lambda self, context: self)
    with pytest.raises(UserError, match="group_size 128 does not fit"):
        apply.load(folder, parse("fp8-block"))


def test_whole_blocks_are_no_reason_to_speak_of_vllm(stories, tmp_path):
    variant = apply.load(model_of(tmp_path, stories, 128), parse("fp8-block"))
    assert not any("vLLM" in str(note) for note in variant.notes)


def test_a_width_that_the_format_cannot_group_is_refused_before_anything_is_read(stories, tmp_path):
    folder = model_of(tmp_path, stories, 24)
    for name, size in (("mxfp4", 32), ("nvfp4a16", 16)):
        refused = apply.refusals(folder, [parse(name)], device="cpu", dtype="float32", calibration=None)
        [error] = refused.values()
        assert f"{name}: the format's group of {size} does not fit layer model.layers.0" in error.message


def test_formats_that_calibrate_are_given_text(stories, tmp_path, monkeypatch):
    """Without it the library raises "'NoneType' object is not iterable"."""
    assert parse("nvfp4").calibrated and parse("fp8-static").calibrated and not parse("nvfp4a16").calibrated
    monkeypatch.setattr(type(parse("fp8-static").parts[0]), "calibrates", False)
    with pytest.raises(LoadFailed, match="NoneType"):
        apply.load(stories, parse("fp8-static"), cache_dir=tmp_path)


def test_w4a8_lies_on_disk_as_eight_bits(stories):
    sizes = {name: apply.load(stories, parse(name)).proof["checkpoint_bytes"] for name in ("w4a8", "w8a16", "w4a16")}
    assert sizes["w4a8"] > 0.99 * sizes["w8a16"] > 1.1 * sizes["w4a16"]


def test_a_checkpoint_that_is_read_back_with_another_rounding_is_caught(stories, monkeypatch):
    """Transformers dropped the rounding of activations in experts: the layers were there, the scheme was not."""
    from tiltmeter.strategies import _compress

    apply.load(stories, parse("w4a8"))
    monkeypatch.setattr(_compress, "_rounding", lambda scheme: "weights int4 group 128, activations as they are")
    with pytest.raises(DidNothing, match="read back as"):
        apply.load(stories, parse("w4a8"))


def test_three_bit_weights_have_eight_levels_per_group(stories):
    variant = apply.load(stories, parse("w4a16:bits=3"))
    groups = variant.model.model.layers[0].mlp.down_proj.weight.reshape(-1, 128)
    assert max(len(row.unique()) for row in groups) <= 8
    assert variant.proof["reload_difference"] <= 1e-4
