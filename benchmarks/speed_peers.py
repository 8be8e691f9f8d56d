"""The peers, each as a function from requests to numbers or new ids, so that all can be held to the same result.

loop      the study's published way, written anew: one prompt at a time through the model, no cache between prompts
lm-eval   lm-evaluation-harness' HFLM on token ids (its own sorting, batching and shared-context lookup)
generate  transformers' generate on left-padded batches, prompts sorted by length
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lm_eval.models.huggingface import HFLM

from benchmarks.generate_peer import generate, token_ids
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.requests import OptionProbs, Request, SequenceLogprob
from tiltmeter.scoring.vocabulary import Forms

__all__ = ["LmEval", "generate", "loop", "option_ids", "token_ids"]


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
