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


def row_of(name: str, capsys, width: int | None = None) -> str:
    listing.show_list("strategies")
    out = capsys.readouterr().out
    lines = out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f" {name} "))
    end = next(number for number in range(start + 1, len(lines)) if not lines[number].startswith("    "))
    return " ".join(" ".join(lines[start:end]).split())


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("nvfp4", ["text, bfloat16", "transformers, vLLM", "simulated", "arxiv.org/abs/2509.25149"]),
        ("drop-layers", ["from=middle", "real"]),
        ("reap", ["a mixture of experts, text"]),
        ("torchao-int8", ["compile=none", "torchao", "real"]),
        ("dynamic-int8", ["ruins real models, see torchao-int8", "CPU only"]),
        ("dtype", ["type=…"]),
    ],
)
def test_a_row_says_what_it_needs_who_reads_it_and_whether_speed_is_real(name, holds, capsys):
    row = row_of(name, capsys)
    folded = row.replace(" ", "")
    assert all(each.replace(" ", "") in folded or each in row for each in holds), row


@pytest.mark.parametrize("cls", known("strategy").values(), ids=lambda cls: cls.name)
def test_what_is_declared_holds(cls):
    """Engines read checkpoints: who makes none is read by none. What is simulated has no speed of its own."""
    usual = listing._usual(cls)
    assert cls.source and cls.library and cls.summary
    assert bool(cls.read_by) <= (cls.makes_checkpoint or cls.library == "llama.cpp")
    if cls.simulated:
        assert usual.speed_is_real == SIMULATED
