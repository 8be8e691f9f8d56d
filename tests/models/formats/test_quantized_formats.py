"""AWQ and GPTQ checkpoints in their own formats answer as the weights they stand for, (q - z) * s.

The checkpoints are written by hand (`quantized_checkpoints`); their dense twin holds the plain definition.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from quantized_checkpoints import base_model, edit, linear_names, write_awq, write_gptq
from safetensors.torch import load_file, save_file

from tiltmeter.errors import UserError
from tiltmeter.messages import json_default
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.formats.awq_gptq import read_format
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply
from tiltmeter.variants.ready_made import describe
from tiltmeter.variants.speed import Setting, measure

IDS = torch.tensor([[1, 80, 147, 201, 282]])


@pytest.fixture(scope="module")
def base(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_model(tmp_path_factory.mktemp("own-formats") / "base", shared / "models" / "tinystories-656k")


def weights_of(variant: LoadedVariant, names) -> dict[str, torch.Tensor]:
    return {name: variant.model.get_submodule(name).weight.detach() for name in names}


def assert_stands_for_its_twin(base: Path, folder: Path, dtype: str) -> LoadedVariant:
    """Loaded weights and logits are bit for bit those of the plain definition in `dtype`."""
    variant = apply.load(str(folder), parse("none"), dtype=dtype)
    twin = apply.load(f"{folder}-dense", parse("none"), dtype=dtype)
    expected = weights_of(twin, linear_names(base))
    for name, weight in weights_of(variant, linear_names(base)).items():
        assert weight.dtype == getattr(torch, dtype)
        assert torch.equal(weight, expected[name]), name
    with torch.inference_mode():
        assert torch.equal(variant.model(IDS).logits, twin.model(IDS).logits)
    return variant


AWQ = {"asymmetric": {}, "symmetric, no zeros stored": {"zeros": False}, "one group per output": {"group_size": -1}}


@pytest.mark.parametrize("case", AWQ)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_awq_answers_as_the_weights_it_stands_for(base, tmp_path, case, dtype):
    variant = assert_stands_for_its_twin(base, write_awq(base, tmp_path / "awq", **AWQ[case]), dtype)
    assert variant.proof["converted"]["quantized_layers"] == 7
    assert str(variant.proof["summary"]) == (
        "the base model, unchanged; converted by compressed-tensors for loading: same integers, same scales"
    )


GPTQ = {
    "4 bit, second format": {},
    "4 bit, symmetric, first format": {"layout": "gptq", "symmetric": True},
    "4 bit, asymmetric, first format": {"layout": "gptq", "lowest_zero": 1},
    "zeros of 0 that borrow from their neighbours": {"layout": "gptq", "meta": {"quantizer": ["gptqmodel:4.0.0"]}},
    "2 bit": {"bits": 2, "layout": "gptq", "lowest_zero": 1},
    "8 bit": {"bits": 8, "layout": "gptq", "lowest_zero": 1},
    "one group per output": {"group_size": -1},
    "no group index": {"g_idx": False},
    "act-order": {"act_order": True, "layout": "gptq", "symmetric": True},
    "act-order, one group per output": {"act_order": True, "group_size": -1},
    "act-order, 8 bit": {"act_order": True, "bits": 8},
    "a short last group": {"group_size": 40},  # 64 = 40 + 24, 96 = 40 + 40 + 16
}


@pytest.mark.parametrize("case", GPTQ)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gptq_answers_as_the_weights_it_stands_for(base, tmp_path, case, dtype):
    variant = assert_stands_for_its_twin(base, write_gptq(base, tmp_path / "gptq", **GPTQ[case]), dtype)
    dense = 7 if case in ("act-order", "act-order, 8 bit", "a short last group") else 0
    assert variant.proof["converted"]["dense_layers"] == dense


def test_the_hand_packed_words_are_the_published_ones():
    """So that the tests above do not rest on a mistake shared by packer and reader."""
    from quantized_checkpoints import Layer, awq_tensors, gptq_tensors

    q = np.arange(8)[:, None] * np.ones((1, 8), dtype=int)  # inputs 0 ... 7 have the integer 0 ... 7 in every output
    layer = Layer(q, np.array([[1, 2, 3, 4, 5, 6, 7, 8]]), np.ones((1, 8), dtype=np.float16), np.zeros(8, dtype=int))
    gptq = gptq_tensors(layer, 4, v1=True)
    assert gptq["qweight"].tolist() == [[0x76543210] * 8]  # along the inputs
    assert gptq["qzeros"].tolist() == [[0x76543210]]  # 1 ... 8 less one each
    awq = awq_tensors(layer)
    assert awq["qweight"].tolist() == [[0x11111111 * i] for i in range(8)]  # along the outputs
    assert awq["qzeros"].view(torch.uint32).tolist() == [[0x86427531]]  # places 0 2 4 6 1 3 5 7 hold 1 3 5 7 2 4 6 8


def test_the_checkpoint_is_converted_once_and_known_by_its_own_hash(base, tmp_path):
    folder, said = write_gptq(base, tmp_path / "gptq"), []
    for _ in range(2):
        variant = apply.load(str(folder), parse("none"), cache_dir=tmp_path / "cache", progress=said.append)
    assert len([line for line in said if line.startswith("converting")]) == 1
    made = Artifacts(tmp_path / "cache").entries()
    [artifact] = [entry for entry in made if entry.key["kind"] != "probe logits"]
    assert artifact.title == f"{folder} · gptq, for loading"
    assert artifact.key["weights"] == variant.weight_hash == apply.fingerprint(str(folder))
    assert variant.proof["checkpoint_bytes"] == (folder / "model.safetensors").stat().st_size
    assert not (artifact.path / "source").exists()


def test_the_proof_names_the_format(base, tmp_path):
    ordered = apply.load(str(write_gptq(base, tmp_path / "a", act_order=True, symmetric=True)), parse("none"))
    describe(ordered, str(base))
    assert str(ordered.proof["summary"]).startswith(
        "ready-made checkpoint, GPTQ (gptq_v2), 4 bits, groups of 32, symmetric, act-order: 7 of 8 linear layers "
        "quantized; 7 layers whose groups do not follow their inputs' order loaded as the weights they stand for; "
        "largest logit change on probe prompts "
    )
    plain = apply.load(str(write_awq(base, tmp_path / "b")), parse("none"))
    describe(plain, str(base))
    assert str(plain.proof["summary"]).startswith(
        "ready-made checkpoint, AWQ (gemm), 4 bits, groups of 32, asymmetric: 7 of 8 linear layers quantized; "
        "converted by compressed-tensors for loading: same integers, same scales; largest logit change on probe "
    )
    json.dumps(plain.proof, default=json_default)


def test_layers_spread_over_shards_come_together(base, tmp_path):
    """The integers of a layer may lie in another file than its scales."""
    folder = write_gptq(base, tmp_path / "gptq")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {f"model-0000{part}-of-00002.safetensors": {} for part in (1, 2)}
    for name, tensor in tensors.items():
        parts[f"model-0000{1 if 'scales' in name or 'embed' in name else 2}-of-00002.safetensors"][name] = tensor
    for name, part in parts.items():
        save_file(part, folder / name)
    where = {tensor: name for name, part in parts.items() for tensor in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert_stands_for_its_twin(base, folder, "float32")


def test_the_names_that_old_versions_used_are_found(base, tmp_path):
    """AutoGPTQ once named the file after the settings and kept these in quantize_config.json."""
    folder = write_gptq(base, tmp_path / "gptq", layout="gptq", symmetric=True)
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    edit(folder, quantization_config=None)
    old = {key: settings[key] for key in ("bits", "group_size", "sym", "desc_act")}
    (folder / "quantize_config.json").write_text(json.dumps(old))
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")
    assert_stands_for_its_twin(base, folder, "float32")


REFUSED = {
    "AWQ made for one kernel": (write_awq, {"version": "gemv"}, "'gemv' layout", "layout 'gemm'"),
    "AWQ for Marlin": (write_awq, {"version": "marlin"}, "'marlin' layout", "tiltmeter run BASE -s awq"),
    "GPTQ for Marlin": (write_gptq, {"checkpoint_format": "marlin"}, "'marlin' layout", "tiltmeter run BASE -s gptq"),
    "GPTQ for Marlin, old flag": (write_gptq, {"is_marlin_format": True}, "'marlin' layout", "layout 'gptq'"),
    "3 bit": (write_gptq, {"bits": 3}, "holds 3-bit GPTQ", "2 and 4 and 8 bits can be read"),
    "settings by layer": (write_gptq, {"dynamic": {r"+:.*up_proj": {"bits": 8}}}, "differ by layer", "one setting"),
    "other words": (write_gptq, {"pack_dtype": "int16"}, "int16 words", "int32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_layout_that_cannot_be_read_is_refused_with_what_to_do(base, shared, tmp_path, case):
    write, settings, message, fix = REFUSED[case]
    folder = write(base, tmp_path / "variant")
    written = json.loads((folder / "config.json").read_text())["quantization_config"]
    edit(folder, quantization_config=written | settings)
    with pytest.raises(UserError, match=message) as caught:
        read_format(folder, "mine")
    assert fix in caught.value.fix
    with pytest.raises(UserError, match=message):  # before anything of the base is computed
        run(
            make_study(
                models=[str(base)], checkpoints=[str(folder)], benchmarks=["crows-pairs"], data=str(shared / "data")
            ),
            tmp_path / "run",
        )


def test_layers_left_unquantized_by_a_rule_are_no_obstacle(base, tmp_path):
    folder = write_gptq(base, tmp_path / "gptq", dynamic={"-:lm_head": {}})
    assert read_format(folder, "mine").bits == 4


BROKEN = {
    "zeros of 0 that an old producer wrote over": "zero points of 0",
    "integers without scales": "no scales",
    "another group size than it says": "do not fit 4 bits in groups of 16",
    "no packed weights at all": "every one is stored in full",
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_that_is_not_what_it_says_leaves_nothing_behind(base, tmp_path, case):
    folder = write_gptq(base, tmp_path / "gptq", layout="gptq")
    tensors = load_file(folder / "model.safetensors")
    if "scales" in case:
        del tensors["model.layers.0.mlp.up_proj.scales"]
    elif "packed" in case:
        tensors = load_file(base / "model.safetensors")
    elif "size" in case:
        edit(
            folder,
            quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 16, "checkpoint_format": "gptq_v2"},
        )
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=BROKEN[case]) as caught:
        apply.load(str(folder), parse("none"), cache_dir=tmp_path / "cache")
    assert caught.value.fix
    assert Artifacts(tmp_path / "cache").entries() == []
    assert not [path for path in (tmp_path / "cache" / "artifacts").iterdir() if path.is_dir()]


def test_pickled_weights_stay_refused(base, tmp_path):
    folder = write_gptq(base, tmp_path / "gptq")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        apply.load(str(folder), parse("none"))


def test_compare_runs_both_formats_and_shows_what_they_are(base, shared, tmp_path):
    variants = [str(write_awq(base, tmp_path / "awq")), str(write_gptq(base, tmp_path / "gptq", seed=1))]
    study = make_study(
        models=[str(base)],
        checkpoints=variants,
        benchmarks=["crows-pairs"],
        limit=6,
        draws=200,
        data=str(shared / "data"),
        text_quality=False,
        batch_tokens=2048,
    )
    summary = run(study, tmp_path / "run")
    assert summary.failures == []
    document = read_results(tmp_path / "run")
    assert [row["strategy"] for row in document["rows"]] == ["none", *(f"checkpoint={path}" for path in variants)]
    assert all(row["n_scored"] == 6 for row in document["rows"])
    for path, variant in zip(variants, document["variants"][1:], strict=True):
        assert variant["weight_hash"] == apply.fingerprint(path)
        assert "same integers, same scales" in variant["proof"]["summary"]


def test_no_speed_is_printed_for_a_copy_that_runs_dense(base, tmp_path):
    setting = Setting(batch=1, prompt_tokens=8, new_tokens=2, repeats=1)
    rows = measure(str(write_awq(base, tmp_path / "awq")), ["rerun"], setting=setting, peak=False)
    assert [str(row.note) for row in rows] == ["simulated: no speed measured here"] * 2
    assert [row.decode for row in rows] == [None, None]


def test_a_checkpoint_in_its_own_format_is_not_quantized_again(base, tmp_path):
    folder = str(write_gptq(base, tmp_path / "gptq"))
    for strategy in ("int4", "awq", "wanda"):
        with pytest.raises(UserError, match="quantized already"):
            apply.load(folder, parse(strategy))
