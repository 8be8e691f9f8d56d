"""The table of formats: its columns by hand, refusals in their place, and an order that must hold on any model."""

import json
import math
from pathlib import Path

import pytest
import torch
from benchmarks.formats import Texts, main

from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply


@pytest.fixture(scope="module")
def text(shared, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("text") / "stories.txt"
    stories = json.loads((shared / "data" / "text" / "tinystories_1000.json").read_text())
    file.write_text("\n\n".join(stories), encoding="utf-8")
    return file


def test_the_columns_are_what_a_plain_loop_makes_of_the_same_windows(stories, text):
    base, variant = (apply.load(stories, parse(name)) for name in ("none", "w4a16"))
    texts = Texts(base, text.read_text(), windows=2, length=24, scored=5)
    perplexity, kl, same = texts.compared(variant)
    nats, divergence, agree = [], [], []
    for window in texts.windows:
        assert window.shape == (1, 24) and window[0, 0] == base.tokenizer.bos_token_id
        with torch.inference_mode():
            now, before = (each.model(window).logits[0].double().log_softmax(-1) for each in (variant, base))
        for place in range(18, 23):  # the tokens that follow are the last five
            nats.append(-float(now[place, window[0, place + 1]]))
            divergence.append(float((before[place].exp() * (before[place] - now[place])).sum()))
            agree.append(bool(now[place].argmax() == before[place].argmax()))
    assert perplexity == pytest.approx(math.exp(sum(nats) / 10), rel=1e-5)
    assert kl == pytest.approx(sum(divergence) / 10, rel=1e-4)
    assert same == sum(agree) / 10


def test_what_is_refused_stands_in_the_table_with_its_reason(stories, text, capsys):
    asked = ["-s", "reap", "-s", "w8a16", "--windows", "2", "--length", "32"]
    rows = main([stories, "--text", str(text), *asked])
    out = capsys.readouterr().out.splitlines()
    assert [row.strategy for row in rows] == ["none", "w8a16"]
    assert rows[0].kl == 0 and rows[0].same_top == 1
    assert any(line.startswith("| `reap` | reap takes experts out of a mixture") for line in out)
    assert len({line.count("|") for line in out if line.startswith("|")}) == 1  # every line has every column


@pytest.mark.slow
def test_fewer_bits_lose_more(stories, text):
    """The order that papers report, and that any trained model shows."""
    asked = ("w8a16", "fp8", "mxfp8", "nvfp4a16", "w4a16", "mxfp4", "w4a16:bits=3", "w4a16:bits=2", "w4a16:keep=0")
    caches = ("kv8", "kv4", "kv-fp8", "kv-fp4")
    options = [part for name in (*asked, *caches, "drop-layers") for part in ("-s", name)]
    rows = main([stories, "--text", str(text), *options, "--windows", "16", "--length", "128"])
    kl = {row.strategy: row.kl for row in rows}
    assert kl["w8a16"] < kl["fp8"] < kl["nvfp4a16"] < kl["w4a16"] < kl["w4a16:bits=3"] < kl["w4a16:bits=2"]
    assert kl["w8a16"] < kl["mxfp8"] < kl["nvfp4a16"] < kl["mxfp4"]
    assert kl["w4a16:keep=0"] < kl["w4a16"]
    assert kl["kv8"] < kl["kv4"] and kl["kv-fp8"] < kl["kv-fp4"]
    ppl = {row.strategy: row.perplexity for row in rows}
    assert ppl["w8a16"] == pytest.approx(ppl["none"], rel=0.02)
    assert ppl["w4a16:bits=2"] > 3 * ppl["none"] and ppl["drop-layers"] > 3 * ppl["none"]
