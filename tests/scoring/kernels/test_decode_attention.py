"""Attention over three parts at once: the definition is plain attention over the keys in a row, and the Triton kernel,
run by Triton's interpreter on the CPU (`make kernel-test`), gives the definition's numbers."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from plain_attention import plain as long_way

from tiltmeter.scoring.kernels.attention import Scores
from tiltmeter.scoring.kernels.decode_attention import kernel_fits
from tiltmeter.scoring.kernels.decode_definition import Now, plain

KERNEL = pytest.mark.triton
ROOM = 200


def case(heads=4, kv_heads=2, size=8, value_size=None, prefix=20, seed=0, n_rows=4):
    """Rows of unequal lengths: one with nothing shared, one that is new, one whose own part ends in a tile's middle.
    Rows and slots stand in no order, with others between them."""
    torch.manual_seed(seed)
    value_size = value_size or size
    own = torch.tensor([1, 70, 133, 64, 17, 2, 99, 5], dtype=torch.int32)[:n_rows]
    shared = torch.tensor([0, 64, 5, 130, 0, 0, 1, 63], dtype=torch.int32)[:n_rows]
    now = Now(
        rows=torch.tensor([5, 0, 3, 1, 2, 4, 7, 6])[:n_rows],
        slots=torch.tensor([2, 0, 2, 1, 0, 0, 1, 2])[:n_rows],
        prefix=torch.tensor([prefix], dtype=torch.int32),
        shared=shared,
        own=own,
    )
    parts = [
        (torch.randn(rows, kv_heads, ROOM, size).double(), torch.randn(rows, kv_heads, ROOM, value_size).double())
        for rows in (9, 3, 1)
    ]
    query = torch.randn(heads, n_rows, size).double()
    return query, parts[0], parts[1], parts[2] if prefix else None, now


def in_a_row(query, own, shared, prefix, now, scores, window):
    """Each row by itself: its keys one after another, in float64."""
    found = []
    for index, (row, slot) in enumerate(zip(now.rows.tolist(), now.slots.tolist(), strict=True)):
        lengths = int(now.prefix), int(now.shared[index]), int(now.own[index])
        pieces = [
            (part[0][at, :, :length], part[1][at, :, :length])
            for part, at, length in zip((prefix, shared, own), (0, slot, row), lengths, strict=True)
            if part is not None
        ]
        key, value = (torch.cat(side, 1)[None].double() for side in zip(*pieces, strict=True))
        n_keys = key.shape[2]
        hidden = n_keys - 1 - torch.arange(n_keys) >= (n_keys if window is None else window)
        found.append(long_way(query[None, :, index : index + 1].double(), key, value, hidden, scores)[0, :, 0])
    return torch.stack(found)


CASES = {
    "grouped heads": ({}, Scores(0.35), None),
    "one query head per key": ({"kv_heads": 4}, Scores(0.35), None),
    "a window within the own part": ({}, Scores(0.35), 40),
    "a window over all parts": ({}, Scores(0.35), 150),
    "soft cap": ({}, Scores(2.0, 5.0), None),
    "soft cap and window": ({}, Scores(2.0, 5.0), 90),
    "no prefix": ({"prefix": 0}, Scores(0.35), None),
    "head sizes that are no powers of two": ({"size": 20, "value_size": 12}, Scores(0.3), None),
    "more query heads than a tensor core's rows": ({"heads": 40}, Scores(0.35), None),
    "large scores": ({}, Scores(30.0), None),
    "eight rows": ({"n_rows": 8}, Scores(0.35), 64),
}


def cast(arguments, dtype):
    query, *parts, now = arguments
    return query.to(dtype), *(part and tuple(side.to(dtype) for side in part) for part in parts), now


@pytest.mark.parametrize("name", CASES)
def test_the_definition_is_plain_attention_over_the_keys_in_a_row(name):
    shape, scores, window = CASES[name]
    arguments = case(**shape)
    torch.testing.assert_close(
        plain(*arguments, scores, window), in_a_row(*arguments, scores, window), atol=1e-12, rtol=1e-12
    )


def test_a_part_that_does_not_exist_is_one_of_length_nothing():
    query, own, shared, prefix, now = case()
    now = replace(now, shared=torch.zeros_like(now.shared), prefix=torch.zeros_like(now.prefix))
    alone = plain(query, own, None, None, now, Scores(0.35))
    assert torch.equal(alone, plain(query, own, shared, prefix, now, Scores(0.35)))


def test_what_stands_beyond_a_length_is_never_read():
    arguments = case()
    clean = plain(*arguments, Scores(0.35))
    assert torch.equal(plain(*spoiled(arguments), Scores(0.35)), clean)


def spoiled(arguments):
    """NaN wherever nobody may look."""
    query, own, shared, prefix, now = arguments
    for part, rows, lengths in ((own, now.rows, now.own), (shared, now.slots, now.shared)):
        longest = dict.fromkeys(range(len(part[0])), 0)
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            longest[row] = max(longest[row], length)
        for row, length in longest.items():
            for side in part:
                side[row, :, length:] = torch.nan
    for side in prefix:
        side[:, :, int(now.prefix) :] = torch.nan
    return query, own, shared, prefix, now


def test_without_a_card_or_the_interpreter_there_is_no_kernel():
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter is on")
    assert not kernel_fits("cpu", torch.float32, 64)


@pytest.fixture
def bfloat16_products(monkeypatch):
    """Triton 3.9's interpreter keeps bfloat16 as its bits and multiplies those; here they become numbers first, which
    are multiplied exactly and summed in float32, as a tensor core does."""
    from triton.runtime.interpreter import interpreter_builder, tl

    dot = interpreter_builder.create_dot

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        wide = (handle.data.astype("uint32") << 16).view("float32")
        return type(handle)(wide, tl.float32)

    monkeypatch.setattr(interpreter_builder, "create_dot", lambda a, b, *rest: dot(widened(a), widened(b), *rest))


@KERNEL
@pytest.mark.usefixtures("bfloat16_products")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)], ids=str
)
def test_the_kernel_gives_the_definition_s_numbers(name, dtype, atol):
    from tiltmeter.scoring.kernels import decode_kernel

    shape, scores, window = CASES[name]
    arguments = cast(case(**shape), dtype)
    found = decode_kernel.attend(*arguments, scores, window)
    assert found.dtype == dtype
    expected = plain(*cast(arguments, torch.float64), scores, window)
    torch.testing.assert_close(found.double(), expected, atol=atol, rtol=0)


@KERNEL
@pytest.mark.parametrize("shares", [1, 2, 8])
def test_the_kernel_may_split_a_row_s_keys(shares, monkeypatch):
    from tiltmeter.scoring.kernels import decode_kernel

    monkeypatch.setattr(decode_kernel, "ENOUGH_PROGRAMS", shares * 8 * 2)
    arguments = case(n_rows=8)
    found = decode_kernel.attend(*cast(arguments, torch.float32), Scores(0.35), 100)
    torch.testing.assert_close(found.double(), plain(*arguments, Scores(0.35), 100), atol=2e-5, rtol=0)


@KERNEL
def test_the_kernel_never_reads_beyond_a_length():
    from tiltmeter.scoring.kernels import decode_kernel

    arguments = cast(case(), torch.float32)
    clean = decode_kernel.attend(*arguments, Scores(0.35), None)
    assert torch.equal(decode_kernel.attend(*spoiled(arguments), Scores(0.35), None), clean)


@KERNEL
def test_the_kernel_takes_queries_in_any_layout():
    from tiltmeter.scoring.kernels import decode_kernel

    query, *rest = cast(case(), torch.float32)
    turned = query.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert turned.stride() != query.stride()
    clean = decode_kernel.attend(query, *rest, Scores(0.35), None)
    assert torch.equal(decode_kernel.attend(turned, *rest, Scores(0.35), None), clean)


@KERNEL
def test_the_interpreter_serves_what_fits():
    assert kernel_fits("cpu", torch.bfloat16, 256)
    assert not kernel_fits("cpu", torch.float64, 64)
    assert not kernel_fits("cpu", torch.float32, 512)
