"""Which GGUF file a name means, and which files are refused, with what to do, before anything is computed."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf_checkpoints import llama, write_gguf

from tiltmeter.errors import UserError
from tiltmeter.models.formats.gguf.alone import lacking
from tiltmeter.models.formats.gguf.header import Header
from tiltmeter.models.formats.gguf.source import is_gguf, locate
from tiltmeter.models.resolve import resolve
from tiltmeter.pipeline import run
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply
from tiltmeter.variants.speed import Setting, measure


@pytest.fixture(scope="module")
def stories(shared: Path) -> Path:
    return shared / "models" / "tinystories-656k"


@pytest.fixture(scope="module")
def base(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("gguf") / "base", stories)


def refusal(file: Path | str, base: Path | None) -> UserError:
    with pytest.raises(UserError) as caught:
        resolve(str(file), base and str(base))
    return caught.value


def cut(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def lie_about_a_length(file: Path) -> None:
    """An array of 2^60 numbers: read without a guard, it would fill the memory."""
    content = file.read_bytes()
    at = content.index(b"tokenizer.ggml.scores") + len("tokenizer.ggml.scores") + 8
    file.write_bytes(content[:at] + (2**60).to_bytes(8, "little") + content[at + 8 :])


REFUSED = {
    "cut in its weights": ({}, lambda file: cut(file, 0.9), "broken GGUF file", "fetch the file again"),
    "cut in its header": ({}, lambda file: cut(file, 0.001), "broken GGUF file", "fetch the file again"),
    "a length that cannot be": ({"tokenizer.ggml.scores": [1, 2]}, lie_about_a_length, "broken GGUF", "again"),
    "no GGUF file": ({}, lambda file: file.write_bytes(b"PK\x03\x04 a pickle"), "is not a GGUF file", "llama.cpp"),
    "empty": ({}, lambda file: file.write_bytes(b""), "is not a GGUF file", "llama.cpp"),
    "a git-lfs pointer": (
        {},
        lambda file: file.write_text("version https://git-lfs.github.com/spec/v1"),
        "pointer",
        "git lfs pull",
    ),
    "an unknown architecture": ({"architecture": "\x1b[2Jnew"}, None, r"architecture '\x1b[2Jnew'", "-s int4"),
    "another model": ({"architecture": "qwen2"}, None, "it is a qwen2 model, the base is llama", "converted from"),
    "other sizes": ({"block_count": 2}, None, "num_hidden_layers 2 instead of 1", "converted from"),
    "a word for a number": ({"attention.layer_norm_rms_epsilon": "\x1b[2J"}, None, "makes no model", "name another"),
    "a word for a size": ({"block_count": "\x1b[2J"}, None, r"num_hidden_layers '\x1b[2J' instead", "converted from"),
    "a size of 0": ({"attention.head_count": 0}, None, "num_attention_heads 0 instead of 4", "converted from"),
    "a number for a list": ({"tokenizer.ggml.token_type": 3}, None, "makes no model", "name another"),
    "a tensor that would be left out": (
        {"extra": {"blk.0.attn_q.bias": np.zeros(256, np.float32)}},
        None,
        "would be left out, 'blk.0.attn_q.bias' first",
        "safetensors",
    ),
    "a weight too few": (
        {"drop": ("model.layers.0.mlp.up_proj.weight",)},
        None,
        "lacks weights of its model: model.layers.0.mlp.up_proj.weight",
        "no adapter",
    ),
    "a part by its own word": ({"split.count": 3}, None, "one of 3 parts", "llama-gguf-split --merge"),
    "a type without numbers": ({"extra": {"blk.0.strange": np.zeros(4, np.int32)}}, None, "type I32", "Q4_K_M"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(base, tmp_path, monkeypatch, case):
    monkeypatch.setattr("tiltmeter.models.formats.gguf.header.MOST_VALUES", 20_000)
    options, damage, message, fix = REFUSED[case]
    file = tmp_path / "model.gguf"
    write_gguf(base, file, **options)
    if damage:
        damage(file)
    refused = refusal(file, base)
    assert message in refused.message and fix in refused.fix
    assert "\x1b" not in str(refused)


def test_a_file_of_another_model_is_refused(base, stories, tmp_path):
    other = llama(tmp_path / "other", stories, hidden_size=128, num_attention_heads=2)
    write_gguf(other, tmp_path / "model.gguf")
    refused = refusal(tmp_path / "model.gguf", base)
    assert "was not made from" in refused.message and "hidden_size 128 instead of 256" in refused.message


def test_a_mistake_ends_the_run_before_anything_is_computed(base, shared, tmp_path):
    write_gguf(base, tmp_path / "model.gguf")
    cut(tmp_path / "model.gguf", 0.5)
    study = make_study(
        models=[str(base)],
        checkpoints=[str(tmp_path / "model.gguf")],
        benchmarks=["crows-pairs"],
        data=str(shared / "data"),
    )
    with pytest.raises(UserError, match="broken GGUF file"):
        run(study, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.jsonl"))


def test_a_file_alone_that_says_too_little_is_refused_with_what_is_missing(base, tmp_path):
    file = tmp_path / "model.gguf"
    write_gguf(base, file)
    for attempt in (
        lambda: apply.load(str(file), parse("none")),
        lambda: resolve(str(tmp_path)),
        lambda: measure(str(file), [], setting=Setting(repeats=1), peak=False),
    ):
        with pytest.raises(UserError, match="alone does not say enough to run in transformers: it lacks") as caught:
            attempt()
        assert "tiltmeter compare BASE " in caught.value.fix


@pytest.mark.parametrize(
    ("says", "lacks"),
    [
        ({"general.architecture": "gemma3"}, "how the architecture 'gemma3' computes"),
        ({"llama.rope.scaling.type": "yarn"}, "how its rotary positions are scaled"),
        ({"tokenizer.ggml.pre": "a kind of its own"}, "how texts are cut into words"),
        ({"tokenizer.ggml.model": "t5"}, "how texts are cut into words"),
        ({"tokenizer.ggml.tokens": []}, "its vocabulary"),
        ({"tokenizer.ggml.eos_token_id": None}, "its end token"),
    ],
)
def test_each_thing_that_a_file_must_say_is_named_where_it_is_missing(says, lacks):
    enough = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["a"],
        "tokenizer.ggml.eos_token_id": 0,
    }
    assert lacking(Header(enough, {}, {}, {})) == []
    [missing] = lacking(Header(enough | says, {}, {}, {}))
    assert lacks in missing


def test_the_missing_package_is_named(base, tmp_path, monkeypatch):
    write_gguf(base, tmp_path / "model.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    refused = refusal(tmp_path / "model.gguf", base)
    assert "needs the package 'gguf'" in refused.message and refused.fix == 'pip install "tiltmeter[gguf]"'


def test_a_folder_with_one_file_is_that_file(base, tmp_path):
    write_gguf(base, tmp_path / "one" / "model.gguf")
    assert is_gguf(str(tmp_path / "one")) and locate(str(tmp_path / "one")) == tmp_path / "one" / "model.gguf"
    shutil.copyfile(tmp_path / "one" / "model.gguf", tmp_path / "one" / "second.gguf")
    refused = refusal(tmp_path / "one", base)
    assert "holds 2 GGUF files ('model.gguf', 'second.gguf')" in refused.message
    assert refused.fix == f"name one of them: {tmp_path}/one/model.gguf"
    shutil.copyfile(base / "model.safetensors", tmp_path / "one" / "model.safetensors")
    assert not is_gguf(str(tmp_path / "one"))  # safetensors are what transformers loads


def test_a_split_file_is_refused_by_its_name(base, tmp_path):
    for part in (1, 2):
        write_gguf(base, tmp_path / f"m-0000{part}-of-00002.gguf")
    for named in (tmp_path, tmp_path / "m-00001-of-00002.gguf"):
        refused = refusal(named, base)
        assert "one of 2 parts of a split GGUF file" in refused.message
        assert "llama-gguf-split --merge m-00001-of-00002.gguf m.gguf" in refused.fix


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("org/m-GGUF/m.Q4_K_M.gguf", "m.Q4_K_M.gguf"),
        ("org/m-GGUF/sub/m.Q8_0.gguf", "sub/m.Q8_0.gguf"),
        ("org/m-GGUF:Q4_K_M", "m.Q4_K_M.gguf"),
        ("org/m-GGUF:q8_0", "sub/m.Q8_0.gguf"),
    ],
)
def test_a_file_of_the_hub_is_named_in_two_ways(base, tmp_path, monkeypatch, name, file):
    import huggingface_hub

    files = ["README.md", "m.Q4_K_M.gguf", "m.IQ4_K_M.gguf", "m.Q4_K_S.gguf", "sub/m.Q8_0.gguf"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository: files)
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *what: asked.append(what) or tmp_path / "m.gguf")
    assert locate(name) == tmp_path / "m.gguf"
    assert asked == [("org/m-GGUF", file)]


@pytest.mark.parametrize(
    ("name", "message", "fix"),
    [
        ("org/m-GGUF:Q5_K_M", "no GGUF file for 'org/m-GGUF:Q5_K_M'", "org/repo/file.gguf"),
        ("org/m-GGUF:Q4_K", "no GGUF file", "name the file"),
        ("org/m-GGUF:Q8_0", "holds 2 GGUF files ('a.Q8_0.gguf', 'b.Q8_0.gguf')", "org/m-GGUF/a.Q8_0.gguf"),
        ("org/m-GGUF:F16", "one of 2 parts", "llama-gguf-split --merge"),
        ("org/m-GGUF/c-F16-00001-of-00002.gguf", "one of 2 parts", "llama-gguf-split --merge"),
        ("./nowhere.gguf", "no file './nowhere.gguf'", "org/repo:Q4_K_M"),
        ("somewhere/nothing.gguf", "no file 'somewhere/nothing.gguf'", "check the path"),
    ],
)
def test_a_name_that_fits_no_file_or_several_says_so(monkeypatch, name, message, fix):
    import huggingface_hub

    files = ["a.Q8_0.gguf", "b.Q8_0.gguf", "m.Q4_K_M.gguf", "c-F16-00001-of-00002.gguf", "c-F16-00002-of-00002.gguf"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository: files)
    with pytest.raises(UserError) as caught:
        locate(name)
    assert message in caught.value.message and fix in caught.value.fix


def test_a_repository_of_gguf_files_says_that_a_file_must_be_named(base, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, *, allow_patterns: str(tmp_path))
    assert refusal("org/m-GGUF", base).fix == "name a file: org/m-GGUF:Q4_K_M, or org/m-GGUF/FILE.gguf"


def test_the_other_byte_order_is_refused(base, tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "other byte order" in refusal(tmp_path / "model.gguf", base).message


@pytest.mark.parametrize("name", ["org/m-GGUF/m.gguf", "org/m-GGUF:Q4_K_M"])
def test_a_hub_that_cannot_be_reached(name):
    with pytest.raises(UserError, match="not on this machine") as caught:  # HF_HUB_OFFLINE=1 in tests
        locate(name)
    assert "local folder" in caught.value.fix
