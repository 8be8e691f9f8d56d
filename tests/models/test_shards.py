"""A model in several files: its index and its files say the same, and stay inside the folder."""

import json
from pathlib import Path

import pytest
import torch
from entering import LAYER, enter, refused
from safetensors.torch import load_file, save_file

from tiltmeter.models.folders import fingerprint_folder


@pytest.mark.parametrize(
    "named", ["w.bin", "../outside.safetensors", "/etc/outside.safetensors", "sub/../../outside.safetensors", 3, None]
)
def test_an_index_may_name_nothing_but_safetensors_inside_the_folder(copy, named):
    names = list(load_file(copy / "model.safetensors"))
    (copy / "model.safetensors").rename(copy.parent / "outside.safetensors")
    torch.save({}, copy / "w.bin")
    (copy / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, named)})
    )
    assert "model.safetensors.index.json" in refused(copy)


@pytest.fixture
def shards(stories, copy):
    """The model in three files and an index."""
    from transformers import AutoModelForCausalLM

    (copy / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(stories).save_pretrained(copy, max_shard_size="900KB")
    return copy


def reindex(folder: Path, edit) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    edit(index["weight_map"])
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_an_index_and_its_files_hold_the_same_tensors(shards):
    enter(shards)
    sound = (shards / "model.safetensors.index.json").read_text()
    first, *_, last = sorted(file.name for file in shards.glob("model-0*"))
    reindex(shards, lambda m: m.pop(LAYER))
    assert f"holds {LAYER}, which model.safetensors.index.json leaves out" in refused(shards)
    (shards / "model.safetensors.index.json").write_text(sound)
    other = last if json.loads(sound)["weight_map"][LAYER] == first else first
    reindex(shards, lambda m: m.update({LAYER: other}))
    assert f"names {LAYER} in {other}, which does not hold it; it stands in" in refused(shards)
    (shards / "model.safetensors.index.json").write_text(sound)
    reindex(shards, lambda m: m.update({"model.ghost": last}))
    assert "names model.ghost" in refused(shards)
    (shards / last).unlink()
    assert f"lacks {last}" in refused(shards)


def test_a_tensor_that_two_files_hold_is_refused(shards):
    first, *_, last = sorted(shards.glob("model-0*"))
    name, tensor = next(iter(load_file(first).items()))
    save_file({**load_file(last), name: tensor + 1}, last, metadata={"format": "pt"})
    assert f"{name} stands in {first.name} and in {last.name}" in refused(shards)


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": {}', '{"weight_map": {"a": "b.safetensors"}}'])
def test_an_index_that_is_none_is_named(shards, content):
    (shards / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json is no index" in refused(shards)


def test_weights_that_an_index_or_a_link_puts_elsewhere_are_hashed(copy):
    names = list(load_file(copy / "model.safetensors"))
    (copy / "sub").mkdir()
    (copy / "model.safetensors").rename(copy / "sub" / "w.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "sub/w.safetensors")}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    enter(copy)
    seen = {fingerprint_folder(copy)}

    def move(tensors):
        tensors[LAYER] = tensors[LAYER] * 2

    tensors = load_file(copy / "sub" / "w.safetensors")
    move(tensors)
    save_file(tensors, copy / "sub" / "w.safetensors", metadata={"format": "pt"})
    seen.add(fingerprint_folder(copy))
    (copy / "sub" / "w.safetensors").rename(copy.parent / "far.safetensors")
    (copy / "sub" / "w.safetensors").symlink_to(copy.parent / "far.safetensors")
    assert fingerprint_folder(copy) in seen  # the same bytes behind a link
    move(tensors)
    save_file(tensors, copy.parent / "far.safetensors", metadata={"format": "pt"})
    seen.add(fingerprint_folder(copy))
    assert len(seen) == 3
