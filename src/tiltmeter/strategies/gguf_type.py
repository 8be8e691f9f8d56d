"""Weights in one of llama.cpp's types, made by its own quantizer from a GGUF file of high precision.

Source      https://github.com/ggml-org/llama.cpp/blob/master/tools/quantize/README.md (types, bits per weight)
Changes     the matrices; one-dimensional tensors stay. Types ending in _k_… mix widths by layer, as llama.cpp does.
Calibrates  nothing: no importance matrix is given, which the types under 4 bits would profit from.
Saves       disk, memory and time: the file runs in llama.cpp's kernels (--backend llama-cpp), which also round
            activations to 8 bits. Speeds are measured there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tiltmeter.errors import UserError
from tiltmeter.models.formats.gguf.header import PLAIN, read_header
from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, DidNothing, Evidence, LoadFailed, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

LIBRARY = "llama.cpp"
BITS = {
    "f16": 16,
    "bf16": 16,
    "q8_0": 8.5,
    "q6_k": 6.6,
    "q5_k_m": 5.7,
    "q5_k_s": 5.5,
    "q5_1": 6.0,
    "q5_0": 5.5,
    "q4_k_m": 4.9,
    "q4_k_s": 4.7,
    "q4_1": 5.0,
    "q4_0": 4.5,
    "iq4_nl": 4.5,
    "iq4_xs": 4.3,
    "q3_k_m": 4.0,
    "q3_k_s": 3.6,
    "q2_k": 3.2,
}  # per weight of a large model, by llama.cpp's own table


def refuse_elsewhere(name: str, context: Context) -> None:
    """Raises UserError where the model is no GGUF file: only llama.cpp can do what `name` says."""
    if context.checkpoint.suffix.lower() != ".gguf":
        raise UserError(
            f"{name} is done by llama.cpp, which runs GGUF files; {context.model} is none",
            fix=f"name its GGUF file of high precision: tiltmeter run MODEL.F16.gguf -s {name} --out RUN",
        )


@dataclass(frozen=True)
class Types(Evidence):
    """Tensors of each type."""

    types: Mapping[str, int]


@dataclass(frozen=True)
class GgufType(Strategy):
    """One type; it has no settings."""

    source = "https://github.com/ggml-org/llama.cpp"
    library = LIBRARY
    hardware = "CPU (GGUF file, --backend llama-cpp)"
    paper_setting = "not part of the study"
    role = "weights"
    read_by = ("llama.cpp",)
    bits: ClassVar[float]

    def cannot_follow(self, earlier: Any) -> str | None:
        other = next((part.name for part in earlier if part.acts_on == "weights"), None)
        return f"a file of the type {other} is not quantized again" if other else None

    def check(self, context: Context) -> None:
        refuse_elsewhere(self.name, context)
        header = read_header(context.checkpoint, context.model)
        coarse = [kind for kind in header.counts if kind not in PLAIN]
        if coarse:
            raise UserError(
                f"{context.model} is quantized already ({coarse[0]}): {self.name} made of it would show both roundings",
                fix="name the file of high precision (F32, F16 or BF16) as the base",
            )

    def before_loading(self, context: Context) -> None:
        from tiltmeter.models.formats.gguf.library import quantize, versions

        source = context.checkpoint

        def make(place: Path) -> Mapping[str, object]:
            context.progress(f"llama.cpp quantizes {context.model} to {self.name}")
            try:
                quantize(source, place / f"{self.name}.gguf", self.name)
            except RuntimeError as error:
                raise LoadFailed(f"{self.name}: {error}") from error
            return {"title": f"{context.model} · {self.name}"}

        key = {"kind": "gguf", "lineage": context.lineage, "type": self.name, "made by": versions()["llama.cpp"]}
        context.checkpoint = context.artifacts.get_or_make(key, make).path / f"{self.name}.gguf"
        context.lineage = (*context.lineage, self.name)
        context.found[self.name] = read_header(source, context.model).counts

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        counts = read_header(context.checkpoint, self.name).counts
        if counts == context.found[self.name]:
            raise DidNothing(f"{self.name}: every tensor of {context.model} has its type already")
        listed = ", ".join(f"{n} × {kind}" for kind, n in counts.items())
        return Types(f"GGUF (tensors {listed})", counts)


for _name, _bits in BITS.items():
    _members = {
        "name": _name,
        "bits": _bits,
        "summary": f"llama.cpp's type {_name.upper()}, about {_bits:g} bits per weight",
        "__module__": __name__,
        "__doc__": f"Weights as {_name.upper()}.",
    }
    _class: Any = dataclass(frozen=True)(type(_name.upper(), (GgufType,), _members))
    globals()[_name.upper()] = register("strategy", _name)(_class)
