"""The definition of every number: one request at a time, nothing clever. `engine.py` must agree with it.

Log-probabilities are natural logs (nats) of a softmax over the whole vocabulary, in float64 from float32 logits
(`logprobs`). A request is tokenized once, as one string, with exactly one BOS (`prompts.encode`). Text is decoded from
the new ids alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from tiltmeter.messages import Message
from tiltmeter.models.variant import NO_GUESSES, Guesses, LoadedVariant
from tiltmeter.scoring.logprobs import logprobs_of
from tiltmeter.scoring.prompts import encode
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
from tiltmeter.scoring.vocabulary import Forms


def answer(variant: LoadedVariant, request: Request) -> Answer:
    """What `variant` answers to `request`; a request that cannot be computed gets its reason instead."""
    tokens = encode(variant.tokenizer, text_of(request))
    forms = Forms(variant.tokenizer.get_vocab())
    reason = obstacle(variant.max_length, forms, request, len(tokens))
    if reason:
        return failed(request, reason, len(tokens))
    if isinstance(request, SequenceLogprob):
        return sequence_answer(request, len(tokens), sequence_logprob(variant, tokens))
    if isinstance(request, OptionProbs):
        asked = [i for ids in forms.ids(request) for i in ids if i is not None]
        return option_answer(request, forms, len(tokens), option_logprobs(variant, tokens, asked))
    if variant.generate is not None and request.temperature == 0:
        return generation_answer(variant, request, *variant.generate(tokens, request.max_new_tokens))
    return generation_answer(variant, request, new_ids(variant, tokens, request))


def text_of(request: Request) -> str:
    """What is tokenized for `request`."""
    return request.text if isinstance(request, SequenceLogprob) else request.prompt


def obstacle(max_length: int, forms: Forms, request: Request, n_tokens: int) -> Message | None:
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


def sequence_answer(request: SequenceLogprob, n_tokens: int, logprob: float) -> Answer:
    """The answer to a text of `n_tokens` ids with this summed log-probability."""
    if not np.isfinite(logprob):
        return failed(request, NOT_FINITE, n_tokens - 1)
    return SequenceAnswer(logprob, n_tokens - 1)


def option_answer(request: OptionProbs, forms: Forms, n_tokens: int, logprobs: Sequence[float]) -> Answer:
    """The answer made of the log-probabilities of the request's known forms, in order."""
    if not np.isfinite(logprobs).all():
        return failed(request, NOT_FINITE, n_tokens)
    left = iter(logprobs)
    return OptionAnswer(
        tuple(tuple(None if i is None else next(left) for i in ids) for ids in forms.ids(request)), n_tokens
    )


def generation_answer(
    variant: LoadedVariant, request: Generation, ids: Sequence[int] | None, guesses: Guesses = NO_GUESSES
) -> Answer:
    """The answer made of the new `ids`, decoded with and without special tokens; None: the logits were not finite."""
    if ids is None:
        return failed(request, NOT_FINITE)
    stopped = "eos" if ids and ids[-1] in variant.eos_ids else "length"
    text, clean = (str(variant.tokenizer.decode(list(ids), skip_special_tokens=skip)) for skip in (False, True))
    return GenerationAnswer(text, clean, len(ids), stopped, guessed=guesses.proposed, accepted=guesses.accepted)


def prompt_cache(variant: LoadedVariant) -> dict[str, object]:
    """The keyword arguments that give a forward without a past the cache its strategy asks for."""
    return {"past_key_values": variant.new_cache(), "use_cache": True} if variant.new_cache else {"use_cache": False}


@torch.inference_mode()
def sequence_logprob(variant: LoadedVariant, tokens: Sequence[int]) -> float:
    """Sum of log p(token | before) over all of `tokens` but the first, in nats."""
    ids = torch.tensor([tokens], device=variant.device)  # (1, T)
    logits = variant.model(ids, **prompt_cache(variant)).logits[0, :-1].float()  # (T - 1, V)
    return float(logprobs_of(logits, ids[0, 1:]).sum())


@torch.inference_mode()
def option_logprobs(variant: LoadedVariant, tokens: Sequence[int], ids: Sequence[int]) -> list[float]:
    """log p(id | tokens) of each of `ids`, in nats."""
    prompt = torch.tensor([tokens], device=variant.device)
    logits = variant.model(prompt, **prompt_cache(variant)).logits[:1, -1].float()  # (1, V)
    return logprobs_of(logits.expand(len(ids), -1), torch.tensor(ids, dtype=torch.long, device=logits.device)).tolist()


@torch.inference_mode()
def new_ids(variant: LoadedVariant, tokens: Sequence[int], request: Generation) -> list[int] | None:
    """The ids written after `tokens`, the end token included; None when the logits are not finite."""
    if variant.generate is not None and request.temperature == 0:
        return variant.generate(list(tokens), request.max_new_tokens)[0]
    step = next_logits(variant, tokens)
    draws = uniforms(request.seed, request.max_new_tokens)
    ids: list[int] = []
    while len(ids) < request.max_new_tokens and not (ids and ids[-1] in variant.eos_ids):
        logits = step(ids[-1] if ids else None)
        if not np.isfinite(logits.max()):  # NaN or +inf somewhere
            return None
        ids.append(choose_token(logits, request.temperature, request.top_p, draws[len(ids)]))
    return ids


def next_logits(variant: LoadedVariant, tokens: Sequence[int]) -> Callable[[int | None], np.ndarray]:
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
