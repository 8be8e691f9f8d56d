"""Keys and values rounded as they enter the cache, each token by itself: integers in groups, or FP8.

How         a hook on the cache's write (compressed-tensors' hooked cache) rounds keys, after rotary embedding, and
            values, so that every later read, and the same forward's own, sees what a packed cache would give back.
Integers    groups of `size` along the head, one smallest value and one step per group, in the run's type: asymmetric,
            as in KIVI's values, quanto and llama.cpp's q4_1. A token's groups know nothing of other tokens, so a
            prefill, single forwards and kept prefixes agree, and nothing is calibrated.
FP8         E4M3 with one scale for everything, saturating at 448 scales: vLLM's and SGLang's default, scale 1.
Departure   KIVI rounds keys per channel over groups of tokens, and keeps the last tokens exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltmeter.messages import say
from tiltmeter.strategies import _kv_quantized
from tiltmeter.strategies.base import DidNothing, Evidence

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

LARGEST_FP8 = 448.0  # the largest E4M3 number
MARK = "tiltmeter_kv"  # attribute of an attention module whose cache is rounded


def in_groups(states: Tensor, bits: int, size: int) -> Tensor:
    """states (…, head size) -> what `bits`-bit integers give back, in groups of the largest divisor of the head size
    that is at most `size`."""
    size = fitting(states.shape[-1], size)
    groups = states.float().unflatten(-1, (-1, size))
    low = groups.amin(dim=-1, keepdim=True).to(states.dtype).float()
    step = ((groups.amax(dim=-1, keepdim=True) - low) / (2**bits - 1)).to(states.dtype).float()
    steps = ((groups - low) / step.clamp(min=1e-30)).round().clamp(0, 2**bits - 1)
    return (steps * step + low).flatten(-2).to(states.dtype)


def in_fp8(states: Tensor, scale: float) -> Tensor:
    """states -> what E4M3 numbers times `scale` give back, in the same type."""
    import torch

    scaled = (states.float() / scale).clamp(-LARGEST_FP8, LARGEST_FP8)
    return (scaled.to(torch.float8_e4m3fn).float() * scale).to(states.dtype)


def fitting(head: int, wanted: int) -> int:
    """The largest divisor of the head size that is at most `wanted`."""
    return max(size for size in range(1, min(wanted, head) + 1) if head % size == 0)


def attach(model: PreTrainedModel, name: str, rounded: Callable[[Tensor], Tensor]) -> None:
    """Makes every cache write of `model` pass through `rounded`."""
    from compressed_tensors.modeling.kvcache import initialize_hooked_kv_cache, register_key_hook, register_value_hook

    def hook(module: nn.Module, states: Tensor) -> Tensor:
        return rounded(states)

    for module in _kv_quantized.attention_modules(model, name).values():
        initialize_hooked_kv_cache(model, module)
        register_key_hook(module, hook)
        register_value_hook(module, hook)
        setattr(module, MARK, name)


def rounded_layers(model: PreTrainedModel, name: str) -> int:
    """Layers whose cache is rounded. Raises DidNothing when it is not every one."""
    modules = _kv_quantized.attention_modules(model, name)
    marked = sum(getattr(module, MARK, None) == name for module in modules.values())
    if marked != len(modules):
        raise DidNothing(f"{name}: the cache of {marked} of {len(modules)} layers is rounded")
    return marked


@dataclass(frozen=True)
class GroupedCache(Evidence):
    """A cache whose tokens are rounded in groups."""

    bits: int
    read: str
    layers: int
    scheme: str
    group_size: int


def evidence(model: PreTrainedModel, name: str, bits: int, size: int) -> Evidence:
    """Layers and groups of an integer cache."""
    layers = rounded_layers(model, name)
    summary = say("proof.kv_groups", bits=bits, n=layers, size=size)
    return GroupedCache(summary, bits, "quantized", layers, "int, asymmetric, per token and group", size)
