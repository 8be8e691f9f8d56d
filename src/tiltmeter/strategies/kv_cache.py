"""Keys and values of past tokens kept in 8 or 4 bit instead of 16.

Source      Liu et al. 2024 (KIVI), https://arxiv.org/abs/2402.02750; the study ran transformers' version.
Changes     what attention reads. Two readings that must not be confused:
            read=quantized     every read sees quantized keys and values, the prompt's included, as a serving
                               engine with a quantized cache does. The default. scale=token: each token in groups
                               of 64 (`group_size`), as KIVI, llama.cpp and quanto have them. scale=static: one
                               calibrated scale per KV head (compressed-tensors' kv_cache_scheme), harsher than any
                               engine's cache at 4 bits.
            read=transformers  transformers' QuantizedCache: first-token and whole-sentence scores equal the
                               base bit for bit, so those benchmarks do not exercise it at all. The study's.
Saves       memory of the cache in an engine that stores it packed. read=quantized rounds values in a float cache
            (simulated); read=transformers stores them packed, and is slower than a plain cache.
Departure   read=transformers uses quanto axis 0 (4 bit) and hqq axis 1 (8 bit), see _kv_transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.registry import register
from tiltmeter.strategies import _compress, _kv_quantized, _kv_rounded, _kv_transformers
from tiltmeter.strategies.base import SIMULATED, Context, Evidence, RequestKind

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class KVCache(_kv_quantized.RangedCache):
    """Calibration (samples, length, seed, calibration) is of scale=static only."""

    read: Literal["quantized", "transformers"] = "quantized"  # who sees quantized keys and values: see the module
    scale: Literal["token", "static"] = "token"  # read=quantized: of each token and group, or calibrated per KV head
    group_size: int = 64  # values that share a scale: the largest divisor of a head (or of a token's keys) up to it
    residual_length: int = 128  # read=transformers: newest tokens that are kept exact

    bits: ClassVar[int]
    source = "https://arxiv.org/abs/2402.02750"
    library = "compressed-tensors (read=quantized), transformers + quanto/hqq (read=transformers)"

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("group_size", "residual_length"):
            if getattr(self, key) < 1:
                raise UserError(
                    f"{self.name}: {key} is at least 1, got {getattr(self, key)}",
                    fix=f"leave {key} out for its default",
                )
        self.refuse_unused("static", "this cache looks at no text")

    @property
    def calibrates(self) -> bool:
        """Whether these settings look at calibration text."""
        return self.read == "quantized" and self.scale == "static"

    @property
    def speed_is_real(self) -> Literal[True] | Text:
        """transformers' QuantizedCache really runs; rounded numbers in a float cache save nothing here."""
        return True if self.read == "transformers" else SIMULATED

    @property
    def can_take_back(self) -> bool:
        return self.read != "transformers"

    @property
    def as_published(self) -> bool:
        return self.read == "transformers"

    def check(self, context: Context) -> None:
        if self.read == "quantized":
            _compress.check_library("compressed_tensors", self.name)
        if self.calibrates:
            self.check_text(context)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        if self.calibrates:
            args = _kv_quantized.scheme_for(self.bits)
            _kv_quantized.attach(variant.model, self.name, args, context.made[self.name])
            return
        if self.read == "quantized":
            bits, size = self.bits, self.group_size
            _kv_rounded.attach(variant.model, self.name, lambda states: _kv_rounded.in_groups(states, bits, size))
            return
        size = _kv_transformers.fitting_group_size(context.config, self.group_size)
        if size != self.group_size:
            variant.notes.append(say("note.kv_groups", name=self.name, size=size, asked=self.group_size))
        variant.new_cache = _kv_transformers.cache_maker(variant.model.config, self.bits, size, self.residual_length)
        variant.share_prefixes = False  # a kept prefix would be read quantized where this cache reads it exactly
        variant.notes.append(say("note.kv_first", name=self.name))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        if self.read == "quantized" and not self.calibrates:
            size = _kv_rounded.fitting(_kv_transformers.head_size(context.config), self.group_size)
            return _kv_rounded.evidence(variant.model, self.name, self.bits, size)
        if self.calibrates:
            found = _kv_quantized.ranges(variant.model, self.name, context.made[self.name])
            drawn = {"samples": found.calibration.samples, "length": found.calibration.length}
            summary = say("proof.kv_quantized", bits=self.bits, n=found.layers, **drawn)
            return _kv_quantized.StaticCache(summary, **vars(found), bits=self.bits)
        size = _kv_transformers.fitting_group_size(context.config, self.group_size)
        return _kv_transformers.evidence(self.bits, size, self.residual_length)

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
