"""Packed weights against the layers' own products, and when they are made."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_variant
from torch import nn

from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.kernels import packed_linear
from tiltmeter.scoring.kernels.packed_linear import (
    PAYS_AFTER_TOKENS,
    WINDOW_TOKENS,
    PackedLinears,
    packable,
    packed_linears,
)
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob

pytestmark = pytest.mark.skipif(not packed_linear.available(), reason="this torch was built without MKL")
ROWS = 64
TEXTS = [f"{first} and {second} went to the market" for first in ("Ann", "Bob", "Cem") for second in ("Dan", "Eve")]


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(48, 96), nn.ReLU(), nn.Linear(96, 33, bias=False))


def is_packed(linears: PackedLinears, layer: nn.Module, rows: int) -> bool:
    with linears.expecting(rows):
        return "forward" in layer.__dict__


def used(linears: PackedLinears, rows: int, times: int) -> None:
    for _ in range(times):
        with linears.expecting(rows):
            pass


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [16, 80, 125, 512])
@torch.inference_mode()
def test_packed_products_are_the_plain_ones_but_for_rounding(rows, one_thread):
    """Bit for bit with one thread and MKL's best kernels; under MKL_CBWR the packed ones add in another order."""
    model = layers()
    x = torch.randn(1, rows, 48)
    plain = model(x)
    linears = PackedLinears(model)
    used(linears, rows, -(-PAYS_AFTER_TOKENS // rows))
    with linears.expecting(rows):
        assert "forward" in model[0].__dict__
        torch.testing.assert_close(model(x), plain, rtol=0, atol=1e-6)  # sums of 96 terms below 1
        assert torch.allclose(model(x[:, :5]), plain[:, :5], atol=1e-5)  # fewer rows: the layer's own way
    assert "forward" not in model[0].__dict__
    assert torch.equal(model(x), plain)


def test_weights_are_packed_once_as_many_tokens_came_as_pay_for_it():
    model = layers()
    linears = PackedLinears(model)
    used(linears, ROWS, (PAYS_AFTER_TOKENS - 1) // ROWS)
    assert "forward" not in model[0].__dict__
    assert is_packed(linears, model[0], ROWS)
    assert not is_packed(linears, model[0], ROWS - 1)


def test_odd_sizes_now_and_then_are_never_packed():
    """A last piece of 100 rows after every 8 of 128: 100 of 1,124 tokens, under the share of a window that pays."""
    assert PAYS_AFTER_TOKENS / WINDOW_TOKENS > 100 / 1124
    model = layers()
    linears = PackedLinears(model)
    for _ in range(200):
        used(linears, 128, 8)
        used(linears, 100, 1)
    assert is_packed(linears, model[0], 128)
    assert not is_packed(linears, model[0], 100)


def test_a_third_size_takes_the_place_of_the_one_least_used():
    model = layers()
    linears = PackedLinears(model)
    for rows in (32, 64, 128):
        used(linears, 32, 10)
        used(linears, rows, -(-PAYS_AFTER_TOKENS // rows))
    assert [is_packed(linears, model[0], rows) for rows in (32, 64, 128)] == [True, False, True]


def test_nothing_is_packed_where_memory_is_short(monkeypatch):
    model = layers()
    monkeypatch.setattr(packed_linear, "free_bytes", lambda _device: 8 * 4 * 48 * 96)
    linears = PackedLinears(model)  # two layers: a little more than an eighth of that
    used(linears, ROWS, 100)
    assert not is_packed(linears, model[0], ROWS)


def test_layers_that_are_not_plain_are_left_alone():
    wrapped, half, other = nn.Linear(4, 4), nn.Linear(4, 4).half(), type("Quantized", (nn.Linear,), {})(4, 4)
    wrapped.forward = lambda x: x
    assert [packable(layer) for layer in (nn.Linear(4, 4), wrapped, half, other, nn.ReLU())] == [True] + [False] * 4


def test_the_packed_weights_of_a_model_are_shared_and_go_with_it():
    model = layers()
    assert packed_linears(model) is packed_linears(model)
    known = len(packed_linear._of)
    del model
    assert len(packed_linear._of) == known - 1


def test_the_engine_answers_the_same_with_packed_weights(monkeypatch):
    requests = [
        request
        for text in TEXTS
        for request in (SequenceLogprob(text), OptionProbs(text, (("a",), ("b",))), Generation(text, 12, 1.0, 1.0, 3))
    ]
    monkeypatch.setattr(packed_linear, "available", lambda: False)
    expected = Engine(tiny_variant(), batch_tokens=ROWS).answer(requests)
    monkeypatch.undo()
    monkeypatch.setattr(packed_linear, "PAYS_AFTER_TOKENS", 1)
    monkeypatch.setattr(packed_linear, "FEWEST_ROWS", 1)
    packed = []
    monkeypatch.setattr(
        packed_linear,
        "_packed",
        lambda layer, rows, make=packed_linear._packed: (packed.append(rows), make(layer, rows))[1],
    )
    found = Engine(tiny_variant(), batch_tokens=ROWS).answer(requests)
    assert ROWS in packed
    for one, other in zip(found, expected, strict=True):
        if hasattr(other, "logprob"):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-5)
        elif hasattr(other, "logprobs"):
            assert [forms[0] for forms in one.logprobs] == pytest.approx([f[0] for f in other.logprobs], abs=1e-5)
        else:
            assert one == other
