"""Which weights of a model a method works on, which it leaves alone, and what they look like afterwards.

Only weights inside the decoder blocks are touched: never the output head (tied to the embeddings in many models),
never the router of a mixture of experts. A mixture keeps its experts in parameters of three dimensions, one matrix per
expert, which are no linear layers: a method that knows linear layers alone would change attention and leave four fifths
of the weights as they were. So what a method reaches is counted in parameters, and one that reaches too few is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PretrainedConfig

ROUTERS = ("gate", "router")  # last part of the name; small layers that choose experts
REACH = 0.9  # of the block weights; a method that reaches fewer is not what its name says


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


def block_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight inside the decoder blocks by full name: of linear layers, experts, routers, convolutions. No norms,
    no biases."""
    return {
        f"{block_name}.{name}": weight
        for block_name, block in blocks(model).items()
        for name, weight in block.named_parameters()
        if weight.ndim > 1 and not name.endswith("bias")
    }


def experts(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of three dimensions (expert, …, …) inside the decoder blocks, by full name."""
    return {
        name: weight
        for name, weight in block_weights(model).items()
        if weight.ndim == 3 and name.split(".")[-2].endswith("experts")
    }


def matrices(model: nn.Module) -> dict[str, Tensor]:
    """Every matrix that a weight method can work on: linear layers' by the layer's name, experts' by number."""
    found = {name: layer.weight for name, layer in linear_layers(model).items()}
    for name, weight in experts(model).items():
        found.update({f"{name}.{index}": matrix for index, matrix in enumerate(weight)})
    return found


def require_reach(config: PretrainedConfig, name: str, *, with_experts: bool = False) -> None:
    """Raises UserError where the weights that `name` works on are too few of the blocks' to bear its name.

    with_experts: it works on experts too, not on linear layers alone.
    """
    model = skeleton(config)
    weights = block_weights(model)
    reached = {f"{layer}.weight" for layer in linear_layers(model)} | _convolutions_1d(model)
    reached |= set(experts(model)) if with_experts else set()
    rest = {weight: tensor.numel() for weight, tensor in weights.items() if weight not in reached}
    total = sum(tensor.numel() for tensor in weights.values())
    if total and sum(rest.values()) > (1 - REACH) * total:
        raise UserError(
            f"{name} changes linear layers; {sum(rest.values()) / total:.0%} of the block weights of this "
            f"{config.model_type} model lie elsewhere: {kinds_of(rest)}",
            fix="int4 and magnitude act on experts too; or a KV cache strategy (kv8), or a dense model",
        )


def _convolutions_1d(model: nn.Module) -> set[str]:
    """GPT-2's layers, linear ones transposed, which bitsandbytes knows."""
    return {f"{name}.weight" for name, module in model.named_modules() if type(module).__name__ == "Conv1D"}


def kinds_of(names: Iterable[str]) -> str:
    """Names of weights without the numbers of their blocks and experts: "mlp.experts.down_proj, mlp.gate"."""
    parts = (name.removesuffix(".weight").split(".") for name in names)
    tails = (".".join(p for p in part[_after_block(part) :] if not p.isdigit()) for part in parts)
    return ", ".join(dict.fromkeys(tails))


def _after_block(parts: list[str]) -> int:
    return next((place + 1 for place, part in enumerate(parts) if part.isdigit()), 0)


def changed_share(model: nn.Module, config: PretrainedConfig, zeros: Iterable[str] = ()) -> tuple[float, list[str]]:
    """(share of the block weights that are held quantized or were pruned, names of the others), counted in parameters
    of the unquantized model. zeros: names as in `matrices` that pruning worked on."""
    pruned = {name if name.rsplit(".", 1)[-1].isdigit() else f"{name}.weight" for name in zeros}
    pruned |= {name.rpartition(".")[0] for name in pruned if not name.endswith(".weight")}
    total = acted = 0
    rest = []
    for name, weight in block_weights(skeleton(config)).items():
        total += weight.numel()
        if name in pruned or _is_quantized(model, name):
            acted += weight.numel()
        else:
            rest.append(name)
    return acted / total if total else 0.0, rest


def _is_quantized(model: nn.Module, name: str) -> bool:
    """Whether the weight that the unquantized model calls `name` is held as integers or narrow floats, or stands for
    such by rounding."""
    owner, _, last = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:  # its module was replaced by others
        return False
    if last in getattr(module, "parametrizations", {}):
        return True
    kind = type(module).__module__.split(".")
    if kind[0] == "bitsandbytes" or kind[:2] == ["torch", "ao"] or type(module).__name__ in ("FP8Linear",):
        return True
    if held_by_torchao(getattr(module, last, None)):
        return True
    return getattr(getattr(module, "quantization_scheme", None), "weights", None) is not None


def held_by_torchao(weight: object) -> bool:
    """Whether a weight is one of torchao's tensors, whose layer stays a plain linear one."""
    return any(type(each).__module__.startswith("torchao.") for each in (weight, getattr(weight, "data", None)))


def skeleton(config: PretrainedConfig) -> nn.Module:
    """The model of `config` without weights (meta device): shapes for checks before anything is loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-any-return]


def require_linear_layers(
    config: PretrainedConfig, name: str, *, with_experts: bool = False
) -> dict[str, tuple[int, int]]:
    """Layer name -> (out, in) of what `name` will work on. Raises UserError where that is nothing, or too little."""
    shapes = {layer: (m.out_features, m.in_features) for layer, m in linear_layers(skeleton(config)).items()}
    if not shapes:
        raise UserError(
            f"{name} works on torch Linear layers inside decoder blocks; this {config.model_type} model has none",
            fix="use int8, int4 or kv8, which know other layers, or another model",
        )
    require_reach(config, name, with_experts=with_experts)
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


@dataclass(frozen=True)
class Sparsity:
    """Zeros of some matrices. intact_2_4_share: of groups of 4 columns, those with at least 2; None: no such groups."""

    sparsity: float  # share of all weights
    sparsity_per_layer: Mapping[str, float]
    intact_2_4_share: float | None


def sparsity_of(weights: Mapping[str, Tensor]) -> Sparsity:
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
    return Sparsity(zeros / total, per_layer, intact / groups if groups else None)
