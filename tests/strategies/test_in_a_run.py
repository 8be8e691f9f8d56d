"""Strategies inside a run: one that fails costs its own cells only, and a ready-made checkpoint brings its proof."""

import shutil
from pathlib import Path

import pytest

from tiltmeter import models
from tiltmeter.artifacts import Artifacts
from tiltmeter.pipeline import run
from tiltmeter.results import read_results
from tiltmeter.strategies import int8
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study


def small_study(stories: str, shared: Path, **settings):
    return make_study(models=[stories], benchmarks=["crows-pairs"], data=str(shared / "data"), limit=4, draws=200,
                      text_quality=False, batch_tokens=2048, **settings)


def test_a_library_that_breaks_fails_its_own_variant_and_the_others_go_on(stories, shared, tmp_path, monkeypatch):
    def broken(self, context):
        raise KeyError("weight_scale")

    monkeypatch.setattr(int8.Int8, "loading_options", broken)
    summary = run(small_study(stories, shared, strategies=["int8", "int4"]), tmp_path / "run")
    [failure] = summary.failures
    assert failure["strategy"] == "int8"
    assert "int8: KeyError: 'weight_scale'" in failure["reason"]
    assert [row["strategy"] for row in read_results(tmp_path / "run")["rows"]] == ["none", "int4"]


@pytest.mark.parametrize("changed", [True, False])
def test_a_ready_made_checkpoint_is_proven_against_its_base(stories, shared, tmp_path, changed):
    folder = tmp_path / "ready-made"
    shutil.copytree(stories, folder)
    folder.chmod(0o755)
    if changed:
        models.load(stories, parse("w4a16"), cache_dir=tmp_path / "cache")
        [artifact] = [a for a in Artifacts(tmp_path / "cache").entries() if a.key.get("strategy") == "w4a16"]
        for file in folder.iterdir():
            file.chmod(0o644)
        shutil.copytree(artifact.path / "model", folder, dirs_exist_ok=True)
    summary = run(small_study(stories, shared, checkpoints=[str(folder)]), tmp_path / "run")
    variants = read_results(tmp_path / "run")["variants"]
    if changed:
        assert "compressed-tensors: 14 of 15 linear layers quantized" in variants[1]["proof"]["summary"]
    else:
        assert "exactly as" in summary.failures[0]["reason"]
