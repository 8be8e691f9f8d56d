"""What llm-compressor's weight quantizers share: group sizes that fit, the run, and the proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import gcd
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.models import linear
from tiltmeter.strategies import _bitsandbytes, _compress
from tiltmeter.strategies.base import Context, DidNothing, Strategy
from tiltmeter.strategies.calibration import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tiltmeter.models.variant import LoadedVariant


USUAL = (64, 32, 16, 8)  # group sizes that packed formats and kernels know


def _default(strategy: Strategy, name: str) -> Any:
    return next(field.default for field in fields(strategy) if field.name == name)


@dataclass(frozen=True)
class OneShotQuantizer(Strategy):
    """Subclasses set `recipe` and `scheme_text`; those that calibrate also inherit `Calibrated`."""

    library = "llm-compressor + compressed-tensors"
    hardware = "CPU, GPU"
    role = "weights"
    makes_checkpoint = True
    rounds_activations: ClassVar[bool] = False
    simulated = True

    def recipe(self, ignore: list[str]) -> list[Any]:
        """llm-compressor modifiers; `ignore`: linear layers to leave alone."""
        raise NotImplementedError

    @property
    def scheme_text(self) -> Text:
        """The scheme in words, for the proof."""
        raise NotImplementedError

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return _bitsandbytes.refuse_second_quantizer(self.name, earlier)

    def fitted(self, context: Context) -> Self:
        """These settings for one model: the default group size falls to the largest usual one that divides the inputs
        of every layer; one that was asked for stays."""
        asked = self.settings.get("group_size")
        if asked is None or asked != _default(self, "group_size"):
            return self
        common = gcd(*(n_in for _, n_in in linear.require_linear_layers(context.config, self.name).values()))
        size = next((size for size in (asked, *USUAL) if common % size == 0), asked)
        return self if size == asked else replace(self, **{"group_size": size})

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        _compress.check_library("llmcompressor", self.name)
        shapes = linear.require_linear_layers(context.config, self.name)
        if "group_size" in self.settings:
            linear.require_multiple(shapes, self.fitted(context).settings["group_size"], f"{self.name}: group_size")
        if self.calibrates:
            self.check_text(context)  # type: ignore[attr-defined]

    def before_loading(self, context: Context) -> None:
        _compress.require_library(self.name)
        windows: Windows | None = self.windows(context) if self.calibrates else None  # type: ignore[attr-defined]

        fitted = self.fitted(context)

        def change(model: PreTrainedModel) -> None:
            _compress.oneshot(model, fitted.recipe(_compress.ignore_list(model)), context, windows)

        context.found[self.name] = _compress.compressed(fitted, context, change, windows)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        size = self.fitted(context).settings.get("group_size")
        if size != self.settings.get("group_size"):
            asked = self.settings["group_size"]
            variant.notes.append(say("note.weight_groups", name=self.name, size=size, asked=asked))
        if self.rounds_activations:
            variant.notes.append(say("note.rounds_activations", name=self.name))

    def prove(self, variant: LoadedVariant, context: Context) -> dict[str, Any]:
        facts = context.found[self.name].facts
        loaded = [
            name
            for name, m in linear.linear_layers(variant.model).items()
            if getattr(getattr(m, "quantization_scheme", None), "weights", None) is not None
        ]
        if not loaded or len(loaded) != facts["layers"]:
            raise DidNothing(f"{self.name}: {len(loaded)} of {facts['layers']} linear layers are quantized")
        scheme = self.fitted(context).scheme_text
        return {
            "summary": say("proof.quantized", n=len(loaded), scheme=scheme),
            "scheme": scheme,
            **facts,
        }


def check_grouping(name: str, bits: int, group_size: int) -> None:
    """Raises UserError for bit widths and group sizes that the packed format does not know."""
    if bits not in (4, 8):
        raise UserError(f"{name}: bits is 4 or 8, got {bits}", fix="write bits=4")
    if group_size < 1:
        raise UserError(f"{name}: group_size is at least 1, got {group_size}", fix="the usual value is group_size=128")


def integer_weights(bits: int, group_size: int, symmetric: bool) -> dict[str, Any]:
    """compressed-tensors' config group: integer weights in groups along the inputs, 16-bit activations."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(num_bits=bits, type="int", strategy="group", group_size=group_size, symmetric=symmetric)
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
