"""Ready-made checkpoints: what differs from the base is named with the benchmarks it makes incomparable."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tiltmeter import models
from tiltmeter.compare_models import READS_TOKENS, WRITES, describe, differences
from tiltmeter.errors import UserError
from tiltmeter.strategies.base import DidNothing
from tiltmeter.strategies.chain import parse


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "tinystories-656k")


@pytest.fixture
def copy(stories: str, tmp_path: Path) -> Path:
    folder = tmp_path / "variant"
    shutil.copytree(stories, folder)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def edit(folder: Path, file: str, **values) -> None:
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps(content))


def test_the_same_model_differs_in_nothing_and_is_no_variant(stories, copy):
    assert differences(stories, str(copy)) == []
    with pytest.raises(DidNothing, match="exactly as"):
        describe(models.load(str(copy), parse("none")), stories)


def test_another_tokenizer_makes_token_scores_incomparable(stories, shared):
    found = {each.about: each for each in differences(stories, str(shared / "models" / "stories260k"))}
    assert found["tokenizer"].incomparable == READS_TOKENS
    assert "vocabulary of 512 instead of 2048" in found["tokenizer"].text
    assert "hidden_size 64 instead of 128" in found["architecture"].text
    assert found["end tokens"].incomparable == WRITES  # 1 instead of 2


def test_a_tokenizer_that_adds_no_bos_is_another_tokenizer(stories, copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(copy, "tokenizer_config.json", add_bos_token=False, tokenizer_class="PreTrainedTokenizerFast")
    [found] = differences(stories, str(copy))
    assert (found.about, found.incomparable) == ("tokenizer", READS_TOKENS)
    assert "BOS" in found.text


def test_template_end_tokens_and_context_are_each_named(stories, copy):
    edit(copy, "tokenizer_config.json", chat_template="{{ messages[0]['content'] }}")
    edit(copy, "generation_config.json", eos_token_id=[2, 5])
    edit(copy, "config.json", max_position_embeddings=256)
    found = {each.about: each for each in differences(stories, str(copy))}
    assert found["chat template"].chat_only
    assert "only one of the two" in found["chat template"].text
    assert "[2, 5] instead of [2]" in found["end tokens"].text
    assert "256 instead of 512" in found["context length"].text
    assert set(found) == {"chat template", "end tokens", "context length"}


KINDS = [("w4a16", "compressed-tensors"), ("int4", "bitsandbytes"), ("magnitude", None)]


@pytest.mark.parametrize(("strategy", "method"), KINDS)
def test_a_ready_made_checkpoint_answers_as_the_strategy_that_made_it(stories, copy, strategy, method):
    """A saved bitsandbytes checkpoint falls into the AVX512-BF16 trap too, unless the guard covers it."""
    made = models.load(stories, parse(strategy), cache_dir=copy.parent / "cache")
    for file in copy.glob("*.safetensors"):
        file.unlink()
    if strategy == "int4":
        made.model.save_pretrained(copy)
    else:
        from tiltmeter.artifacts import Artifacts

        [artifact] = [a for a in Artifacts(copy.parent / "cache").entries() if a.key.get("strategy") == strategy]
        shutil.copytree(artifact.path / "model", copy, dirs_exist_ok=True)
    variant = models.load(str(copy), parse("none"))
    ids = torch.tensor([[1, 80, 147, 201, 282]])
    with torch.inference_mode():
        assert torch.equal(variant.model(ids).logits, made.model(ids).logits)
    assert describe(variant, stories) == []
    assert (method or "not quantized") in variant.proof["summary"]
    assert variant.proof["quantized_layers"] == (0 if method is None else 14)
    assert variant.proof["largest_logit_change"] == pytest.approx(made.proof["largest_logit_change"])
    json.dumps(variant.proof)


def test_a_checkpoint_whose_library_is_missing_says_which(copy):
    edit(copy, "config.json", quantization_config={"quant_method": "aqlm"})
    with pytest.raises(UserError, match="cannot be loaded here") as caught:
        models.load(str(copy), parse("none"))
    assert "install the package it names" in caught.value.fix


def test_a_quantized_checkpoint_is_not_quantized_again(stories, copy):
    edit(copy, "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(UserError, match="quantized already"):
        models.load(str(copy), parse("int8"))
