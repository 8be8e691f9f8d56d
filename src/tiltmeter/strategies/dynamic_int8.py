"""dynamic-int8: torch's own 8-bit linear layers on a CPU; faster, and too coarse for a real model.

Source      https://docs.pytorch.org/tutorials/recipes/recipes/dynamic_quantization.html
            (``torch.ao.quantization.quantize_dynamic``).
Changes     the linear layers of the decoder blocks: int8 weights, activations quantized at run time with ONE scale
            for the whole forward; never the output head.
Saves       measured on a 135M-shaped Llama, one thread: prefill 1.6-2.0 times, decode 1.5 times as fast as float32.
Ruins       a real model: SmolLM2-135M's perplexity rises from 48.2 to 145 (docs/formats.md), because one outlier
            stretches the scale of all other values; small models hardly show it. torchao-int8 has a scale a token and
            is its successor; this one is kept because such models are shipped, and the coherence gate has to see it.
Trap        That one scale also makes every answer depend on what shares its batch; ``dynamic-int8+rerun`` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes
from tiltmeter.strategies.base import Context, DidNothing, Evidence, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class DynamicLayers(Evidence):
    """Linear layers that were replaced, and those that were not."""

    quantized_layers: int
    layer_names: list[str]
    untouched_linear_layers: list[str]


@register("strategy", "dynamic-int8")
@dataclass(frozen=True)
class DynamicInt8(Strategy):
    name = "dynamic-int8"
    summary = "8-bit linear layers of torch, one activation scale a forward: ruins real models, see torchao-int8"
    source = "https://docs.pytorch.org/docs/stable/quantization.html"
    library = "torch.ao.quantization"
    hardware = "CPU only, float32 only"
    paper_setting = "not part of the study"
    role = "weights"
    rounds_activations = True

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        if any(part.acts_on == "dtype" for part in earlier):
            return "dynamic-int8 runs in float32 only, so it cannot follow dtype"
        return _bitsandbytes.refuse_second_quantizer(self.name, earlier)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        if context.device != "cpu":
            raise UserError("dynamic-int8 runs on CPUs only", fix="add --device cpu, or use int8 on a GPU")
        if context.dtype != "float32":
            raise UserError(
                f"dynamic-int8 runs in float32 only, this run is in {context.dtype}", fix="add --dtype float32"
            )
        linear.require_linear_layers(context.config, self.name)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        import warnings

        from torch.ao.quantization import default_dynamic_qconfig, quantize_dynamic

        spec = {name: default_dynamic_qconfig for name in linear.linear_layers(variant.model)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces where this will move to
            variant.model = quantize_dynamic(variant.model, spec, inplace=True)
        variant.notes.append(say("note.dynamic_batches"))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        from torch import nn
        from torch.ao.nn.quantized.dynamic import Linear

        names = sorted(name for name, m in variant.model.named_modules() if isinstance(m, Linear))
        plain = [name for name, m in variant.model.named_modules() if type(m) is nn.Linear]
        if not names:
            raise DidNothing("dynamic-int8: no linear layer was quantized")
        summary = say("proof.dynamic", n=len(names), names=", ".join(plain) or "none")
        return DynamicLayers(summary, len(names), names, plain)
