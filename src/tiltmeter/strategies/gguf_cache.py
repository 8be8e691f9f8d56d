"""Keys and values in one of llama.cpp's cache types, in llama.cpp.

Source      https://github.com/ggml-org/llama.cpp/blob/master/tools/cli/README.md (--cache-type-k, --cache-type-v)
Changes     what attention reads, the prompt's keys and values included; blocks of 32 share a scale.
Grammar     ``ctk=q8_0,ctv=q8_0`` as on llama.cpp's own command line, short for ``gguf-cache:ctk=q8_0,ctv=q8_0``.
Saves       memory of the cache, and time where it is what limits.
Departure   the base keeps float32 without flash attention, so that its answers depend on no rounding; llama.cpp's own
            default is ``gguf-cache`` (f16 and f16, with flash attention).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, Evidence, Strategy, refuse_second_cache
from tiltmeter.strategies.gguf_type import LIBRARY, refuse_elsewhere

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


@register("strategy", "gguf-cache")
@dataclass(frozen=True)
class GgufCache(Strategy):
    """ctk: type of keys; ctv: of values."""

    ctk: CacheType = "f16"
    ctv: CacheType = "f16"

    name = "gguf-cache"
    summary = "llama.cpp's KV cache types: ctk=q8_0,ctv=q8_0 (its own default: f16)"
    source = "https://github.com/ggml-org/llama.cpp"
    library = LIBRARY
    hardware = "CPU (GGUF file, --backend llama-cpp)"
    paper_setting = "not part of the study"
    role = "cache"
    bare = True

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return refuse_second_cache(self.name, earlier)

    def check(self, context: Context) -> None:
        refuse_elsewhere(self.name, context)

    def loading_options(self, context: Context) -> Mapping[str, object]:
        return {"keys": self.ctk, "values": self.ctv}

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        return Evidence(f"KV cache in llama.cpp: keys {self.ctk}, values {self.ctv}")
