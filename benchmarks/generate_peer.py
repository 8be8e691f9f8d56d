"""transformers' `generate` as a peer: left-padded batches, prompts sorted by length. Needs nothing but transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.requests import Generation, Request, SequenceLogprob


def token_ids(variant: LoadedVariant, requests: Sequence[Request]) -> list[list[int]]:
    """Ids of every request's text."""
    return [encode(variant.tokenizer, r.text if isinstance(r, SequenceLogprob) else r.prompt) for r in requests]


@torch.inference_mode()
def generate(variant: LoadedVariant, requests: Sequence[Generation], batch_size: int) -> list[list[int]]:
    """New ids per request; samples of one prompt through num_return_sequences."""
    ids = token_ids(variant, requests)
    prompts: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(ids):
        prompts.setdefault(tuple(prompt), []).append(index)
    samples = max(map(len, prompts.values()))
    order = sorted(prompts, key=len)
    found: list[list[int]] = [[] for _ in requests]
    per_batch = max(1, batch_size // samples)
    sampled = requests[0].temperature > 0
    for first in range(0, len(order), per_batch):
        batch = order[first : first + per_batch]
        longest = max(map(len, batch))
        padded = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in batch], device=variant.device)
        mask = torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch], device=variant.device
        )
        torch.manual_seed(first)
        rows = variant.model.generate(
            padded,
            attention_mask=mask,
            max_new_tokens=requests[0].max_new_tokens,
            do_sample=sampled,
            top_k=0,
            top_p=1.0,
            num_return_sequences=samples,
            eos_token_id=None,
            pad_token_id=0,
        )[:, longest:].tolist()
        for place, prompt in enumerate(batch):
            for sample, index in enumerate(prompts[prompt]):
                found[index] = rows[place * samples + sample]
    return found
