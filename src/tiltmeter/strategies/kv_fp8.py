"""Keys and values of past tokens kept as 8-bit floating-point numbers, as serving engines do by default.

Source      https://docs.vllm.ai/en/latest/features/quantization/quantized_kvcache.html (E4M3, scale 1 where nothing
            is calibrated).
Changes     what attention reads: every key, after rotary embedding, and every value, the prompt's included.
Saves       half of a 16-bit cache in an engine that stores it so; simulated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.registry import register
from tiltmeter.strategies import _compress, _kv_rounded
from tiltmeter.strategies.base import Context, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@register("strategy", "kv-fp8")
@dataclass(frozen=True)
class KVFP8(Strategy):
    """scale: what a stored number is multiplied with; values beyond 448 scales saturate."""

    scale: float = 1.0

    name = "kv-fp8"
    summary = "8-bit floating-point KV cache (E4M3), as engines serve it"
    source = "https://docs.vllm.ai/en/latest/features/quantization/quantized_kvcache.html"
    library = "compressed-tensors (hooked cache), torch"
    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "cache"
    simulated = True

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise UserError(f"kv-fp8: scale is above 0, got {self.scale}", fix="leave scale out for its default")

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        other = next((part.name for part in earlier if part.role == "cache"), None)
        return f"one KV cache cannot be both {other} and {self.name}" if other else None

    def check(self, context: Context) -> None:
        _compress.check_library("compressed_tensors", self.name)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        _kv_rounded.attach(variant.model, self.name, lambda states: _kv_rounded.in_fp8(states, self.scale))

    def prove(self, variant: LoadedVariant, context: Context) -> dict[str, Any]:
        layers = _kv_rounded.rounded_layers(variant.model, self.name)
        return {
            "summary": say("proof.kv_fp8", n=layers, scale=f"{self.scale:g}"),
            "layers": layers,
            "read": "quantized",
        }
