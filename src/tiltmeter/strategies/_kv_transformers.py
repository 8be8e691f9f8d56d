"""``read=transformers``: transformers' QuantizedCache, with the backends that keep batch rows apart.

What it does   The prefill attends in full precision and stores quantized copies of the whole prompt; later
               tokens read those copies; new tokens stay in full precision until `residual_length` of them
               wait. First-token and whole-sentence scores equal the base's bit for bit.
Backends       quanto axis 0 for 4 bit, hqq axis 1 for 8 bit.
Departure      The study ran hqq with its default axis 0, where one row of a batch changes another's logits (by
               up to 1 at 4 bit). quanto axis 0 keeps rows apart exactly; hqq axis 1 up to 0.01 at 8 bit (its search
               for the scale stops by an error over the whole batch), so requests are answered one at a time.
Trap           optimum-quanto compiles C++ on first use (45 s, and a compiler) for unpacking two 4-bit numbers
               from a byte. ``avoid_compiling`` puts the same two shifts, in torch, in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import say
from tiltmeter.models.library import import_hqq
from tiltmeter.strategies.base import Evidence

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, QuantizedCache

BACKENDS = {4: ("quanto", 0), 8: ("hqq", 1)}  # bits -> (backend, axis)


def cache_maker(
    config: PretrainedConfig, bits: int, group_size: int, residual_length: int
) -> Callable[[], QuantizedCache]:
    """A function that makes a fresh cache. Raises UserError where the model cannot have one."""
    from transformers import QuantizedCache

    backend, axis = BACKENDS[bits]

    def make() -> QuantizedCache:
        return QuantizedCache(
            backend=backend,
            config=config,
            nbits=bits,
            axis_key=axis,
            axis_value=axis,
            q_group_size=group_size,
            residual_length=residual_length,
        )

    try:
        avoid_compiling() if backend == "quanto" else import_hqq()
        make()
    except ImportError:
        raise missing_extra("optimum-quanto" if backend == "quanto" else "hqq", "kv", f"kv{bits}") from None
    except ValueError as error:  # sliding-window layers
        raise UserError(
            f"kv{bits}:read=transformers cannot serve this model: {error}", fix=f"use kv{bits}:read=quantized"
        ) from None
    return make


def fitting_group_size(config: PretrainedConfig, wanted: int) -> int:
    """Largest divisor of kv_heads x head_dim that is at most `wanted`: fits prompts of any length."""
    values_per_token = kv_values_per_token(config)
    return max(size for size in range(1, wanted + 1) if values_per_token % size == 0)


def kv_values_per_token(config: PretrainedConfig) -> int:
    """Numbers that one token leaves in the keys of one layer: kv_heads x head_dim."""
    text = config.get_text_config(decoder=True)
    return int((getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * head_size(config))


def head_size(config: PretrainedConfig) -> int:
    """Numbers that one token leaves in the keys of one head."""
    text = config.get_text_config(decoder=True)
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def avoid_compiling() -> None:
    """Gives optimum-quanto a torch version of its one C++ (or CUDA) helper that the cache needs."""
    from optimum import quanto  # noqa: F401 (registers the extensions)
    from optimum.quanto.library.extensions.extension import _extensions

    for extension in _extensions.values():
        if extension._lib is None:
            extension._lib = SimpleNamespace(unpack=unpack)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """uint8 (rows, …) -> uint8 (rows * 8 / bits, …): the low bits of every byte first, as quanto packs them."""
    import torch

    return torch.cat([(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)])


@dataclass(frozen=True)
class LateCache(Evidence):
    """transformers' own quantized cache."""

    backend: str
    axis: int
    bits: int
    group_size: int
    residual_length: int


def evidence(bits: int, group_size: int, residual_length: int) -> Evidence:
    """Backend and sizes of the cache that `cache_maker` makes."""
    backend, axis = BACKENDS[bits]
    summary = say(
        "proof.kv_transformers",
        backend=backend,
        axis=axis,
        bits=bits,
        group_size=group_size,
        residual_length=residual_length,
    )
    return LateCache(summary, backend, axis, bits, group_size, residual_length)
