"""How many tokens go through the model in one forward.

A forward of Q tokens takes about t1 + Q * t: t1 is what one token costs already (reading the weights, launching the
kernels), t is arithmetic. The share lost to t1 is B / (B + Q) with B = t1 / t, the number of tokens whose arithmetic
takes as long as t1. Both are measured on the loaded variant, so a small model on a slow interpreter, a large one
on a fast accelerator and a quantized one each get their own answer. The budget is the power of two from which less
than a thirty-second is lost, or what fits the free memory if that is less.

Larger is not better beyond that: it only makes the unit of commit coarser.

How many rows a decoding step takes is another matter: a CPU's products reach their peak at some hundred rows, and each
row keeps its keys and values; a GPU wants a thousand rows, whatever its prefill takes. On a GPU it follows from the
card and the model alone, not from what happens to be free, so that a resumed run decodes in the same batches.
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
MEMORY_SHARE = {"cpu": 0.6}  # of what is free, elsewhere 0.8; the rest is for the allocator and whoever else lives here
ROW_TOKENS = 512  # prompt and answer of one decoding row, roughly
SMALLEST = 64  # however little memory is free
AT_LEAST = {"cpu": 512}  # elsewhere 1024: a probe on a busy machine may come out far too small, and that costs most
LARGEST = {"cpu": 2048}  # elsewhere 4096: prefill gains nothing beyond
MOST_ROWS = {"cpu": 128}  # elsewhere 1024
ROWS_SHARE = 0.55  # of a GPU's memory beyond the weights: keys and values of its decoding rows
CGROUP = Path("/sys/fs/cgroup")
PROBE_TOKENS = {"cpu": 128}  # elsewhere 2048: enough to leave the range where reading weights dominates


def auto_batch_tokens(variant: LoadedVariant) -> int:
    """Tokens in one forward for this variant on this machine: fixed once per run, in `run.json`."""
    kind = torch.device(variant.device).type
    wanted = overhead_tokens(variant, PROBE_TOKENS.get(kind, 2048)) / LOST_SHARE
    room = MEMORY_SHARE.get(kind, 0.8) * free_bytes(variant.device)
    if kind != "cpu":  # on a CPU the rows follow from the budget
        room -= decode_rows(variant, LARGEST.get(kind, 4096)) * ROW_TOKENS * bytes_of_keys(variant)
    fitting = room / bytes_per_token(variant)
    power = math.ceil(math.log2(max(wanted, 1)))
    budget = max(AT_LEAST.get(kind, 1024), min(2**power, LARGEST.get(kind, 4096)))
    return int(max(SMALLEST, min(budget, 2 ** math.floor(math.log2(max(fitting, 1))))))


def decode_rows(variant: LoadedVariant, batch_tokens: int) -> int:
    """Sequences decoded side by side: on a CPU an eighth of `batch_tokens`, at most 128; on a GPU the power of two, at
    most 1,024, whose keys and values fit beside the weights."""
    device = torch.device(variant.device)
    most = MOST_ROWS.get(device.type, 1024)
    if device.type == "cpu":
        return max(1, min(batch_tokens // TOKENS_PER_ROW, most))
    weights = sum(parameter.nbytes for parameter in variant.model.parameters())
    room = ROWS_SHARE * (total_bytes(variant.device) - weights)
    fitting = max(1.0, room / (ROW_TOKENS * bytes_of_keys(variant)))
    return int(min(most, 2 ** math.floor(math.log2(fitting))))


@torch.inference_mode()
def overhead_tokens(variant: LoadedVariant, probe_tokens: int) -> float:
    """B of the module's text: how many tokens' arithmetic takes as long as a forward of one token."""
    vocabulary = variant.model.config.get_text_config(decoder=True).vocab_size
    n_tokens = max(2, min(probe_tokens, variant.max_length))

    def seconds(length: int) -> float:
        ids = (torch.arange(length, device=variant.device) % vocabulary)[None]
        best = math.inf
        for _ in range(2 if torch.device(variant.device).type == "cpu" else 3):  # the first loads kernels
            started = time.perf_counter()
            float(variant.model(ids, use_cache=False).logits[0, -1, 0])  # waits for the device
            best = min(best, time.perf_counter() - started)
        return best

    one, many = seconds(1), seconds(n_tokens)
    if torch.device(variant.device).type == "cuda":
        torch.cuda.empty_cache()  # what the probe used is free for the run
    per_token = max((many - one) / (n_tokens - 1), one / 10_000)
    return one / per_token


def bytes_per_token(variant: LoadedVariant) -> int:
    """Memory that one token of the budget may need: its logits (as they come, in float32, and exponentiated), its keys
    and values and, on a CPU, its share of those of the rows decoded side by side."""
    logits = variant.model.config.get_text_config(decoder=True).vocab_size * (variant.model.dtype.itemsize + 8)
    rows = ROW_TOKENS / TOKENS_PER_ROW if torch.device(variant.device).type == "cpu" else 0
    return int(logits + bytes_of_keys(variant) * (1 + rows))


def bytes_of_keys(variant: LoadedVariant) -> int:
    """Keys and values of one token in all layers."""
    config = variant.model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_attention_heads", None) or 1  # models without attention keep far less
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(2 * config.num_hidden_layers * kv_heads * head_size * variant.model.dtype.itemsize)


def total_bytes(device: str) -> int:
    """Memory of a GPU, whoever uses it."""
    return torch.cuda.get_device_properties(torch.device(device)).total_memory


def free_bytes(device: str) -> int:
    """Free memory of a device: the GPU's own, else what the system can hand out without swapping, or what a
    container's limit leaves, files in the page cache counted as free."""
    if torch.device(device).type == "cuda":
        index = torch.device(device)
        unused = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)  # kept by torch's allocator
        return torch.cuda.mem_get_info(index)[0] + unused
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.startswith(("active_file ", "inactive_file ")))
    except (OSError, ValueError):  # no cgroup version 2, or no limit: "max"
        return free
    return max(0, min(free, limit - used + cached))
