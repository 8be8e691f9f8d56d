"""A fixed set of probe prompts: did the strategy change any logit, and by how much?

A probe is a short text, split into a prompt and a tail. The prompt is one forward through a fresh
cache of the variant, the tail follows token by token through that cache, so that weight and cache
strategies are both seen. The base's probe logits are kept on disk: the base is never loaded beside
its variant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS = (
    "Once upon a time there was a little girl who lived near the forest. She was happy.",
    "The capital of the country is a large city, and about 5 million people live there.",
    "Question: should the loan be approved? The applicant is 40 years old. Answer: yes",
)
TAIL = 4  # tokens read one at a time after the prompt


def probe_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, new_cache: Callable[[], Any] | None = None
) -> Tensor:
    """Next-token logits on the probes, float32 on the CPU, shape (probes x (1 + TAIL), vocabulary)."""
    import torch
    from transformers import DynamicCache

    longest = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or 64
    rows = []
    with torch.inference_mode():
        for text in TEXTS:
            ids = tokenizer(text, return_tensors="pt").input_ids[:, : min(longest, 64)].to(model.device)
            cache = new_cache() if new_cache else DynamicCache(config=model.config)
            cut = ids.shape[1] - TAIL
            for piece in (ids[:, :cut], *ids[:, cut:].split(1, dim=1)):
                rows.append(model(piece, past_key_values=cache, use_cache=True).logits[0, -1].float().cpu())
    return torch.stack(rows)
