"""The peers, each as a function from requests to numbers or new ids, so that all can be held to the same result.

loop      the study's published way, written anew: one prompt at a time through the model, no cache between prompts
lm-eval   lm-evaluation-harness' HFLM on token ids (its own sorting, batching and shared-context lookup)
generate  transformers' generate on left-padded batches, prompts sorted by length
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lm_eval.models.huggingface import HFLM

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.requests import Generation, OptionProbs, Request, SequenceLogprob
from tiltmeter.scoring.vocabulary import Forms


def token_ids(variant: LoadedVariant, requests: Sequence[Request]) -> list[list[int]]:
    """Ids of every request's text."""
    return [encode(variant.tokenizer, r.text if isinstance(r, SequenceLogprob) else r.prompt) for r in requests]


def option_ids(variant: LoadedVariant, request: OptionProbs) -> list[int]:
    """The id of each option's first form."""
    return [ids[0] for ids in Forms(variant.tokenizer.get_vocab()).ids(request)]  # type: ignore[misc]


@torch.inference_mode()
def loop(variant: LoadedVariant, requests: Sequence[Request]) -> list[float]:
    """One prompt at a time: the whole text's loss, or the softmax of the last row."""
    first = next((r for r in requests if isinstance(r, OptionProbs)), None)
    options = option_ids(variant, first) if first else []
    found: list[float] = []
    for request, ids in zip(requests, token_ids(variant, requests), strict=True):
        prompt = torch.tensor([ids])
        if isinstance(request, SequenceLogprob):
            found.append(-float(variant.model(prompt, labels=prompt).loss) * (len(ids) - 1))
        else:
            logprobs = variant.model(prompt).logits[0, -1].log_softmax(-1)
            found += [float(logprobs[i]) for i in options]
    return found


class LmEval:
    """lm-evaluation-harness with one batch size."""

    def __init__(self, variant: LoadedVariant, batch_size: int) -> None:
        self.variant = variant
        self.harness = HFLM(pretrained=variant.model, tokenizer=variant.tokenizer, batch_size=batch_size, device="cpu")

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        first = next((r for r in requests if isinstance(r, OptionProbs)), None)
        options = option_ids(self.variant, first) if first else []
        asked = []
        for number, ids in enumerate(token_ids(self.variant, requests)):
            if options:  # equal contexts are looked up in one forward
                asked += [((str(number), str(option)), ids, [option]) for option in options]
            else:
                asked.append((("", str(number)), ids[:1], ids[1:]))
        answers = self.harness._loglikelihood_tokens(asked, disable_tqdm=True)
        return [float(logprob) for logprob, _ in answers]


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
