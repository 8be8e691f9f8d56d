"""Strategies inside a run: one that fails costs its own cells only, and a ready-made checkpoint brings its proof."""

import shutil
from pathlib import Path

import pytest

from tiltmeter.errors import UserError
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.strategies import int8
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply


def small_study(stories: str, shared: Path, **settings):
    return make_study(
        models=[stories],
        benchmarks=["crows-pairs"],
        data=str(shared / "data"),
        limit=4,
        draws=200,
        text_quality=False,
        batch_tokens=2048,
        **settings,
    )


def test_a_library_that_breaks_fails_its_own_variant_and_the_others_go_on(stories, shared, tmp_path, monkeypatch):
    def broken(self, context):
        raise KeyError("weight_scale")

    monkeypatch.setattr(int8.Int8, "loading_options", broken)
    summary = run(small_study(stories, shared, strategies=["int8", "int4"]), tmp_path / "run")
    [failure] = summary.failures
    assert failure.strategy == "int8"
    assert "int8: KeyError: 'weight_scale'" in failure.reason
    assert [row["strategy"] for row in read_results(tmp_path / "run")["rows"]] == ["none", "int4"]


@pytest.mark.parametrize("changed", [True, False])
def test_a_ready_made_checkpoint_is_proven_against_its_base(stories, shared, tmp_path, changed):
    folder = tmp_path / "ready-made"
    shutil.copytree(stories, folder)
    folder.chmod(0o755)
    if changed:
        apply.load(stories, parse("w4a16"), cache_dir=tmp_path / "cache")
        [artifact] = [a for a in Artifacts(tmp_path / "cache").entries() if a.key.get("strategy") == "w4a16"]
        for file in folder.iterdir():
            file.chmod(0o644)
        shutil.copytree(artifact.path / "model", folder, dirs_exist_ok=True)
    summary = run(small_study(stories, shared, checkpoints=[str(folder)]), tmp_path / "run")
    variants = read_results(tmp_path / "run")["variants"]
    if changed:
        assert "compressed-tensors: 14 of 15 linear layers quantized" in variants[1]["proof"]["summary"]
    else:
        assert "exactly as" in summary.failures[0].reason


@pytest.mark.parametrize(
    ("strategy", "calibration", "says"),
    [
        ("wanda", "few words", "tokens; windows of 512 need at least 1024"),
        ("kv4:scale=static", "few words", "tokens; windows of 512"),
        (
            "awq:group_size=7",
            None,
            "group_size 7 does not fit layer model.layers.0.self_attn.q_proj: it has 128 inputs",
        ),
    ],
)
def test_what_cannot_work_is_said_before_the_base_is_computed(stories, shared, tmp_path, strategy, calibration, says):
    """A base may take hours; a text that is too short is known at once."""
    if calibration:
        (tmp_path / "text.txt").write_text(calibration)
        calibration = str(tmp_path / "text.txt")
    with pytest.raises(UserError, match=says):
        run(small_study(stories, shared, strategies=[strategy], calibration=calibration), tmp_path / "run")
    assert not (tmp_path / "run" / "cells").exists()


def test_a_strategy_that_does_not_fit_one_of_several_models_fails_there_only(stories, shared, tmp_path):
    small = str(shared / "models" / "stories260k")  # layers of 64 and 172 inputs: no group of 128
    study = small_study(stories, shared, strategies=["w4a16"])
    summary = run(study.model_copy(update={"models": (small, stories)}), tmp_path / "run")
    [failure] = summary.failures
    assert (failure.model, failure.strategy) == (small, "w4a16")
    assert "group_size 128 does not fit" in failure.reason
    done = [(row["model"], row["strategy"]) for row in read_results(tmp_path / "run")["rows"]]
    assert done == [(small, "none"), (stories, "none"), (stories, "w4a16")]


def test_a_variant_that_runs_out_of_memory_costs_its_own_cells_and_leaves_no_artifact(
    stories, shared, tmp_path, monkeypatch
):
    import torch

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99.00 GiB")

    monkeypatch.setattr("tiltmeter.strategies._compress.oneshot", full)
    monkeypatch.setenv("TILTMETER_CACHE", str(tmp_path / "cache"))
    summary = run(small_study(stories, shared, strategies=["w4a16"]), tmp_path / "run")
    assert "does not fit into the memory of" in summary.failures[0].reason
    assert [row["strategy"] for row in read_results(tmp_path / "run")["rows"]] == ["none"]
    kept = Artifacts(tmp_path / "cache").entries()
    assert [entry.key["kind"] for entry in kept] == ["probe logits"]  # the base's
    assert not list((tmp_path / "cache" / "artifacts").glob("*.partial*"))
