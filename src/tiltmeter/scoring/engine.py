"""Answers lists of requests about one variant, batch by batch; must agree with `reference.py`.

``Engine(variant, batch_tokens=None).plan(requests)`` says which requests belong together, `answer` computes one such
batch. A resumed run repeats a batch whole, so the same arithmetic is done again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tiltmeter.scoring import plan as planning
from tiltmeter.scoring import reference
from tiltmeter.scoring.reference import encode, text_of
from tiltmeter.scoring.requests import Answer, Request
from tiltmeter.scoring.variant import LoadedVariant


@dataclass
class Stats:
    """What the engine has done so far.

    Attributes:
        tokens_asked: tokens of all requests, prompts and new ones, as if each were computed alone.
        tokens_computed: tokens that went through the model.
        seconds: time inside `answer`.
    """

    tokens_asked: int = 0
    tokens_computed: int = 0
    seconds: float = 0.0


class Engine:
    """The fast path for one loaded variant.

    Args:
        variant: model, tokenizer and what its strategy needs.
        batch_tokens: tokens in one forward; None: `auto_batch_tokens(variant)`. Fix it once per run.
    """

    def __init__(self, variant: LoadedVariant, *, batch_tokens: int | None = None) -> None:
        self.variant = variant
        self.batch_tokens = batch_tokens or auto_batch_tokens(variant)
        self.stats = Stats()
        self.notes: list[str] = []

    def plan(self, requests: Sequence[Request], salt: str = "") -> list[list[int]]:
        """Batches of indices into `requests`: a pure function of requests, token budget and `salt`."""
        tokens = [encode(self.variant.tokenizer, text_of(request)) for request in requests]
        return planning.plan(requests, tokens, self.batch_tokens, salt)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to one batch, in its order."""
        started = time.perf_counter()
        answers = [reference.answer(self.variant, request) for request in requests]
        for request in requests:
            n_tokens = len(encode(self.variant.tokenizer, text_of(request)))
            self.stats.tokens_asked += n_tokens
            self.stats.tokens_computed += n_tokens
        self.stats.seconds += time.perf_counter() - started
        return answers


def auto_batch_tokens(variant: LoadedVariant) -> int:
    """Tokens in one forward that fit the free memory and keep the device busy."""
    return 512 if variant.device == "cpu" else 4096


def is_out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that memory ran out: halve the token budget and go on."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    )
