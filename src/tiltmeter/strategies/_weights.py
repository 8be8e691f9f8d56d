"""What llm-compressor's weight quantizers share: group sizes that fit, the run, and the proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import gcd
from typing import TYPE_CHECKING, Any, Self, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.models import linear
from tiltmeter.strategies import _bitsandbytes, _compress, _keep
from tiltmeter.strategies._compress import Compressed
from tiltmeter.strategies.base import Context, DidNothing, Evidence, Strategy
from tiltmeter.strategies.calibration import Windows

if TYPE_CHECKING:
    from compressed_tensors.quantization import QuantizationScheme
    from transformers import PreTrainedModel

    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class Scheme(Evidence):
    """Evidence with the scheme in words, and the layers that keep asked for as they were."""

    scheme: Text
    kept_layers: Sequence[str]


@dataclass(frozen=True)
class Quantized(Compressed, Scheme):
    """What a quantized checkpoint holds."""


USUAL = (64, 32, 16, 8)  # group sizes that packed formats and kernels know


def _default(strategy: Strategy, name: str) -> Any:
    return next(field.default for field in fields(strategy) if field.name == name)


@dataclass(frozen=True)
class OneShotQuantizer(Strategy):
    """Subclasses set `recipe` and `scheme_text`; those that calibrate also inherit `Calibrated`.

    keep: blocks (0-3+29) and kinds of layers (down_proj) that stay as they are; "" quantizes all."""

    keep: str = ""

    library = "llm-compressor + compressed-tensors"
    hardware = "CPU, GPU"
    role = "weights"
    makes_checkpoint = True
    simulated = True
    lists = ("keep",)
    read_by = ("transformers", "vLLM")

    def __post_init__(self) -> None:
        super().__post_init__()
        _keep.check_grammar(self.name, self.keep)
        size = self.grouped_by
        if size is not None and size < 1:
            raise UserError(
                f"{self.name}: group_size is at least 1, got {size}",
                fix=f"the usual value is group_size={_default(self, 'group_size')}",
            )

    def recipe(self, ignore: list[str]) -> list[Any]:
        """llm-compressor modifiers; `ignore`: linear layers to leave alone."""
        raise NotImplementedError

    @property
    def scheme_text(self) -> Text:
        """The scheme in words, for the proof."""
        raise NotImplementedError

    @property
    def grouped_by(self) -> int | None:
        """Weights that share a scale; None where the scheme has no groups."""
        size = self.settings.get("group_size")
        return None if size is None else int(size)

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return _bitsandbytes.refuse_second_quantizer(self.name, earlier)

    def fitted(self, context: Context) -> Self:
        """These settings for one model: the default group size falls to the largest usual one that divides the inputs
        of every layer; one that was asked for stays."""
        asked = self.grouped_by
        if asked is None or asked != _default(self, "group_size"):
            return self
        common = gcd(*(n_in for _, n_in in linear.require_linear_layers(context.config, self.name).values()))
        size = next((size for size in (asked, *USUAL) if common % size == 0), asked)
        return self if size == asked else replace(self, **cast(Any, {"group_size": size}))

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        _compress.check_library("llmcompressor", self.name)
        shapes = linear.require_linear_layers(context.config, self.name)
        if size := self.fitted(context).grouped_by:
            linear.require_multiple(shapes, size, f"{self.name}: group_size")
        _keep.kept(self.name, self.keep, shapes)
        if self.calibrates:
            self.check_text(context)  # type: ignore[attr-defined]

    def before_loading(self, context: Context) -> None:
        _compress.require_library(self.name)
        windows: Windows | None = self.windows(context) if self.calibrates else None  # type: ignore[attr-defined]

        fitted = self.fitted(context)
        _compress.compressed(fitted, context, lambda model: fitted.change(model, context, windows), windows)

    def change(self, model: PreTrainedModel, context: Context, windows: Windows | None) -> None:
        """Quantizes `model` in place; these settings must fit it (`fitted`)."""
        kept = _keep.kept(self.name, self.keep, linear.linear_layers(model))
        _compress.oneshot(model, self.recipe([*_compress.ignore_list(model), *kept]), context, windows)

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        size, asked = self.fitted(context).grouped_by, self.grouped_by
        if size != asked:
            variant.notes.append(say("note.weight_groups", name=self.name, size=size, asked=asked))
        if self.rounds_activations:
            variant.notes.append(say("note.rounds_activations", name=self.name))

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        facts = Compressed.of(context.made[self.name])
        layers = linear.linear_layers(variant.model)
        schemes = {name: layer.quantization_scheme for name, layer in layers.items() if _compress.is_quantized(layer)}
        kept = _keep.kept(self.name, self.keep, layers)
        if not schemes or schemes.keys() != layers.keys() - set(kept):
            raise DidNothing(f"{self.name}: {len(schemes)} of {len(layers) - len(kept)} linear layers are quantized")
        rounding = _compress.roundings(layers)
        if rounding != facts.roundings:
            raise DidNothing(f"{self.name}: saved as {facts.roundings}, read back as {rounding}")
        scheme = self.fitted(context).scheme_text
        key = "proof.quantized_but" if kept else "proof.quantized"
        summary = say(key, n=len(schemes), scheme=scheme, kept=len(kept), keep=self.keep)
        return Quantized(summary, scheme, kept, **vars(facts))


def check_bits(name: str, bits: int) -> None:
    """Raises UserError for bit widths that the packed format does not know."""
    if not 2 <= bits <= 8:
        raise UserError(f"{name}: bits is 2 to 8, got {bits}", fix="write bits=4")


def integer_weights(bits: int, group_size: int, symmetric: bool) -> dict[str, QuantizationScheme]:
    """compressed-tensors' config group: integer weights in groups along the inputs, 16-bit activations."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(num_bits=bits, type="int", strategy="group", group_size=group_size, symmetric=symmetric)
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}


def in_words(scheme: Any) -> Text:
    """A compressed-tensors scheme: "E2M1 weights in groups of 16, activations E2M1 in groups of 16"."""
    weights, activations = scheme.weights, scheme.input_activations
    if activations is None:
        return say("proof.scheme_weights", kind=_kind(weights), grouping=_grouping(weights))
    return say(
        "proof.scheme_both",
        kind=_kind(weights),
        grouping=_grouping(weights),
        inputs=_kind(activations),
        their_grouping=_grouping(activations),
    )


def _kind(args: Any) -> Text:
    if str(args.type) == "float":
        return {8: "E4M3", 4: "E2M1"}[args.num_bits]
    return say("proof.integers", bits=args.num_bits)


def _grouping(args: Any) -> Text:
    strategy = str(args.strategy)
    if strategy == "block":
        return say("proof.in_blocks", rows=args.block_structure[0], columns=args.block_structure[1])
    if strategy in ("group", "tensor_group"):
        return say("proof.in_groups", size=args.group_size)
    return say(f"proof.per_{strategy}")
