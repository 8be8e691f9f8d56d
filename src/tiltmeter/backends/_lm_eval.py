"""Our three request kinds, answered by a model behind lm-evaluation-harness' `LM` interface.

Same meaning as `scoring/reference.py`: texts become ids by our own `encode` (one string, exactly one BOS), and the ids
themselves are handed over, so nothing is tokenized again and nothing is glued.

    SequenceLogprob   ``_loglikelihood_tokens``: all tokens but the first, given the first
    OptionProbs       ``_loglikelihood_tokens``: the prompt's ids, then one option id; one question per surface form
    Generation        `write`, which each backend states: `LM.generate_until` takes texts and returns texts, so ids, end
                      token and seed would be lost on the way

What no backend of this kind promises: sampling by our inverse CDF. Each samples with its own generator; a request's
seed makes its text repeatable there (as far as that backend is), but it is another text than the built-in engine's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import Message, Text
from tiltmeter.models.quiet import held_back
from tiltmeter.scoring import reference
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.requests import Answer, Generation, OptionProbs, Request, SequenceLogprob, failed

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

SAMPLES_ITSELF = Message("served.samples_itself")
SEEDS = 2**31  # engines and servers keep a request's seed in 32 bits

Pair = tuple[list[int], list[int]]  # ids before, ids to score


@dataclass(frozen=True)
class Refused:
    """Why a backend would not answer one request; others may be answered."""

    reason: Text


class LmEvalEngine(Engine):
    """The engine with an `lm_eval.api.model.LM` behind it instead of a model of its own.

    Args:
        lm: the model; `logprobs` asks its `_loglikelihood_tokens`.
        obstacles: request class -> why no such request can be answered; these are not asked.
    """

    sampling: ClassVar[Text] = SAMPLES_ITSELF  # the note of a run that samples

    def __init__(
        self, variant: LoadedVariant, lm: Any, *, batch_tokens: int, obstacles: Mapping[type, Text] | None = None
    ) -> None:
        super().__init__(variant, batch_tokens=batch_tokens)
        self.lm = lm
        self.obstacles = dict(obstacles or {})

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to one batch, in its order; requests of a kind that the backend cannot answer get its reason."""
        asked = [request for request in requests if type(request) not in self.obstacles]
        if any(isinstance(request, Generation) and request.temperature for request in asked):
            self._note(self.sampling)
        found = iter(super().answer(asked) if asked else [])
        return [
            failed(request, self.obstacles[type(request)]) if type(request) in self.obstacles else next(found)
            for request in requests
        ]

    def logprobs(self, pairs: Sequence[Pair]) -> list[float | Refused]:
        """Summed log-probability (nats) of each pair's second part after its first."""
        with held_back():  # progress bars
            found = self.lm._loglikelihood_tokens(
                [(None, list(before), list(after)) for before, after in pairs], disable_tqdm=True
            )
        return [float(value) for value, _ in found]

    @abstractmethod
    def write(self, prompts: Sequence[list[int]], requests: Sequence[Generation]) -> list[Answer]:
        """What the backend writes after each prompt's ids, under each request's own settings and seed."""

    def _sequences(self, requests: list[SequenceLogprob], tokens: list[list[int]]) -> list[Answer]:
        self.stats.tokens_computed += sum(map(len, tokens))
        found = self.logprobs([(ids[:1], ids[1:]) for ids in tokens])
        return [
            failed(request, value.reason)
            if isinstance(value, Refused)
            else reference.sequence_answer(request, len(ids), value)
            for request, ids, value in zip(requests, tokens, found, strict=True)
        ]

    def _options(self, requests: list[OptionProbs], tokens: list[list[int]]) -> list[Answer]:
        asked = [[i for ids in self._forms.ids(request) for i in ids if i is not None] for request in requests]
        pairs = [(prompt, [option]) for prompt, options in zip(tokens, asked, strict=True) for option in options]
        self.stats.tokens_computed += sum(len(prompt) + 1 for prompt, _ in pairs)
        found = iter(self.logprobs(pairs))
        answers = []
        for request, prompt, options in zip(requests, tokens, asked, strict=True):
            values = [next(found) for _ in options]
            refused = [value for value in values if isinstance(value, Refused)]
            logprobs = [value for value in values if not isinstance(value, Refused)]
            answers.append(
                failed(request, refused[0].reason, len(prompt))
                if refused
                else reference.option_answer(request, self._forms, len(prompt), logprobs)
            )
        return answers

    def _generations(self, requests: list[Generation], tokens: list[list[int]]) -> list[Answer]:
        answers = self.write(tokens, requests)
        self.stats.tokens_computed += sum(map(len, tokens)) + sum(answer.n_tokens for answer in answers)
        return answers

    def _note(self, text: Text) -> None:
        if text not in self.notes:
            self.notes.append(text)


def lm_class(name: str) -> Any:
    """The class that lm-evaluation-harness registers under `name`. Raises UserError when the library is missing."""
    try:
        with held_back():
            from lm_eval.api.registry import get_model

            return get_model(name)
    except ImportError as error:
        raise missing_extra(error.name or "lm_eval", "lm-eval", "this backend") from None


def made(cls: Any, needed_for: str, **settings: Any) -> Any:
    """An instance of an LM class. Raises UserError when the library behind it cannot start with these settings."""
    try:
        return cls(**settings)
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        why = (str(error).splitlines() or [""])[0][:200]
        raise UserError(f"{needed_for} cannot start: {type(error).__name__}: {why}") from error
