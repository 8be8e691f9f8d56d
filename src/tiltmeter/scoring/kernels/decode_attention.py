"""Attention of decoding rows over the three parts of their keys, by the kernel or by the definition.

One program of `decode_kernel` reads a row's keys of one key-value head and keeps one running maximum and sum over the
three parts; nothing is merged afterwards and no bias is made. Lengths, rows and slots are read on the device, so the
same launch serves every later step: it can be captured.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from tiltmeter.scoring.kernels.attention import Scores
from tiltmeter.scoring.kernels.decode_definition import Now, Part, plain

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_HEAD = 256  # beyond, a tile of keys and one of values do not fit a multiprocessor's shared memory
INTERPRETED = "TRITON_INTERPRET"  # 1: Triton runs its kernels on a CPU, slowly; for tests


def decode_attention(
    query: Tensor,
    own: Part,
    shared: Part | None,
    prefix: Part | None,
    now: Now,
    scores: Scores,
    window: int | None = None,
) -> Tensor:
    """`decode_definition.plain`, by the kernel where it can be had."""
    if kernel_fits(query.device.type, query.dtype, max(own[0].shape[-1], own[1].shape[-1])):
        from tiltmeter.scoring.kernels import decode_kernel

        return decode_kernel.attend(query, own, shared, prefix, now, scores, window)
    return plain(query, own, shared, prefix, now, scores, window)


def kernel_fits(device: str, dtype: torch.dtype, head_size: int) -> bool:
    """Whether the kernel serves such keys there."""
    return _can_run(device) and dtype in DTYPES and head_size <= LARGEST_HEAD


@lru_cache
def _can_run(device: str) -> bool:
    interpreted = os.environ.get(INTERPRETED) == "1"
    return (device == "cuda" or interpreted) and find_spec("triton") is not None
