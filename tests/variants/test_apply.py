"""Loading: what is refused with the fix, what is recorded, and that the weight hash follows the weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.messages import json_default
from tiltmeter.models import reading
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.folders import fingerprint_folder
from tiltmeter.strategies.base import DidNothing, LoadFailed
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply


@pytest.fixture(scope="module")
def stories(shared: Path) -> Path:
    return shared / "models" / "tinystories-656k"


def test_the_base_is_recorded_as_it_ran(stories):
    variant = apply.load(str(stories), parse("none"))
    assert (variant.strategy, variant.dtype, variant.device, variant.max_length) == ("none", "float32", "cpu", 512)
    assert variant.eos_ids == {2}
    assert not variant.model.training
    assert {p.dtype for p in variant.model.parameters()} == {torch.float32}
    assert str(variant.proof["summary"]) == "the base model, unchanged"
    json.dumps(variant.proof, default=json_default)


def test_the_runs_dtype_holds_for_base_and_variant_and_the_strategy_overrides_it(stories):
    assert apply.load(str(stories), parse("none"), dtype="bfloat16").dtype == "bfloat16"
    assert apply.load(str(stories), parse("int4"), dtype="bfloat16").dtype == "bfloat16"
    variant = apply.load(str(stories), parse("dtype:bfloat16"))
    assert variant.dtype == "bfloat16"
    assert variant.proof["steps"]["dtype"]["parameter_types"] == ["bfloat16"]


def test_a_dtype_the_base_has_already_is_no_variant(stories):
    with pytest.raises(DidNothing, match="runs in float32 already"):
        apply.load(str(stories), parse("dtype:float32"))


def test_equal_names_with_other_weights_have_other_hashes(copy, tmp_path):
    from safetensors.torch import load_file, save_file

    before = apply.fingerprint(str(copy))
    elsewhere = tmp_path / "elsewhere" / "model"
    shutil.copytree(copy, elsewhere)
    assert apply.fingerprint(str(elsewhere)) == before
    weights = load_file(elsewhere / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, elsewhere / "model.safetensors", {"format": "pt"})
    assert apply.fingerprint(str(elsewhere)) != before
    (copy / "README.md").write_text("a card decides no answer")
    assert apply.fingerprint(str(copy)) == before


def test_asking_for_the_hash_again_reads_no_file(copy, monkeypatch):
    before = fingerprint_folder(copy)
    monkeypatch.setattr("hashlib.file_digest", None)
    assert fingerprint_folder(copy) == before


def refusal(model: str, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        apply.load(model, parse("none"), **options)
    return caught.value


def test_a_folder_without_tokenizer(copy):
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / name).unlink()
    refused = refusal(str(copy))
    assert "has no tokenizer" in refused.message
    assert "tokenizer.json" in refused.fix


def test_pickled_weights_are_refused_before_anything_is_opened(copy):
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(b"not a pickle: opening it would fail otherwise")
    refused = refusal(str(copy))
    assert "as a pickle" in refused.message
    assert "safe_serialization" in refused.fix


def test_a_folder_without_weights_or_config(copy):
    (copy / "model.safetensors").unlink()
    refused = refusal(str(copy))
    assert "has no weights" in refused.message
    assert "save_pretrained" in refused.fix
    (copy / "config.json").unlink()
    refused = refusal(str(copy))
    assert "has no config.json" in refused.message
    assert "save_pretrained" in refused.fix


def test_a_file_and_a_missing_path(copy):
    refused = refusal(str(copy / "config.json"))
    assert "is a file" in refused.message
    assert "folder" in refused.fix
    refused = refusal(str(copy / "nothing"))
    assert "no model folder" in refused.message
    assert "check the path" in refused.fix
    refused = refusal("nothing-here")
    assert "no model folder" in refused.message
    assert "check the path" in refused.fix


def test_a_hub_model_that_cannot_be_reached():
    refused = refusal("example-org/no-such-model")  # HF_HUB_OFFLINE=1 in tests
    assert "is not on this machine" in refused.message
    assert "local folder" in refused.fix


@pytest.mark.parametrize(
    ("error", "says", "fix"),
    [
        ("GatedRepoError", "is gated", "hf auth login"),
        ("RepositoryNotFoundError", "neither a folder nor a hub model", "spelling"),
    ],
)
def test_a_hub_model_that_is_gated_or_absent(monkeypatch, error, says, fix):
    import httpx
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*_, **__):
        response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
        raise getattr(errors, error)("no", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    refused = refusal("example-org/model")
    assert says in refused.message
    assert fix in refused.fix


def test_only_safe_files_are_fetched_from_the_hub(monkeypatch, copy):
    import huggingface_hub

    asked = {}

    def fetch(name, *, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert apply.load("example-org/model", parse("none")).model_name == "example-org/model"
    assert asked["name"] == "example-org/model"
    assert not {"*.bin", "*.pt", "*.py", "*"} & set(asked["patterns"])


def test_remote_code_stays_off(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "evil.py").write_text("raise SystemExit('remote code ran')")
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    refused = refusal(str(copy))
    assert "cannot be read" in refused.message
    assert "remote code" in refused.fix


def test_a_gpu_that_is_not_there(stories, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = refusal(str(stories), device="cuda")
    assert "torch sees no GPU" in refused.message
    assert "--device cpu" in refused.fix
    refused = refusal(str(stories), device="gpu")
    assert "unknown device 'gpu'" in refused.message
    assert "cuda:N" in refused.fix
    refused = refusal(str(stories), dtype="int7")
    assert "unknown dtype 'int7'" in refused.message
    assert "bfloat16" in refused.fix


def test_running_out_of_memory_is_a_mistake_with_a_fix(stories, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(apply, "load_model", full)
    refused = refusal(str(stories))
    assert "does not fit into the memory" in refused.message
    assert "smaller model" in refused.fix


def test_a_strategy_that_changes_no_logit_is_no_variant(stories, monkeypatch):
    from tiltmeter.strategies import _kv_quantized
    from tiltmeter.strategies.calibration import Drawn

    monkeypatch.setattr(_kv_quantized, "attach", lambda *_: None)
    claim = _kv_quantized.Ranges("quantized", 2, "int", (0.1, 0.2), Drawn("built-in", 999, 2, 32, 0, "0"))
    monkeypatch.setattr(_kv_quantized, "ranges", lambda *_: claim)
    with pytest.raises(DidNothing, match="changed no logit"):
        apply.load(str(stories), parse("kv8:scale=static,samples=2,length=32"))


def test_a_librarys_failure_is_named_with_the_strategy(stories, monkeypatch):

    def broken(model):
        raise KeyError("weight_scale")

    monkeypatch.setattr(reading, "keep_plain_packing", broken)
    with pytest.raises(LoadFailed, match="int4: KeyError: 'weight_scale'"):
        apply.load(str(stories), parse("int4"))


def test_a_base_in_memory_is_not_read_again_for_its_probe_answers(stories, tmp_path):
    said: list[str] = []
    apply.load(str(stories), parse("none"), cache_dir=tmp_path, progress=said.append)
    kept = apply.base_probe(str(stories), "cpu", "float32", Artifacts(tmp_path), said.append)
    alone = apply.base_probe(str(stories), "cpu", "float32", Artifacts(tmp_path / "another"), said.append)
    assert torch.equal(kept, alone)
    assert said == [f"loading {stories} for its probe answers"]  # by the second alone
