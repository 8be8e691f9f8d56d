"""What only running a model shows: every weight a number, a first forward without error, no look at later tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError
from tiltmeter.models.check import not_causal

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 6  # of the probe
LEAK = 1e-3  # of the effect on its own logits: what float32 arithmetic in other groups can move
ROUNDED_LEAK = 0.05  # 16-bit types and quantized layers, where tokens share outlier columns or kernels


def check_runs(model: PreTrainedModel, name: str) -> None:
    """Raises UserError for weights that are no numbers, a forward that fails, and a model that sees later tokens.

    Causality is probed, not believed: changing the last of `TOKENS` tokens may not move the logits before it.
    """
    import torch

    for key, weight in model.named_parameters():
        if weight.is_floating_point() and weight.element_size() > 1 and not bool(weight.isfinite().all()):
            kind = str(weight.dtype).removeprefix("torch.")
            raise UserError(
                f"{name}: the weight {key} holds NaN or infinite values in {kind}",
                fix="fetch the checkpoint again; where it holds values beyond float16, add --dtype float32 or bfloat16",
            )
    rows = int(cast(Any, model.get_input_embeddings()).weight.shape[0])
    ids = torch.arange(TOKENS) * 7 % max(rows - 1, 1) + (rows > 1)
    changed = ids.clone()
    changed[-1] = (changed[-1] + max(rows // 2, 1)) % rows
    try:
        with torch.inference_mode():
            before, after = (
                model(each[None].to(model.device), use_cache=False).logits[0].float() for each in (ids, changed)
            )
    except Exception as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "allocate" in str(error).lower():
            raise
        text = str(error).strip().splitlines() or [""]
        raise UserError(
            f"{name} loads, but its first forward fails: {type(error).__name__}: {text[0][:200]}",
            fix="check that config.json belongs to these weights, and that transformers supports this model",
        ) from error
    moved = (after - before).abs().amax(dim=-1)
    plain = all(weight.dtype == torch.float32 for weight in model.parameters())
    if float(moved[:-1].max()) > (LEAK if plain else ROUNDED_LEAK) * max(float(moved[-1]), 1e-6):
        raise not_causal(name, "a changed last token moves the logits before it")


def nothing_but_zeros(model: PreTrainedModel) -> list[str]:
    """The weight matrices that hold zeros alone: a download that was interrupted leaves such, and some models are made
    with them."""
    return [
        name
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and weight.is_floating_point() and weight.element_size() > 1 and not bool(weight.any())
    ]
