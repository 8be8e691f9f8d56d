"""Which linear layers of a model a weight method works on, and what their weights look like afterwards.

Only the linear layers inside the decoder blocks are touched: never the output head (tied to the
embeddings in many models), never the router of a mixture of experts.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig

ROUTERS = ("gate", "router")  # last part of the name; small layers that choose experts


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The decoder blocks by name, in order; empty where the model has no list of them."""
    from torch import nn

    layers = model.config.get_text_config(decoder=True).num_hidden_layers  # type: ignore[union-attr, operator]
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return {f"{name}.{index}": block for index, block in enumerate(module)}
    return {}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers inside the decoder blocks, by full name."""
    from torch import nn

    return {
        f"{block_name}.{name}": module
        for block_name, block in blocks(model).items()
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] not in ROUTERS
    }


def skeleton(config: PretrainedConfig) -> nn.Module:
    """The model of `config` without weights (meta device): shapes for checks before anything is loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-any-return]


def require_linear_layers(config: PretrainedConfig, name: str) -> dict[str, tuple[int, int]]:
    """Layer name -> (out, in) of what `name` will work on. Raises UserError when the model has none of these."""
    shapes = {layer: (m.out_features, m.in_features) for layer, m in linear_layers(skeleton(config)).items()}
    if not shapes:
        raise UserError(
            f"{name} works on torch Linear layers inside decoder blocks; this {config.model_type} model has none",
            fix="use int8, int4 or kv8, which know other layers, or another model",
        )
    return shapes


def require_multiple(shapes: dict[str, tuple[int, int]], size: int, what: str) -> None:
    """Raises UserError naming the first layer whose inputs `size` does not divide, and the sizes that fit all."""
    for layer, (_, n_in) in shapes.items():
        if n_in % size:
            common = gcd(*(n for _, n in shapes.values()))
            fitting = [s for s in (8, 16, 32, 64, 128, 256, 512) if common % s == 0] or [common]
            raise UserError(
                f"{what} {size} does not fit layer {layer}: it has {n_in} inputs",
                fix=f"sizes that fit every layer of this model: {', '.join(map(str, fitting))}",
            )


def sparsity_facts(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Share of zeros per layer and in total, and share of groups of 4 columns with at least 2 zeros."""
    per_layer, zeros, total, intact, groups = {}, 0, 0, 0, 0
    for name, weight in weights.items():
        is_zero = weight == 0
        per_layer[name] = round(float(is_zero.float().mean()), 6)
        zeros += int(is_zero.sum())
        total += weight.numel()
        if weight.shape[1] % 4 == 0:
            fours = is_zero.reshape(-1, 4).sum(dim=1)
            intact += int((fours >= 2).sum())
            groups += fours.numel()
    return {
        "sparsity": zeros / total,
        "sparsity_per_layer": per_layer,
        "intact_2_4_share": intact / groups if groups else None,
    }
