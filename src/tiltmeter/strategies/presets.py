"""Formats that llm-compressor rounds to nearest by a preset of its own: the next one is a line of `PRESETS`.

Source      compressed-tensors' presets (quantization/quant_scheme.py); the papers and format texts stand in the table.
Changes     the linear layers of the decoder blocks; never the output head. With activations in the name's second
            half (w4a8), or none in it (fp8-block, nvfp4, mxfp4, mxfp8), what enters a layer is rounded too.
Calibrates  fp8-static and nvfp4 only: one scale of each layer's inputs, the largest value seen on text.
Saves       weight memory, and time in an engine with kernels for the format; simulated here.
Traps       1. NVFP4 and MX weights are unpacked to bfloat16 whatever the model runs in, and a float32 model then
               raises, or rounds twice: these run in bfloat16 and the run says so.
            2. FP8_BLOCK's activations come in groups of 128, which fails at the first forward where the inputs are no
               multiple of it (576): its group falls to the largest usual size that divides; its weight blocks stay 128.
            3. Presets that calibrate raise "'NoneType' object is not iterable" without text; text is always given.
            4. w4a8 and w4afp8 are stored as int8, no smaller than 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tiltmeter.messages import Text, say
from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _compress, _weights
from tiltmeter.strategies._weights import OneShotQuantizer
from tiltmeter.strategies.base import Context, Strategy
from tiltmeter.strategies.calibration import Calibrated

FP8_PAPER = "https://arxiv.org/abs/2209.05433"
MX = "https://arxiv.org/abs/2310.10537"
NVFP4 = "https://arxiv.org/abs/2509.25149"
RTN = "https://arxiv.org/abs/2210.17323"
DEEPSEEK = "https://arxiv.org/abs/2412.19437"
W4A8 = "https://arxiv.org/abs/2405.04532"
VLLM = ("transformers", "vLLM")


@dataclass(frozen=True)
class Preset:
    """One line of the table.

    Attributes:
        scheme: the library's name.
        summary: what it does, in a line.
        groups: whose group size may be set: "weights", "activations", or "" where the format fixes it.
        divides: fixed group that must divide every layer's inputs; 1: any layer fits.
        activations: whether what enters a layer is rounded too.
        calibrates: whether its scales come from text.
        bfloat16: whether its weights are only ever read in bfloat16.
        blocks: rows and columns of a block of weights that share a scale; 0: no blocks.
        read_by: who reads the checkpoint.
    """

    scheme: str
    summary: str
    source: str
    groups: str = ""
    divides: int = 1
    activations: bool = False
    calibrates: bool = False
    bfloat16: bool = False
    blocks: int = 0
    read_by: tuple[str, ...] = VLLM


PRESETS = {
    "w8a16": Preset("W8A16", "8-bit weights in groups, rounded to nearest", RTN, "weights"),
    "w4a8": Preset("W4A8", "4-bit weights in groups, 8-bit activations", W4A8, "weights", activations=True),
    "w4afp8": Preset("W4AFP8", "4-bit weights in groups, FP8 activations", W4A8, "weights", activations=True),
    "fp8-block": Preset(
        "FP8_BLOCK",
        "FP8 weights in blocks, activations in groups",
        DEEPSEEK,
        "activations",
        activations=True,
        blocks=128,
    ),
    "fp8-static": Preset(
        "FP8", "FP8 with one calibrated activation scale a layer", FP8_PAPER, activations=True, calibrates=True
    ),
    "mxfp8": Preset("MXFP8", "8-bit microscaling weights and activations", MX, "", 32, True, bfloat16=True),
    "mxfp4a16": Preset("MXFP4A16", "4-bit microscaling weights", MX, "", 32, bfloat16=True),
    "mxfp4": Preset("MXFP4", "4-bit microscaling weights and activations", MX, "", 32, True, bfloat16=True),
    "nvfp4a16": Preset("NVFP4A16", "NVIDIA's 4-bit floating-point weights", NVFP4, "", 16, bfloat16=True),
    "nvfp4": Preset(
        "NVFP4", "NVIDIA's 4-bit floating-point weights and activations", NVFP4, "", 16, True, True, bfloat16=True
    ),
}


class PresetQuantizer(OneShotQuantizer):
    """Rounding to nearest by a preset."""

    preset: ClassVar[Preset]
    paper_setting = "not part of the study"

    @property
    def runs_in(self) -> str | None:
        return "bfloat16" if self.preset.bfloat16 else None

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        other = next((part.runs_in for part in earlier if part.runs_in), None)
        if self.runs_in and other not in (None, self.runs_in):
            return f"{self.name} is read in bfloat16 only, so it cannot follow dtype:{other}"
        return super().cannot_follow(earlier)

    def check(self, context: Context) -> None:
        super().check(context)
        shapes = linear.require_linear_layers(context.config, self.name)
        linear.require_multiple(shapes, self.preset.divides, f"{self.name}: the format's group of")

    def scheme(self) -> Any:
        """The library's scheme, with the group size of these settings."""
        from compressed_tensors.quantization import preset_name_to_scheme

        scheme = preset_name_to_scheme(self.preset.scheme, ["Linear"])
        if self.preset.groups:
            args = scheme.weights if self.preset.groups == "weights" else scheme.input_activations
            args.group_size = self.settings["group_size"]
        return scheme

    def recipe(self, ignore: list[str]) -> list[Any]:
        from llmcompressor.modifiers.quantization import QuantizationModifier

        return [QuantizationModifier(config_groups={"group_0": self.scheme()}, ignore=ignore)]

    @property
    def scheme_text(self) -> Text:
        return _weights.in_words(self.scheme())

    def after_loading(self, variant: Any, context: Context) -> None:
        super().after_loading(variant, context)
        if self.runs_in and context.base_dtype != self.runs_in:
            variant.notes.append(say("note.runs_in", name=self.name, type=self.runs_in, base=context.base_dtype))
        blocks = self.preset.blocks
        layers = [layer for layer in linear.linear_layers(variant.model).values() if _compress.is_quantized(layer)]
        if blocks and any(size % blocks for layer in layers for size in (layer.in_features, layer.out_features)):
            variant.notes.append(say("note.partial_blocks", name=self.name, size=blocks))


def _strategy(name: str, preset: Preset) -> type[Strategy]:
    """The strategy of one line, a frozen dataclass like any other."""
    bases = (Calibrated, PresetQuantizer) if preset.calibrates else (PresetQuantizer,)
    about = f"{preset.summary}, by llm-compressor's preset {preset.scheme}."
    if preset.groups:
        about += f" group_size: neighbouring {preset.groups} that share a scale."
    members: dict[str, object] = {
        "name": name,
        "preset": preset,
        "summary": preset.summary,
        "source": preset.source,
        "rounds_activations": preset.activations,
        "read_by": preset.read_by,
        "__module__": __name__,
        "__doc__": about,
    }
    if preset.groups:
        members |= {"group_size": 128, "__annotations__": {"group_size": int}}
    class_name = name.upper().replace("-", "_")
    return dataclass(frozen=True)(type(class_name, bases, members))  # type: ignore[arg-type]


for _name, _preset in PRESETS.items():
    _class = _strategy(_name, _preset)
    globals()[_class.__name__] = register("strategy", _name)(_class)
