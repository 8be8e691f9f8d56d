"""Library defaults do not leak in: decoding is the protocol's own, default group sizes fit the model and say so."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply


@pytest.fixture
def penalized(stories: str, tmp_path: Path) -> str:
    """The stories model with a generation configuration that would change every greedy text."""
    shutil.copytree(stories, tmp_path / "m")
    (tmp_path / "m").chmod(0o755)
    file = tmp_path / "m" / "generation_config.json"
    file.chmod(0o644)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2}))
    return str(tmp_path / "m")


def greedy(model, ids: list[int], count: int) -> list[int]:
    """One argmax after another, the whole text in a forward each time."""
    ids = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[-count:]


def test_assisted_decoding_obeys_no_generation_configuration(penalized):
    variant = apply.load(penalized, parse("assisted"), device="cpu")
    for text in ("Once upon a time there was a little girl", "The dog and the cat"):
        ids = variant.tokenizer(text).input_ids
        found, _ = variant.generate(ids, 24)
        assert found == greedy(variant.model, ids, 24)[: len(found)]


def test_generation_settings_that_are_not_used_are_named(penalized, stories):
    notes = [str(note) for note in apply.load(penalized, parse("none"), device="cpu").notes]
    assert any("no_repeat_ngram_size=2, repetition_penalty=1.8: not used" in note for note in notes)
    assert not any("generation_config" in str(note) for note in apply.load(stories, parse("none"), device="cpu").notes)


@pytest.mark.parametrize("strategy", ["w4a16", "gptq:samples=2,length=32", "awq:samples=2,length=32"])
def test_a_default_group_falls_to_the_largest_that_divides_and_says_so(stories, tmp_path, strategy):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=2048, max_position_embeddings=512, **sizes)).save_pretrained(tmp_path)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, tmp_path / file.name)
    variant = apply.load(str(tmp_path), parse(strategy), device="cpu")
    name = strategy.partition(":")[0]
    assert any(f"{name}: groups of 32 instead of 128" in str(note) for note in variant.notes)
    assert "groups of 32" in str(variant.proof["summary"])
    schemes = {
        m.quantization_scheme.weights.group_size for m in variant.model.modules() if hasattr(m, "quantization_scheme")
    }
    assert schemes == {32}
    with pytest.raises(UserError, match="group_size 64 does not fit"):  # one that was asked for stays
        parse_and_check(str(tmp_path), f"{name}:group_size=64")


def parse_and_check(model: str, strategy: str) -> None:
    [error] = apply.refusals(model, [parse(strategy)], device="cpu", dtype="float32", calibration=None).values()
    raise error
