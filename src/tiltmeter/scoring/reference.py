"""The definition of every number: one request at a time, nothing clever. `engine.py` must agree with it.

Log-probabilities are natural logs (nats) of a float32 softmax over the whole vocabulary. A request is tokenized once,
as one string, with exactly one BOS (`prompts.encode`). Text is decoded from the new ids alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tiltmeter.scoring.requests import (
    NO_TEXT,
    NO_TOKEN,
    NOT_FINITE,
    TOO_LONG,
    Answer,
    Generation,
    GenerationAnswer,
    OptionAnswer,
    OptionProbs,
    Request,
    SequenceAnswer,
    SequenceLogprob,
    failed,
)
from tiltmeter.scoring.sampling import choose_token, uniforms
from tiltmeter.scoring.variant import LoadedVariant
from tiltmeter.scoring.vocabulary import Forms

try:
    from tiltmeter.scoring.prompts import encode
except ImportError:  # stand-in, to be removed

    def encode(tokenizer: Any, text: str) -> list[int]:
        """Exactly one BOS."""
        ids = list(tokenizer(text, add_special_tokens=True).input_ids)
        bos = tokenizer.bos_token_id
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


@torch.inference_mode()
def answer(variant: LoadedVariant, request: Request) -> Answer:
    """What `variant` answers to `request`; a request that cannot be computed gets its reason instead."""
    tokens = encode(variant.tokenizer, text_of(request))
    forms = Forms(variant.tokenizer.get_vocab())
    reason = obstacle(variant.max_length, forms, request, len(tokens))
    if reason:
        return failed(request, reason, len(tokens))
    if isinstance(request, SequenceLogprob):
        return _sequence(variant, tokens, request)
    if isinstance(request, OptionProbs):
        return _options(variant, tokens, request, forms)
    return _generation(variant, tokens, request)


def text_of(request: Request) -> str:
    """What is tokenized for `request`."""
    return request.text if isinstance(request, SequenceLogprob) else request.prompt


def obstacle(max_length: int, forms: Forms, request: Request, n_tokens: int) -> str | None:
    """The reason why `request`, `n_tokens` long with its BOS, cannot be asked at all, or None.

    A prompt must fit the context together with its answer (one token for options, the whole limit for a
    generation); it is never truncated.
    """
    answer_length = 0
    if isinstance(request, OptionProbs):
        answer_length = 1
    elif isinstance(request, Generation):
        answer_length = request.max_new_tokens
    if n_tokens + answer_length > max_length:
        return TOO_LONG
    if n_tokens < (2 if isinstance(request, SequenceLogprob) else 1):
        return NO_TEXT
    if isinstance(request, OptionProbs) and not all(any(i is not None for i in ids) for ids in forms.ids(request)):
        return NO_TOKEN
    return None


def finished(variant: LoadedVariant, new_ids: list[int]) -> GenerationAnswer:
    """The answer made of `new_ids`, decoded with and without special tokens."""
    stopped = "eos" if new_ids and new_ids[-1] in variant.eos_ids else "length"
    text, clean = (str(variant.tokenizer.decode(new_ids, skip_special_tokens=skip)) for skip in (False, True))
    return GenerationAnswer(text, clean, len(new_ids), stopped)


def prompt_cache(variant: LoadedVariant) -> dict[str, Any]:
    """The keyword arguments that give a forward without a past the cache its strategy asks for."""
    return {"past_key_values": variant.new_cache(), "use_cache": True} if variant.new_cache else {"use_cache": False}


def _sequence(variant: LoadedVariant, tokens: list[int], request: SequenceLogprob) -> Answer:
    ids = torch.tensor([tokens], device=variant.device)  # (1, T)
    logits = variant.model(ids, **prompt_cache(variant)).logits[0, :-1].float()  # (T - 1, V)
    logprobs = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])  # (T - 1, 1)
    total = float(logprobs.double().sum())
    if not np.isfinite(total):
        return failed(request, NOT_FINITE, len(tokens) - 1)
    return SequenceAnswer(total, len(tokens) - 1)


def _options(variant: LoadedVariant, tokens: list[int], request: OptionProbs, forms: Forms) -> Answer:
    ids = torch.tensor([tokens], device=variant.device)
    logprobs = variant.model(ids, **prompt_cache(variant)).logits[0, -1].float().log_softmax(-1)  # (V,)
    values = tuple(tuple(None if i is None else float(logprobs[i]) for i in ids) for ids in forms.ids(request))
    if not all(np.isfinite(value) for option in values for value in option if value is not None):
        return failed(request, NOT_FINITE, len(tokens))
    return OptionAnswer(values, len(tokens))


def _generation(variant: LoadedVariant, tokens: list[int], request: Generation) -> Answer:
    if variant.generate is not None:
        return finished(variant, variant.generate(tokens, request.max_new_tokens))
    step = next_logits(variant, tokens)
    draws = uniforms(request.seed, request.max_new_tokens)
    new_ids: list[int] = []
    logits = step(None)
    while True:
        if np.isnan(logits).any() or np.isposinf(logits).any():
            return failed(request, NOT_FINITE, len(new_ids))
        new_ids.append(choose_token(logits, request.temperature, request.top_p, draws[len(new_ids)]))
        if new_ids[-1] in variant.eos_ids or len(new_ids) == request.max_new_tokens:
            return finished(variant, new_ids)
        logits = step(new_ids[-1])


def next_logits(variant: LoadedVariant, tokens: list[int]) -> Callable[[int | None], np.ndarray]:
    """A function that feeds one more token (first None) and returns the float32 logits after it, shape (vocabulary,).

    The prompt goes through the model once and its cache is kept. A model without one (Mamba and kin name theirs
    differently) sees the whole sequence again at every step.
    """
    sequence = list(tokens)
    cache = variant.new_cache() if variant.new_cache else None
    fed = 0

    def step(token: int | None) -> np.ndarray:
        nonlocal cache, fed
        if token is not None:
            sequence.append(token)
        ids = torch.tensor([sequence[fed:]], device=variant.device)
        output = variant.model(ids, past_key_values=cache, use_cache=True)
        cache = getattr(output, "past_key_values", None)
        fed = len(sequence) if cache is not None else 0
        return output.logits[0, -1].float().cpu().numpy()

    return step
