"""Every format on a real model: it runs, or is refused with a fix, and fewer bits lose more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.formats import main

pytestmark = [pytest.mark.real, pytest.mark.timeout(3 * 3600)]

NEAR = (
    "w8a16",
    "fp8",
    "fp8-block",
    "mxfp8",
    "kv8",
    "kv-fp8",
)  # within a tenth of the base's perplexity


def test_fewer_bits_lose_more_on_a_real_model(shared, tmp_path):
    model = Path(os.environ.get("TILTMETER_REAL", "build/real")).resolve() / "SmolLM2-135M-Instruct"
    if not model.is_dir():
        pytest.skip(f"needs {model}: make test-real fetches it")
    asked = (*NEAR, "dynamic-int8", "nvfp4a16", "w4a16", "w4a16:keep=0+29", "mxfp4", "w4a16:bits=3", "drop-layers")
    options = [part for name in asked for part in ("-s", name)]
    text = shared / "data" / "text" / "wikitext2_test.txt"
    rows = main([str(model), "--text", str(text), *options, "--windows", "4", "--length", "256"])
    times = {row.strategy: row.times for row in rows}
    assert set(times) == {"none", *asked}  # nothing was refused: groups fall to what divides 576 and 1536
    assert all(times[name] < 1.1 for name in NEAR)
    kl = {row.strategy: row.kl for row in rows}  # orders neighbours on few tokens, where perplexity does not
    assert kl["w8a16"] < kl["fp8"] < kl["nvfp4a16"] < kl["w4a16"] < kl["w4a16:bits=3"]
    assert kl["w4a16:keep=0+29"] < kl["w4a16"] < kl["mxfp4"]
    assert times["dynamic-int8"] > 1.7  # a supporting finding of the coherence gate at least
