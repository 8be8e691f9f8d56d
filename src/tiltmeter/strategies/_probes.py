"""A fixed set of probe prompts: did the strategy change any logit, and by how much?

A probe is a short text, split into a prompt and a tail. The prompt is one forward through a fresh
cache of the variant, the tail follows token by token through that cache, so that weight and cache
strategies are both seen. The base's probe logits are kept on disk: the base is never loaded beside
its variant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from tiltmeter.scoring.variant import LoadedVariant

TEXTS = (
    "Once upon a time there was a little girl who lived near the forest. She was happy.",
    "The capital of the country is a large city, and about 5 million people live there.",
    "Question: should the loan be approved? The applicant is 40 years old. Answer: yes",
)
TAIL = 4  # tokens read one at a time after the prompt


def probe_logits(variant: LoadedVariant) -> Tensor:
    """Next-token logits on the probes, float32 on the CPU, shape (probes x (1 + TAIL), vocabulary)."""
    import torch
    from transformers import DynamicCache

    rows = []
    with torch.inference_mode():
        for text in TEXTS:
            ids = (
                variant.tokenizer(text, return_tensors="pt")
                .input_ids[:, : min(variant.max_length, 64)]
                .to(variant.device)
            )
            cache = variant.new_cache() if variant.new_cache else DynamicCache(config=variant.model.config)
            cut = ids.shape[1] - TAIL
            pieces = [ids[:, :cut], *(ids[:, i : i + 1] for i in range(cut, ids.shape[1]))]
            for piece in pieces:
                rows.append(
                    variant.model(piece, past_key_values=cache, use_cache=True).logits[0, -1].float().cpu()
                )
    return torch.stack(rows)
