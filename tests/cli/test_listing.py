"""`tiltmeter list strategies`: every strategy once, in its family, with what it needs and whether its speed is real."""

import pytest

from tiltmeter.cli import listing
from tiltmeter.registry import known
from tiltmeter.strategies.base import SIMULATED


def test_every_strategy_stands_in_one_family():
    families = listing._families()
    listed = [cls.name for classes in families.values() for cls in classes]
    assert sorted(listed) == sorted(known("strategy"))
    of = {cls.name: title for title, classes in families.items() for cls in classes}
    assert of["w4a16"] == "Weights" and of["nvfp4"] == of["int8"] == "Weights and activations"
    assert of["reap"] == "Structure" and of["kv-fp4"] == "KV cache" and of["assisted"].startswith("Controls")
    assert of["q4_k_m"] == of["gguf-cache"] and "GGUF" in of["q4_k_m"]


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("nvfp4", ["needs text, bfloat16", "read by transformers, vLLM", "simulated", "arxiv.org/abs/2509.25149"]),
        ("drop-layers", ["settings: n=1, from=middle", "by torch", "real speed"]),
        ("reap", ["needs a mixture of experts, text"]),
        ("torchao-int8", ["compile=none", "by torchao", "real speed"]),
        ("dynamic-int8", ["ruins real models, see torchao-int8", "needs CPU only"]),
        ("dtype", ["type=…"]),
    ],
)
def test_a_strategy_says_what_it_needs_who_reads_it_and_whether_speed_is_real(name, holds, capsys):
    listing.show_list("strategies")
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f" {name} "))
    end = next(number for number in range(start + 1, len(lines)) if not lines[number].startswith("    "))
    said = " ".join(" ".join(lines[start:end]).split())
    assert all(each in said for each in holds), said


def test_80_columns_break_no_word_that_fits(monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr(listing, "_console", lambda: Console(width=80, highlight=False))
    listing.show_list("strategies")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for word in ("llm-compressor", "activation-aware", "group_size=128", "arxiv.org/abs/2306.00978"):
        assert word in out


@pytest.mark.parametrize("cls", known("strategy").values(), ids=lambda cls: cls.name)
def test_what_is_declared_holds(cls):
    """Engines read checkpoints: who makes none is read by none. What is simulated has no speed of its own."""
    usual = listing._usual(cls)
    assert cls.source and cls.library and cls.summary
    assert bool(cls.read_by) <= (cls.makes_checkpoint or cls.library == "llama.cpp")
    if cls.simulated:
        assert usual.speed_is_real == SIMULATED
