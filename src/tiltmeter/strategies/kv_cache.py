"""Keys and values of past tokens kept in 8 or 4 bit instead of 16.

Source      Liu et al. 2024 (KIVI), https://arxiv.org/abs/2402.02750; the study ran transformers' version.
Changes     what attention reads. Two readings that must not be confused:
            read=quantized     every read sees quantized keys and values, the prompt's included, as a serving
                               engine with a quantized cache does; static calibrated scales per KV head
                               (compressed-tensors). The default.
            read=transformers  transformers' QuantizedCache: first-token and whole-sentence scores equal the
                               base bit for bit, so those benchmarks do not exercise it at all. The study's.
Saves       memory of the cache in an engine that stores it packed. read=quantized rounds values in a float cache
            (simulated); read=transformers stores them packed, and is slower than a plain cache.
Departure   read=transformers uses quanto axis 0 (4 bit) and hqq axis 1 (8 bit), see _kv_transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies import _kv_quantized, _kv_transformers
from tiltmeter.strategies.base import SIMULATED, Context, RequestKind, Strategy
from tiltmeter.strategies.calibration import Calibrated

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class KVCache(Calibrated):
    """Calibration is of read=quantized only."""

    read: Literal["quantized", "transformers"] = "quantized"  # who sees quantized keys and values: see the module
    group_size: int = 64  # read=transformers: values that share a scale
    residual_length: int = 128  # read=transformers: newest tokens that are kept exact

    bits: ClassVar[int]
    source = "https://arxiv.org/abs/2402.02750"
    library = "compressed-tensors (read=quantized), transformers + quanto/hqq (read=transformers)"
    hardware = "CPU, GPU"
    role = "cache"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("group_size", "residual_length"):
            if getattr(self, key) < 1:
                raise UserError(
                    f"{self.name}: {key} is at least 1, got {getattr(self, key)}",
                    fix=f"leave {key} out for its default",
                )

    @property
    def calibrates(self) -> bool:
        return self.read == "quantized"

    @property
    def speed_is_real(self) -> Literal[True] | Text:
        """transformers' QuantizedCache really runs; static scales on a float cache save nothing here."""
        return True if self.read == "transformers" else SIMULATED

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        other = next((part.name for part in earlier if part.role == "cache"), None)
        return f"one KV cache cannot be both {other} and {self.name}" if other else None

    def check(self, context: Context) -> None:
        if self.read == "quantized":
            self.check_text(context)

    def before_loading(self, context: Context) -> None:
        if self.read == "quantized":
            context.found[self.name] = _kv_quantized.calibrate(self, context)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        if self.read == "quantized":
            _kv_quantized.attach(variant.model, self.bits, context.found[self.name])
            return
        size = _kv_transformers.fitting_group_size(context.config, self.group_size)
        if size != self.group_size:
            variant.notes.append(say("note.kv_groups", name=self.name, size=size, asked=self.group_size))
        variant.new_cache = _kv_transformers.cache_maker(variant.model.config, self.bits, size, self.residual_length)
        variant.share_prefixes = False  # a kept prefix would be read quantized where this cache reads it exactly
        variant.notes.append(say("note.kv_first", name=self.name))
        context.found[self.name] = size

    def prove(self, variant: LoadedVariant, context: Context) -> dict[str, Any]:
        if self.read == "quantized":
            return _kv_quantized.evidence(variant.model, self.bits, context.found[self.name])
        made = _kv_transformers.describe(self.bits, context.found[self.name], self.residual_length)
        return {
            "summary": say("proof.kv_transformers", **made),
            **made,
        }

    def not_exercised(self, request_kind: RequestKind) -> Text | None:
        if self.read == "transformers" and request_kind != "generation":
            return say("idle.kv_late", name=self.name)
        return None


@register("strategy", "kv8")
@dataclass(frozen=True)
class KV8(KVCache):
    bits = 8
    name = "kv8"
    summary = "8-bit KV cache"
    paper_setting = "transformers QuantizedCache, hqq, 8 bit (kv8:read=transformers, other axis)"


@register("strategy", "kv4")
@dataclass(frozen=True)
class KV4(KVCache):
    bits = 4
    name = "kv4"
    summary = "4-bit KV cache"
    paper_setting = "transformers QuantizedCache, hqq, 4 bit (kv4:read=transformers, other backend)"
