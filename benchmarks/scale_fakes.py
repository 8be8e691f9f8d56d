"""A model that is not there, for `benchmarks.scale`: a backend, a loader and a worker of a cluster that answer at once.

Only the model is missing: tokenizer, plans, requests, answers and what travels between driver and workers have their
real sizes. TILTMETER_SHARED names the folder that holds the tokenizer.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from tiltmeter.backends.base import Identity
from tiltmeter.distributed.remote import Worker
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.runs.loading import Loader
from tiltmeter.runs.progress import Silent
from tiltmeter.schema import RunRecord
from tiltmeter.scoring import plan as planning
from tiltmeter.scoring.engine import Stats
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.reference import text_of
from tiltmeter.scoring.requests import Generation, GenerationAnswer, OptionAnswer, OptionProbs, SequenceAnswer
from tiltmeter.scoring.trees.prefix_tree import common_prefix
from tiltmeter.study import Study

TEMPLATE = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}[assistant]"


@cache
def tokenizer() -> Any:
    """Llama-2's, with a chat template."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(Path(os.environ["TILTMETER_SHARED"]) / "tokenizers" / "llama2")
    found.chat_template = TEMPLATE
    return found


class Counting:
    """An engine that answers from hashes and counts what prefix trees would compute."""

    def __init__(self, tokenizer: Any, batch_tokens: int) -> None:
        self._tokenizer, self._budget = tokenizer, batch_tokens
        self.stats, self.seconds = Stats(), 0.0
        self.notes: list[Any] = []
        self.outcomes: dict[str, Any] = {}  # it tests nothing
        self.rows = 1

    def plan(self, requests: Iterable[Any], salt: str = "") -> list[list[int]]:
        kinds: list[type] = []

        def ids() -> Iterable[list[int]]:
            for request in requests:
                kinds.append(type(request))
                yield encode(self._tokenizer, text_of(request))

        with planning.tokens_on_disk(ids()) as tokens:
            return planning.plan(kinds, tokens, self._budget, salt)

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        started = time.process_time()
        tokens = [encode(self._tokenizer, text_of(request)) for request in requests]
        before: list[int] = []
        for ids in sorted(tokens):
            self.stats.tokens_computed += len(ids) - common_prefix(before, ids)
            before = ids
        found: list[Any] = []
        for request, ids in zip(requests, tokens, strict=True):
            digest = hashlib.sha256(repr(request).encode()).digest()
            nats = -1 - digest[0] / 64
            self.stats.tokens_asked += len(ids)
            if isinstance(request, Generation):
                self.stats.tokens_computed += request.max_new_tokens
                self.stats.tokens_asked += request.max_new_tokens
                words = ("I agree", "I disagree", "Yes", "No", "12")[digest[1] % 5]
                found.append(GenerationAnswer(words, words, request.max_new_tokens, "length"))
            elif isinstance(request, OptionProbs):
                rows = [[nats - place - form for form in range(len(f))] for place, f in enumerate(request.options)]
                found.append(OptionAnswer(tuple(map(tuple, rows)), len(ids)))
            else:
                found.append(SequenceAnswer(nats * len(ids), len(ids)))
        self.seconds += time.process_time() - started  # a worker's, not the driver's
        return found


class Absent:
    """A backend without models; the engines that it gave out are kept."""

    engines: ClassVar[list[Counting]] = []

    def identity(self, source: str) -> Identity:
        return Identity(tokenizer(), hashlib.sha256(source.encode()).hexdigest(), "float32")

    def load(self, spec: Any) -> LoadedVariant:
        proof = {"summary": "simulated", "probe_logprobs": [0.0]}
        weights = self.identity(spec.source).weight_hash
        none: Any = None
        return LoadedVariant(
            spec.model, spec.strategy, none, tokenizer(), "cpu", "float32", frozenset([2]), 4096, weights, proof=proof
        )

    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Counting:
        self.engines.append(Counting(tokenizer(), batch_tokens))
        return self.engines[-1]

    def release(self, variant: LoadedVariant) -> None:
        pass


class Everywhere(Loader):
    """Takes every source for a model that is absent."""

    def _backend(self, source: str) -> Any:
        return Absent()


class AbsentWorker(Worker):
    """A worker of a cluster whose models are absent."""

    def __init__(self, study: Study, threads: int, folder: str) -> None:
        super().__init__(study, threads, folder)
        self.loader = Everywhere(study, RunRecord(), None, Silent())
