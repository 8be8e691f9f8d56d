"""AutoRound: better than rounding to nearest once it has learned, in the run's type, at a rate few steps bear."""

import pytest
import torch

from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

QUICK = "samples=4,length=64,iters=2"


def test_weights_are_rounded_in_the_runs_type_and_read_back_exactly(stories, capfd, tmp_path, monkeypatch):
    """The library leaves a float32 model's layers in bfloat16, prints, and compiles unless told not to."""
    monkeypatch.chdir(tmp_path)
    variant = apply.load(stories, parse(f"autoround:{QUICK}"), cache_dir=tmp_path / "cache")
    step = variant.proof["steps"]["autoround"]
    assert step["quantized_layers"] == step["layers"] == 14
    assert {p.dtype for p in variant.model.parameters() if p.is_floating_point()} == {torch.float32}
    assert variant.proof["reload_difference"] <= 1e-4
    assert capfd.readouterr().out == ""
    assert [each.name for each in tmp_path.iterdir()] == ["cache"]  # nothing is left where the command ran


def test_few_steps_are_not_taken_with_the_librarys_large_rate():
    [few] = parse("autoround:iters=5").parts[0].recipe(["lm_head"])
    [many] = parse("autoround:iters=1000").parts[0].recipe(["lm_head"])
    assert (few.lr, many.lr) == (1 / 200, 1 / 1000)
    assert few.enable_torch_compile is False


@pytest.mark.slow
def test_learned_rounding_is_nearer_to_the_base_than_rounding_to_nearest(stories, shared, tmp_path):
    """Calibrated on stories, as it was trained: perplexity of others 18.75, rounded to nearest 19.78, learned 19.26."""
    import json

    from validation.perplexity import perplexity

    texts = json.loads((shared / "data" / "text" / "tinystories_1000.json").read_text())
    calibration = tmp_path / "stories.txt"
    calibration.write_text("\n\n".join(texts[24:400]), encoding="utf-8")
    found = {
        name: perplexity(apply.load(stories, parse(strategy), calibration=str(calibration)), texts[:24]).value
        for name, strategy in {
            "base": "none",
            "nearest": "w4a16:group_size=64",
            "learned": "autoround:group_size=64,iters=50,samples=32,length=128",
        }.items()
    }
    assert found["learned"] - found["base"] < 0.75 * (found["nearest"] - found["base"]), found
