"""Calibrated scales: every read of the cache sees keys and values rounded by one scale per layer, or per KV head.

How         compressed-tensors' static KV scheme: keys (after rotary embedding) and values are rounded to
            integers or narrow floats as they enter the cache, one scale per layer (and KV head), the scale from the
            largest absolute value seen on calibration text. Nothing depends on batch, packing or on whether a
            prefix was kept, so prefill, single forwards and generation agree, and prefixes may be shared.
Trap        llm-compressor's own path refuses bitsandbytes models, and such checkpoints cannot be loaded with a
            BitsAndBytesConfig. So scales are calibrated on the checkpoint as it stands at this point of the
            chain, before bitsandbytes quantizes its weights, and attached to the loaded model.
Trap        compressed-tensors puts the largest value at 7.5 integer steps (127.5 at 8 bit), a tie. Where one token's
            keys are the largest everywhere (BOS), the last bit of float arithmetic then decides between -7 and -8, and
            logits differ by up to 5 between a prefill and the same tokens one by one. The scale is made 1.6 %
            smaller, which gives what exact arithmetic would: -8, and 7 at the other end.
Departure   The study used read=transformers. Scales come from the largest value seen (static_minmax), not from
            llm-compressor's default moving average, which depends on the order of the calibration texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.models.reading import load_model
from tiltmeter.strategies.base import Context, DidNothing, Evidence, Strategy, refuse_second_cache
from tiltmeter.strategies.calibration import Calibrated, Drawn

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from tiltmeter.models.artifacts import Artifact


OFF_THE_TIE = 1 - 2**-6  # more than bfloat16's rounding


@dataclass(frozen=True)
class RangedCache(Calibrated):
    """A cache whose scales are calibrated where its settings say so; what such caches share."""

    role = "cache"
    hardware = "CPU, GPU"

    def refuse_unused(self, scale: str, why: str, **defaults: object) -> None:
        """Raises UserError for settings that only the calibrated `scale` has, where this cache has another."""
        defaults = {"samples": 128, "length": 512, "seed": 0, "calibration": "", **defaults}
        unused = [key for key, default in defaults.items() if getattr(self, key) != default]
        if unused and not self.calibrates:
            given = f"{unused[0]}={getattr(self, unused[0])}"
            raise UserError(
                f"{self.name}: {unused[0]} belongs to scale={scale}, which calibrates; {why}",
                fix=f"write {self.name}:scale={scale},{given}, or leave {unused[0]} out",
            )

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return refuse_second_cache(self.name, earlier)

    def before_loading(self, context: Context) -> None:
        if self.calibrates:
            context.made[self.name] = calibrate(self, context)


def calibrate(strategy: Calibrated, context: Context) -> Artifact:
    """The artifact with k_scale and v_scale of every layer (safetensors), made when it is not cached."""
    _require(strategy.name)
    windows = strategy.windows(context)

    def make(folder: Path) -> Mapping[str, object]:
        from safetensors.torch import save_file

        context.progress(f"{strategy.name}: calibrating scales on {len(windows.ids)} sequences")
        model = load_model(context.checkpoint, context.dtype, context.device)
        save_file(largest_values(model, windows.ids, strategy.name), folder / "largest.safetensors")
        return {"calibration": asdict(windows.record), "title": f"{context.model} · ranges of keys and values"}

    key = {
        "kind": "kv cache ranges",
        "lineage": list(context.lineage),
        "dtype": context.dtype,
        "device": context.device.split(":")[0],
        "calibration": asdict(windows.record),
    }
    return context.artifacts.get_or_make(key, make)


def largest_values(model: PreTrainedModel, windows: tuple[tuple[int, ...], ...], name: str) -> dict[str, Tensor]:
    """Largest absolute key and value per layer and KV head over `windows`.

    Returns "<module>.k" and "<module>.v" -> float32 (kv_heads, 1, 1), on the CPU.
    """
    import torch
    from compressed_tensors.modeling.kvcache import initialize_hooked_kv_cache, register_key_hook, register_value_hook

    largest: dict[str, Tensor] = {}

    def watch(key: str) -> Any:
        def hook(module: nn.Module, states: Tensor) -> None:  # states (batch, kv_heads, tokens, head_dim)
            now = states.detach().float().abs().amax(dim=(0, 2, 3)).reshape(-1, 1, 1)
            largest[key] = torch.maximum(largest[key], now) if key in largest else now

        return hook

    for module_name, module in attention_modules(model, name).items():
        initialize_hooked_kv_cache(model, module)
        register_key_hook(module, watch(f"{module_name}.k"))
        register_value_hook(module, watch(f"{module_name}.v"))
    with torch.inference_mode():
        for window in windows:
            model(torch.tensor([window], device=model.device), use_cache=False)
    return {key: value.cpu() for key, value in largest.items()}


def attach(model: PreTrainedModel, name: str, args: Any, artifact: Artifact) -> None:
    """Makes every cache write of `model` round keys and values as `args` (of `scheme_for`) say, with scales from the
    artifact's ranges."""
    from compressed_tensors.modeling.kvcache import initialize_hooked_kv_cache
    from compressed_tensors.quantization import QuantizationScheme, QuantizationStatus
    from compressed_tensors.quantization.utils import calculate_qparams
    from safetensors.torch import load_file
    from torch import nn

    largest = load_file(artifact.path / "largest.safetensors")
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())  # not a bitsandbytes weight's
    for module_name, module in attention_modules(model, name).items():
        initialize_hooked_kv_cache(model, module)
        for which in ("k", "v"):
            top = largest[f"{module_name}.{which}"].to(model.device)  # (kv_heads, 1, 1)
            top = top.amax().reshape(1) if str(args.strategy) == "tensor" else top
            scale = calculate_qparams(-top, top, args)[0] * (OFF_THE_TIE if str(args.type) == "int" else 1)
            module.register_parameter(f"{which}_scale", nn.Parameter(scale.to(dtype), requires_grad=False))
        module.quantization_scheme = QuantizationScheme(targets=[type(module).__name__], input_activations=args)
        module.quantization_status = QuantizationStatus.FROZEN


def scheme_for(bits: int, kind: str = "int", strategy: str = "attn_head") -> Any:
    """compressed-tensors' description of the cache: symmetric, static; kind "int" or "float", one scale per KV head
    ("attn_head") or per layer ("tensor")."""
    from compressed_tensors.quantization import QuantizationArgs

    return QuantizationArgs(num_bits=bits, type=kind, symmetric=True, strategy=strategy, dynamic=False)


def attention_modules(model: PreTrainedModel, name: str) -> dict[str, nn.Module]:
    """The attention modules whose cache can be quantized, by name, one per layer.

    Raises UserError where the model keeps keys and values in a way compressed-tensors does not know.
    """
    from compressed_tensors.quantization.lifecycle.initialize import is_cached_attention_module

    found = {n: m for n, m in model.named_modules() if is_cached_attention_module(m)}
    layers = model.config.get_text_config(decoder=True).num_hidden_layers
    if len(found) != layers:
        raise UserError(
            f"{name}: {len(found)} of {layers} layers have a key/value cache that compressed-tensors can quantize",
            fix=f"use {name}:read=transformers",
        )
    return found


@dataclass(frozen=True)
class Ranges:
    """What a cache with calibrated scales shows."""

    read: str
    layers: int
    scheme: str
    scale_range: tuple[float, float]  # smallest and largest of all layers and heads
    calibration: Drawn


@dataclass(frozen=True)
class StaticCache(Ranges, Evidence):
    """A cache with calibrated scales."""

    bits: int


def ranges(model: PreTrainedModel, name: str, artifact: Artifact) -> Ranges:
    """Layers, scheme and range of scales. Raises DidNothing when a layer has none."""
    modules = attention_modules(model, name)
    scales = {f"{n}.{w}": getattr(m, f"{w}_scale", None) for n, m in modules.items() for w in ("k", "v")}
    missing = [each for each, scale in scales.items() if scale is None or not bool((scale > 0).all())]
    if missing:
        raise DidNothing(f"{name}: no scale for {missing[0]}")
    values = [float(each) for scale in scales.values() if scale is not None for each in (scale.min(), scale.max())]
    args = cast(Any, next(iter(modules.values()))).quantization_scheme.input_activations
    drawn = Drawn.of(artifact.facts["calibration"])
    assert drawn is not None
    scheme = f"{args.type}, symmetric, static, {args.strategy}"
    return Ranges("quantized", len(modules), scheme, (min(values), max(values)), drawn)


def _require(name: str) -> None:
    try:
        import compressed_tensors  # noqa: F401
    except ImportError:
        raise missing_extra("compressed-tensors", "compress", name) from None
