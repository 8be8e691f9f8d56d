"""Speed: what is measured, in which order, and that nothing is printed which nobody measured. No timed assertion."""

import json
from pathlib import Path

import pytest
import torch

from tiltmeter.errors import UserError
from tiltmeter.models.random_weights import from_shape
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply, speed
from tiltmeter.variants.speed import Setting, Timing, measure, weight_bytes

SMALL = Setting(batch=2, prompt_tokens=16, new_tokens=4, repeats=2)


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "tinystories-656k")


def test_the_base_comes_first_and_a_simulated_strategy_gets_a_label_instead_of_numbers(stories):
    base, quantized, simulated = measure(stories, ["int4", "w4a16"], setting=SMALL, peak=False)
    assert (base.strategy, base.prefill_speedup, base.note) == ("none", None, "")
    assert base.decode.low <= base.decode.median <= base.decode.high
    assert quantized.decode_speedup is not None
    assert str(simulated.note) == "simulated: no speed measured here"
    numbers = ("prefill", "decode", "prefill_speedup", "decode_speedup", "memory_bytes", "peak_bytes")
    assert all(getattr(simulated, name) is None for name in numbers)
    assert simulated.disk_bytes < base.disk_bytes / 1.5  # packed 4-bit weights, float32 embeddings
    document = json.loads(json.dumps([row.as_json() for row in (base, quantized, simulated)]))
    assert document[0]["decode_tokens_per_s"] == base.decode.median
    assert document[2]["decode_tokens_per_s"] is None
    assert document[0]["setting"]["device"] == "cpu"
    assert document[0]["setting"]["threads"] >= 1


def test_base_and_variant_alternate_and_ratios_pair_the_same_round(stories, monkeypatch):
    """Base 2 s and 4 s, variant 1 s and 1 s: 32 tokens / 1 s; ratios 2 and 4, median 3. The first round is warm-up."""
    base, variant = (apply.load(stories, parse(name)) for name in ("none", "int4"))
    order, seconds = [], {"none": [9.0, 2.0, 4.0], "int4": [9.0, 1.0, 1.0]}

    def fake(which, ids, prompt_tokens):
        order.append(which.strategy)
        return (seconds[which.strategy].pop(0),) * 2

    monkeypatch.setattr(speed, "_pass", fake)
    rounds = speed._time(base, variant, torch.zeros(2, 20), SMALL)
    assert order == ["none", "int4"] * 3
    found = speed._summary("int4", variant, SMALL, rounds, None, "")
    assert found.prefill == Timing(32.0, 32.0, 32.0)  # 2 prompts x 16 tokens
    assert found.decode == Timing(8.0, 8.0, 8.0)  # 2 prompts x 4 tokens
    assert found.prefill_speedup == Timing(3.0, 2.0, 4.0)


def test_weight_bytes_counts_shared_storage_once_and_quantized_layers_as_they_lie(stories):
    plain = apply.load(stories, parse("none")).model
    n_linear = 2 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 384)  # 2 layers: q o, k v, gate up down
    n_rest = 2048 * 128 + 5 * 128  # embeddings (tied with the head), 5 norms
    assert weight_bytes(plain) == pytest.approx(4 * (n_linear + n_rest), abs=1000)  # plus rotary frequencies
    nf4 = apply.load(stories, parse("int4")).model
    blocks = n_linear // 64
    assert weight_bytes(nf4) == pytest.approx(n_linear / 2 + 4 * blocks + 4 * n_rest, abs=1000)
    int8 = apply.load(stories, parse("int8")).model
    rows = 2 * (128 + 128 + 64 + 64 + 384 + 384 + 128)
    assert weight_bytes(int8) == pytest.approx(n_linear + 4 * rows + 4 * n_rest, abs=1000)
    dynamic = apply.load(stories, parse("dynamic-int8")).model
    assert weight_bytes(dynamic) == pytest.approx(n_linear + 4 * n_rest, abs=1000)


def test_peak_memory_is_measured_in_a_process_of_its_own(stories):
    [base] = measure(stories, [], setting=Setting(batch=1, prompt_tokens=8, new_tokens=2, repeats=1))
    assert base.peak_bytes is not None
    assert base.peak_bytes >= 0


def test_a_configuration_alone_gives_a_random_model_that_every_strategy_accepts(tmp_path):
    shape = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "vocab_size": 300,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "dtype": "float32",
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(shape))
    assert from_shape(str(file)) == from_shape(str(file))
    base, variant = measure(str(file), ["dynamic-int8"], setting=SMALL, peak=False)
    assert variant.memory_bytes < base.memory_bytes
    first = apply.load(from_shape(str(file)), parse("none"))
    assert first.tokenizer.decode(first.tokenizer("héllo").input_ids) == "héllo"


@pytest.mark.parametrize(("content", "says"), [("{}", "describes no model"), ("not json", "cannot read")])
def test_a_file_that_describes_no_model(tmp_path, content, says):
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(UserError, match=says):
        measure(str(file), [], setting=SMALL, peak=False)


def test_what_does_not_fit_the_context_is_refused(stories):
    with pytest.raises(UserError, match="1004 tokens do not fit the context of 512"):
        measure(stories, [], setting=Setting(batch=1, prompt_tokens=1000, new_tokens=4), peak=False)
    with pytest.raises(UserError, match="repeats is at least 1"):
        Setting(repeats=0)


def test_random_tokens_are_the_same_for_every_variant():
    first, again = (speed._tokens(SMALL, 100, 0, "cpu") for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (2, 20)
