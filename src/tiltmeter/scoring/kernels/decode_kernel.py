"""`decode_definition.plain` as a Triton kernel. Imported only where Triton is.

One program per row and key-value head (and share of the keys, where few rows would leave multiprocessors idle). The G
query heads of the head stand in the 16 rows that a tensor core takes at least. Products and sums are float32 without
TF32; half precision is multiplied as it is and summed in float32.
"""

# mypy: allow-incomplete-defs
# Triton gives the arguments of a kernel their types
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tiltmeter.scoring.kernels.attention import Scores
from tiltmeter.scoring.kernels.decode_definition import Now, Part

FEWEST_ROWS = 16  # of a matrix product on tensor cores
ENOUGH_PROGRAMS = 256  # that keep a card of 132 multiprocessors busy
MOST_SHARES = 8  # of a row's keys
TILE_BYTES = 2**15  # of keys read at a time; as much again of values
LOWEST = tl.constexpr(-1e30)  # of any score: finite, so that a part of which nothing is seen weighs 0, not NaN


@triton.jit
def _over(
    query, key, value, length, first, position, share, biggest, total, gathered,
    key_step, value_step, scale,
    SOFTCAP: tl.constexpr, WINDOW: tl.constexpr, SHARES: tl.constexpr, TILE: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, D_BLOCK: tl.constexpr, E_BLOCK: tl.constexpr,
):  # fmt: skip
    """Goes on with one part: `length` keys from position `first` on. Maximum (G,), sum (G,), weighted values (G, E)."""
    size = tl.arange(0, D_BLOCK)
    out_size = tl.arange(0, E_BLOCK)
    begin = 0
    if WINDOW > 0:  # tiles that lie before it are not read
        begin = tl.maximum(position - WINDOW + 1 - first, 0) // (SHARES * TILE) * (SHARES * TILE)
    for start in range(begin + share * TILE, length, SHARES * TILE):
        column = start + tl.arange(0, TILE)
        seen = column < length
        at = column.to(tl.int64)
        keys = tl.load(key + at[None, :] * key_step + size[:, None], seen[None, :] & (size[:, None] < D), other=0.0)
        product = tl.dot(query, keys, input_precision="ieee") * scale  # (G, TILE)
        if SOFTCAP > 0:
            small = tl.exp(-2.0 * tl.abs(product) / SOFTCAP)
            tangent = (1.0 - small) / (1.0 + small)
            product = SOFTCAP * tl.where(product < 0, -tangent, tangent)
        if WINDOW > 0:
            seen &= position - (first + column) < WINDOW
        product = tl.where(seen[None, :], product, float("-inf"))
        bigger = tl.maximum(biggest, tl.max(product, 1))
        fade = tl.exp(biggest - bigger)
        weight = tl.exp(product - bigger[:, None])
        values = tl.load(
            value + at[:, None] * value_step + out_size[None, :], seen[:, None] & (out_size[None, :] < E), other=0.0
        )
        added = tl.dot(weight.to(values.dtype), values, input_precision="ieee")
        gathered = gathered * fade[:, None] + added
        total = total * fade + tl.sum(weight, 1)
        biggest = bigger
    return biggest, total, gathered


@triton.jit
def _attend(
    query, out, logsumexp,
    own_key, own_value, shared_key, shared_value, prefix_key, prefix_value,
    rows, slots, prefix_length, shared_length, own_length, scale,
    query_head, query_row, query_size,
    own_key_row, own_key_head, own_key_step, own_value_row, own_value_head, own_value_step,
    shared_key_row, shared_key_head, shared_key_step, shared_value_row, shared_value_head, shared_value_step,
    prefix_key_head, prefix_key_step, prefix_value_head, prefix_value_step,
    HAS_SHARED: tl.constexpr, HAS_PREFIX: tl.constexpr, SOFTCAP: tl.constexpr, WINDOW: tl.constexpr,
    SHARES: tl.constexpr, TILE: tl.constexpr, GROUPS: tl.constexpr, G_BLOCK: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, D_BLOCK: tl.constexpr, E_BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0)
    head = tl.program_id(1)
    share = tl.program_id(2)
    n_rows = tl.num_programs(0)
    heads = tl.num_programs(1) * GROUPS
    row = tl.load(rows + index)  # int64: a card's keys are more than 2^31 values
    slot = tl.load(slots + index)
    n_prefix = tl.load(prefix_length)
    n_shared = tl.load(shared_length + index)
    n_own = tl.load(own_length + index)
    position = n_prefix + n_shared + n_own - 1

    group = tl.arange(0, G_BLOCK)
    size = tl.arange(0, D_BLOCK)
    asked = tl.load(
        query + (head * GROUPS + group[:, None]) * query_head + index * query_row + size[None, :] * query_size,
        (group[:, None] < GROUPS) & (size[None, :] < D),
        other=0.0,
    )
    biggest = tl.full([G_BLOCK], LOWEST, tl.float32)
    total = tl.zeros([G_BLOCK], tl.float32)
    gathered = tl.zeros([G_BLOCK, E_BLOCK], tl.float32)
    if HAS_PREFIX:
        biggest, total, gathered = _over(
            asked, prefix_key + head * prefix_key_head, prefix_value + head * prefix_value_head,
            n_prefix, 0, position, share, biggest, total, gathered, prefix_key_step, prefix_value_step, scale,
            SOFTCAP, WINDOW, SHARES, TILE, D, E, D_BLOCK, E_BLOCK,
        )  # fmt: skip
    if HAS_SHARED:
        biggest, total, gathered = _over(
            asked, shared_key + slot * shared_key_row + head * shared_key_head,
            shared_value + slot * shared_value_row + head * shared_value_head,
            n_shared, n_prefix, position, share, biggest, total, gathered, shared_key_step, shared_value_step, scale,
            SOFTCAP, WINDOW, SHARES, TILE, D, E, D_BLOCK, E_BLOCK,
        )  # fmt: skip
    biggest, total, gathered = _over(
        asked, own_key + row * own_key_row + head * own_key_head,
        own_value + row * own_value_row + head * own_value_head,
        n_own, n_prefix + n_shared, position, share, biggest, total, gathered, own_key_step, own_value_step, scale,
        SOFTCAP, WINDOW, SHARES, TILE, D, E, D_BLOCK, E_BLOCK,
    )  # fmt: skip

    out_size = tl.arange(0, E_BLOCK)
    place = (share * n_rows + index).to(tl.int64) * heads + head * GROUPS + group  # (share, row, head)
    found = gathered / tl.where(total > 0, total, 1.0)[:, None]
    kept = group < GROUPS
    tl.store(out + place[:, None] * E + out_size[None, :], found, kept[:, None] & (out_size[None, :] < E))
    if SHARES > 1:
        tl.store(logsumexp + place, biggest + tl.log(total), kept)


def attend(
    query: Tensor, own: Part, shared: Part | None, prefix: Part | None, now: Now, scores: Scores, window: int | None
) -> Tensor:
    """`decode_definition.plain` by the kernel: query (H, n, D) -> (n, H, E)."""
    heads, n_rows, size = query.shape
    kv_heads, value_size = own[1].shape[1], own[1].shape[3]
    shares = max(1, min(MOST_SHARES, ENOUGH_PROGRAMS // (n_rows * kv_heads)))
    dtype = query.dtype if shares == 1 else torch.float32
    out = torch.empty(shares, n_rows, heads, value_size, dtype=dtype, device=query.device)
    logsumexp = torch.empty(out.shape[:3], dtype=torch.float32, device=query.device)
    own_at, shared_at, prefix_at = (part or own for part in (own, shared, prefix))
    block = triton.next_power_of_2(max(size, value_size, FEWEST_ROWS))
    _attend[(n_rows, kv_heads, shares)](
        query, out, logsumexp, *own_at, *shared_at, *prefix_at,
        now.rows, now.slots, now.prefix, now.shared, now.own, scores.scale,
        *query.stride(),
        *own_at[0].stride()[:3], *own_at[1].stride()[:3],
        *shared_at[0].stride()[:3], *shared_at[1].stride()[:3],
        *prefix_at[0].stride()[1:3], *prefix_at[1].stride()[1:3],
        HAS_SHARED=shared is not None, HAS_PREFIX=prefix is not None,
        SOFTCAP=scores.softcap or 0.0, WINDOW=window or 0, SHARES=shares,
        TILE=min(64, max(16, TILE_BYTES // (block * query.element_size()))),
        GROUPS=heads // kv_heads, G_BLOCK=max(FEWEST_ROWS, triton.next_power_of_2(heads // kv_heads)),
        D=size, E=value_size,
        D_BLOCK=triton.next_power_of_2(max(size, FEWEST_ROWS)),
        E_BLOCK=triton.next_power_of_2(max(value_size, FEWEST_ROWS)),
    )  # fmt: skip
    if shares == 1:
        return out[0]
    # a share without keys has log-sum-exp log(0): it weighs nothing
    return (logsumexp.softmax(0)[..., None] * out).sum(0).to(query.dtype)
