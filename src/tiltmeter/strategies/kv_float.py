"""Keys and values of past tokens kept as floating-point numbers of 8 bits (E4M3) or 4 bits (E2M1).

Source      https://docs.vllm.ai/en/latest/features/quantization/quantized_kvcache.html, by compressed-tensors.
Changes     what attention reads: every key, after rotary embedding, and every value, the prompt's included.
Scale       what a stored number is multiplied with. kv-fp8 has scale 1 by default, as engines serve it where nothing is
            calibrated: values beyond 448 saturate. scale=calibrated puts the largest value seen on text at the
            format's largest number (448; 6 for E2M1), one scale a layer for keys and one for values (per=tensor), or
            one per KV head (per=head). E2M1 has eight magnitudes, 0 to 6: without a calibrated scale it says nothing.
Saves       half, or three quarters, of a 16-bit cache in an engine that stores it so; simulated here.
Trap        a scale off by a power of two moves E4M3 hardly at all (its subnormals apart): that scales are read shows
            only where they clamp, or by a factor such as 1.5.
Departure   compressed-tensors' own path calibrates with llm-compressor; here the same ranges (largest value, see
            _kv_quantized) are attached after loading, so that any weights may lie below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.registry import register
from tiltmeter.strategies import _compress, _kv_quantized, _kv_rounded
from tiltmeter.strategies.base import Context, Evidence

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

FORMATS = {8: "E4M3", 4: "E2M1"}
PER = {"tensor": "tensor", "head": "attn_head"}  # ours -> compressed-tensors' name


@dataclass(frozen=True)
class FixedScale(Evidence):
    """A cache with one scale for all numbers."""

    layers: int
    read: str


@dataclass(frozen=True)
class KVFloat(_kv_quantized.RangedCache):
    """Calibration (samples, length, seed, calibration) and `per` are of scale=calibrated only."""

    scale: str = "1"  # a number, or "calibrated"
    per: Literal["tensor", "head"] = "tensor"  # values that share a calibrated scale: of a layer, or of a KV head

    bits: ClassVar[int]
    source = "https://docs.vllm.ai/en/latest/features/quantization/quantized_kvcache.html"
    library = "compressed-tensors"
    paper_setting = "not part of the study"
    simulated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibrates:
            return
        try:
            good = 0 < float(self.scale) < float("inf")
        except ValueError:
            good = False
        if not good:
            raise UserError(
                f"{self.name}: scale is a number above 0, or calibrated, got {self.scale}",
                fix="leave scale out for its default",
            )
        if self.bits == 4:
            raise UserError(
                f"{self.name}: eight magnitudes from 0 to 6 need a calibrated scale, got scale={self.scale}",
                fix="leave scale out",
            )
        self.refuse_unused("calibrated", f"one scale of {self.scale} looks at no text", per="tensor")

    @property
    def calibrates(self) -> bool:
        return self.scale == "calibrated"

    def check(self, context: Context) -> None:
        _compress.check_library("compressed_tensors", self.name)
        if self.calibrates:
            self.check_text(context)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        if self.calibrates:
            args = _kv_quantized.scheme_for(self.bits, "float", PER[self.per])
            _kv_quantized.attach(variant.model, self.name, args, context.made[self.name])
        else:
            scale = float(self.scale)
            _kv_rounded.attach(variant.model, self.name, lambda states: _kv_rounded.in_fp8(states, scale))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        if not self.calibrates:
            layers = _kv_rounded.rounded_layers(variant.model, self.name)
            return FixedScale(say("proof.kv_fp8", n=layers, scale=f"{float(self.scale):g}"), layers, "quantized")
        found = _kv_quantized.ranges(variant.model, self.name, context.made[self.name])
        summary = say(
            f"proof.kv_float_{self.per}",
            kind=FORMATS[self.bits],
            n=found.layers,
            samples=found.calibration.samples,
            length=found.calibration.length,
        )
        return _kv_quantized.StaticCache(summary, **vars(found), bits=self.bits)


@register("strategy", "kv-fp8")
@dataclass(frozen=True)
class KVFP8(KVFloat):
    bits = 8
    name = "kv-fp8"
    summary = "8-bit floating-point KV cache (E4M3), scale 1 as engines serve it, or scale=calibrated"


@register("strategy", "kv-fp4")
@dataclass(frozen=True)
class KVFP4(KVFloat):
    scale: str = "calibrated"

    bits = 4
    name = "kv-fp4"
    summary = "4-bit floating-point KV cache (E2M1), calibrated"
