"""torchao-int8: 8-bit linear layers by torchao, activations rounded token by token: really faster on a CPU.

Source      https://docs.pytorch.org/ao/stable (``Int8DynamicActivationInt8WeightConfig``).
Changes     the linear layers of the decoder blocks: int8 weights per output, int8 activations with one scale a token,
            so that no answer depends on what shares its batch (dynamic-int8 has one scale a forward, and ruins models
            with outliers); never the output head.
Compiles    nothing by default: torchao's own operations, one by one. compile=layers gives each linear layer to torch's
            compiler: the same numbers, fused; a minute or two before the first answer. compile=blocks gives it whole
            decoder blocks: faster still, other last bits, and compiled anew as shapes change.
Saves       three quarters of float32 weight memory, and time in long forwards; `tiltmeter speed` measures it.
Trap        what meets more than torch's 8 shapes goes on uncompiled, without an error: the limit is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shutil import which
from typing import TYPE_CHECKING, Literal

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models import linear
from tiltmeter.models.quiet import held_back
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes, _compress
from tiltmeter.strategies.base import Context, DidNothing, Evidence, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


SHAPES = 64  # that torch's compiler may meet in one function before it gives up


@dataclass(frozen=True)
class Held(Evidence):
    """Layers whose weights torchao holds."""

    quantized_layers: int
    layer_names: list[str]
    compiled: str


@register("strategy", "torchao-int8")
@dataclass(frozen=True)
class TorchaoInt8(Strategy):
    """compile: what torch's compiler is given."""

    compile: Literal["none", "layers", "blocks"] = "none"

    name = "torchao-int8"
    summary = "8-bit weights and activations per token, faster on CPUs"
    source = "https://docs.pytorch.org/ao/stable"
    library = "torchao"
    hardware = "CPU; GPU (not run here)"
    paper_setting = "not part of the study"
    role = "weights"
    rounds_activations = True

    @property
    def compiles(self) -> bool:
        return self.compile in ("layers", "blocks")

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return _bitsandbytes.refuse_second_quantizer(self.name, earlier)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        _compress.check_library("torchao", self.name, extra="torchao")
        linear.require_linear_layers(context.config, self.name)
        if self.compiles and context.device == "cpu" and not (which("g++") or which("clang++")):
            raise UserError(
                f"{self.name}: torch's compiler needs a C++ compiler, and there is none",
                fix="install g++, or leave compile out",
            )

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        with held_back():  # torchao reports GPU libraries that a CPU machine lacks
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

            chosen = set(linear.linear_layers(variant.model))
            quantize_(variant.model, Int8DynamicActivationInt8WeightConfig(), filter_fn=lambda _, name: name in chosen)
        if self.compiles:
            import torch

            torch._dynamo.config.recompile_limit = max(SHAPES, torch._dynamo.config.recompile_limit)
        if self.compile == "layers":
            for layer in linear.linear_layers(variant.model).values():
                layer.compile(dynamic=True)
        elif self.compile == "blocks":
            for block in linear.blocks(variant.model).values():
                block.compile()
            variant.notes.append(say("note.compiled_blocks"))
        variant.notes.append(say("note.rounds_activations", name=self.name))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        layers = linear.linear_layers(variant.model)
        held = [name for name, layer in layers.items() if linear.held_by_torchao(layer.weight)]
        if len(held) != len(layers) or not held:
            raise DidNothing(f"{self.name}: {len(held)} of {len(layers)} linear layers are quantized")
        summary = say("proof.torchao", n=len(held), compiled=say(f"compiled.{self.compile}"))
        return Held(summary, len(held), held, self.compile)
