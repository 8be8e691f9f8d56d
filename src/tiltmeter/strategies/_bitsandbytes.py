"""What int8 and int4 share: bitsandbytes' linear layers, put in while the weights are read.

Trap        On CPUs with AVX512-BF16, ``Linear4bit`` repacks its weights in the first forward. From then on it
            computes in bfloat16 whatever was asked, and ``state_dict()`` undoes the packing of the live
            model, which then answers wrongly (logits off by 0.78 in a tiny Llama).
Guard       ``keep_plain_packing`` before the first forward; the result then equals the dequantized weights'.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import Text, say
from tiltmeter.strategies.base import DidNothing, Evidence

if TYPE_CHECKING:
    from torch import nn


def require() -> None:
    """Raises UserError when bitsandbytes cannot be imported ; quietens what it logs at every forward."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise missing_extra("bitsandbytes", "bitsandbytes", "int8/int4") from None


@dataclass(frozen=True)
class Layers(Evidence):
    """Linear layers that were replaced, and those that were not."""

    quantized_layers: int
    layer_names: list[str]
    untouched_linear_layers: list[str]
    quantized_weight_bytes: int


def evidence(model: nn.Module, layer_type: type[nn.Module], what: Text) -> Evidence:
    """Number and names of quantized layers, those left alone, bytes of their weights.

    Raises DidNothing when no layer was replaced.
    """
    from torch import nn

    quantized: dict[str, nn.Module] = {n: m for n, m in model.named_modules() if isinstance(m, layer_type)}
    plain = [name for name, m in model.named_modules() if isinstance(m, nn.Linear) and name not in quantized]
    if not quantized:
        raise DidNothing(f"{what}: no linear layer was quantized")
    weights = [m.get_parameter("weight") for m in quantized.values()]
    return Layers(
        say("proof.quantized_beside", n=len(quantized), scheme=what, names=", ".join(plain) or "none"),
        quantized_layers=len(quantized),
        layer_names=sorted(quantized),
        untouched_linear_layers=plain,
        quantized_weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
    )


def refuse_second_quantizer(name: str, earlier: Any) -> str | None:
    """Order rule of every weight quantizer: one per chain."""
    other = next((part.name for part in earlier if part.quantizes), None)
    return f"{other} has quantized the weights already, {name} would quantize them again" if other else None


def check_weights_float(config: Any, name: str) -> None:
    """Raises UserError for a checkpoint that is quantized already."""
    if getattr(config, "quantization_config", None) is not None:
        raise UserError(
            f"{name}: this checkpoint is quantized already",
            fix="compare it as a ready-made variant: tiltmeter compare BASE VARIANT",
        )
