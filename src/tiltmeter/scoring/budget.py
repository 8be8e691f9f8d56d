"""How many tokens go through the model in one forward.

A forward of Q tokens takes about t1 + Q * t: t1 is what one token costs already (reading the weights, launching the
kernels), t is arithmetic. The share lost to t1 is B / (B + Q) with B = t1 / t, the number of tokens whose arithmetic
takes as long as t1. Both are measured on the loaded variant, so a small model on a slow interpreter, a large one
on a fast accelerator and a quantized one each get their own answer. The budget is the power of two from which less
than a thirty-second is lost, or what fits the free memory if that is less.

Larger is not better beyond that: it only makes the unit of commit coarser.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import psutil
import torch

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.plan import TOKENS_PER_ROW

LOST_SHARE = 1 / 32
MEMORY_SHARE = 0.6  # of what is free; the rest is for the allocator, masks and whoever else lives here
ROW_TOKENS = 512  # prompt and answer of one decoding row, roughly
SMALLEST = 64  # however little memory is free
AT_LEAST = {"cpu": 512}  # elsewhere 1024: a probe on a busy machine may come out far too small, and that costs most
LARGEST = {"cpu": 2048}  # elsewhere 8192
CGROUP = Path("/sys/fs/cgroup")
PROBE_TOKENS = {"cpu": 128}  # elsewhere 2048: enough to leave the range where reading weights dominates


def auto_batch_tokens(variant: LoadedVariant) -> int:
    """Tokens in one forward for this variant on this machine: fixed once per run, in `run.json`."""
    kind = torch.device(variant.device).type
    wanted = overhead_tokens(variant, PROBE_TOKENS.get(kind, 2048)) / LOST_SHARE
    fitting = MEMORY_SHARE * free_bytes(variant.device) / bytes_per_token(variant)
    power = math.ceil(math.log2(max(wanted, 1)))
    budget = max(AT_LEAST.get(kind, 1024), min(2**power, LARGEST.get(kind, 8192)))
    return int(max(SMALLEST, min(budget, 2 ** math.floor(math.log2(max(fitting, 1))))))


@torch.inference_mode()
def overhead_tokens(variant: LoadedVariant, probe_tokens: int) -> float:
    """B of the module's text: how many tokens' arithmetic takes as long as a forward of one token."""
    vocabulary = variant.model.config.get_text_config(decoder=True).vocab_size
    n_tokens = max(2, min(probe_tokens, variant.max_length))

    def seconds(length: int) -> float:
        ids = (torch.arange(length, device=variant.device) % vocabulary)[None]
        best = math.inf
        for _ in range(2):
            started = time.perf_counter()
            float(variant.model(ids, use_cache=False).logits[0, -1, 0])  # waits for the device
            best = min(best, time.perf_counter() - started)
        return best

    one, many = seconds(1), seconds(n_tokens)
    per_token = max((many - one) / (n_tokens - 1), one / 10_000)
    return one / per_token


def bytes_per_token(variant: LoadedVariant) -> int:
    """Memory that one token of the budget may need: its logits (as they come, in float32, and exponentiated) and its
    share of the keys and values of the rows decoded side by side."""
    config = variant.model.config.get_text_config(decoder=True)
    size = variant.model.dtype.itemsize
    heads = getattr(config, "num_attention_heads", None) or 1  # models without attention keep far less
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    logits = config.vocab_size * (size + 8)
    keys_and_values = 2 * config.num_hidden_layers * kv_heads * head_size * size
    return int(logits + keys_and_values * (1 + ROW_TOKENS / TOKENS_PER_ROW))


def free_bytes(device: str) -> int:
    """Free memory of a device: the GPU's own, else what the system can hand out without swapping, or what a
    container's limit leaves, files in the page cache counted as free."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))
    except (OSError, ValueError):  # no cgroup version 2, or no limit: "max"
        return free
    return max(0, min(free, limit - used + cached))
