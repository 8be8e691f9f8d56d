"""How many tokens go through the model at once: what the rule says of given costs and given memory."""

from __future__ import annotations

import pytest
from tiny_models import tiny_variant

from tiltmeter.scoring import budget
from tiltmeter.scoring.budget import auto_batch_tokens, bytes_per_token, free_bytes


@pytest.mark.parametrize(
    ("overhead", "expected"),
    [(3, 512), (16, 512), (25, 1024), (32, 1024), (33, 2048), (500, 2048)],  # 32 x the overhead, up to a power of two
)
def test_a_forward_is_so_large_that_little_is_lost_to_its_overhead(monkeypatch, overhead, expected):
    monkeypatch.setattr(budget, "overhead_tokens", lambda *_: overhead)
    assert auto_batch_tokens(tiny_variant()) == expected


def test_little_memory_makes_it_smaller_but_never_useless(monkeypatch):
    monkeypatch.setattr(budget, "overhead_tokens", lambda *_: 32)
    variant = tiny_variant()
    monkeypatch.setattr(budget, "free_bytes", lambda _device: 300 * bytes_per_token(variant))
    assert auto_batch_tokens(variant) == 128  # 60 % of 300, down to a power of two
    monkeypatch.setattr(budget, "free_bytes", lambda _device: 0)
    assert auto_batch_tokens(variant) == 64


def test_a_token_of_a_llama_costs_its_logits_and_its_share_of_the_keys_and_values():
    """259 logits, as float32 and twice more; 3 layers x 2 heads x 8 x keys and values x 4 bytes for the token itself
    and for 512 / 8 tokens of decoding rows."""
    assert bytes_per_token(tiny_variant()) == 259 * 12 + 2 * 3 * 2 * 8 * 4 * (1 + 64)


def test_a_containers_limit_counts_and_its_page_cache_is_free(monkeypatch, tmp_path):
    monkeypatch.setattr(budget, "CGROUP", tmp_path)
    of_the_machine = free_bytes("cpu")
    assert of_the_machine > 10**6
    for name, text in (
        ("memory.max", "1000000"),
        ("memory.current", "700000"),
        ("memory.stat", "anon 500000\nactive_file 40000\ninactive_file 60000\nslab 9"),
    ):
        (tmp_path / name).write_text(text + "\n")
    assert free_bytes("cpu") == 1000000 - 700000 + 100000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes("cpu") == pytest.approx(of_the_machine, rel=0.2)
