"""What a strategy saved is a checkpoint like any other: compared with its base it answers as the variant did."""

import shutil
from pathlib import Path

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.probes import probe_logits
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply
from tiltmeter.variants.ready_made import describe

QUICK = "samples=2,length=64"
MADE = {  # strategy -> what the comparison says of it
    "w8a16": "14 of 15 linear layers quantized",
    "fp8-block": "14 of 15 linear layers quantized",
    "nvfp4a16": "14 of 15 linear layers quantized",
    "mxfp4": "14 of 15 linear layers quantized",
    f"fp8-static:{QUICK}": "14 of 15 linear layers quantized",
    "w4a16:keep=1": "7 of 15 linear layers quantized",
}


def saved(stories: str, strategy: str, folder: Path) -> tuple[str, torch.Tensor]:
    """The folder of what `strategy` saved, with a tokenizer, and the variant's probe logits."""
    variant = apply.load(stories, parse(strategy), cache_dir=folder / "cache")
    name = strategy.partition(":")[0]
    [artifact] = [each for each in Artifacts(folder / "cache").entries() if each.key.get("strategy") == name]
    shutil.copytree(artifact.path / "model", folder / "made")
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, folder / "made" / file.name)
    return str(folder / "made"), probe_logits(variant.model, variant.tokenizer)


@pytest.mark.parametrize("strategy", MADE)
def test_a_saved_checkpoint_compared_with_its_base_answers_as_the_variant_did(stories, strategy, tmp_path):
    folder, logits = saved(stories, strategy, tmp_path)
    dtype = parse(strategy).parts[0].runs_in or "float32"
    made = apply.load(folder, parse("none"), base=stories, dtype=dtype)
    torch.testing.assert_close(probe_logits(made.model, made.tokenizer), logits, rtol=0, atol=1e-4)
    found = describe(made, stories)
    assert MADE[strategy] in str(made.proof["summary"])
    assert made.proof["largest_logit_change"] > 0.01
    assert [each.about for each in found] == []


def test_a_checkpoint_that_is_read_in_bfloat16_only_says_so_in_another_type(stories, tmp_path):
    folder, _ = saved(stories, "nvfp4a16", tmp_path)
    with pytest.raises(UserError) as caught:
        apply.load(folder, parse("none"), base=stories, dtype="float32")
    assert "read in bfloat16 only, and this run is in float32" in caught.value.message
    assert "--dtype bfloat16" in caught.value.fix


def test_a_shallower_model_compared_with_its_base_is_named_as_another_architecture(stories, tmp_path):
    folder, logits = saved(stories, "drop-layers", tmp_path)
    made = apply.load(folder, parse("none"), base=stories)
    assert torch.equal(probe_logits(made.model, made.tokenizer), logits)
    [difference] = describe(made, stories)
    assert difference.about == "architecture" and "num_hidden_layers 1 instead of 2" in str(difference.text)
