"""The engine that asks a completions server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tiltmeter.backends._answers import Completion
from tiltmeter.backends._asking import BATCHES, OWN_DEFAULTS, TEXT_ONLY, UNVERIFIED, Waiting
from tiltmeter.backends._completions import Completions, NextToken, miscounted
from tiltmeter.backends._dialect import SILENT
from tiltmeter.backends._http import REFUSALS, Ask, HttpStatus, Session, together
from tiltmeter.backends._lm_eval import SEEDS, LmEvalEngine, Pair, Refused
from tiltmeter.backends._options import of_listed
from tiltmeter.messages import say
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import (
    Answer,
    Generation,
    GenerationAnswer,
    OptionProbs,
    failed,
)

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

ANSWERS = {note.key for note in (TEXT_ONLY, OWN_DEFAULTS, BATCHES, UNVERIFIED)} | {SILENT}  # of every answer

T = TypeVar("T")


class ServedEngine(LmEvalEngine):
    """Asks a server many things at once. One refused request is unscored; a server that breaks ends the cell.

    Args:
        at_once: requests on the way at any time.
        waiting: gets a line while the server is silent.
    """

    lm: Completions

    def __init__(
        self, variant: LoadedVariant, lm: Completions, *, at_once: int, waiting: Waiting, **settings: Any
    ) -> None:
        super().__init__(variant, lm, **settings)
        self.notes += [note for note in variant.notes if getattr(note, "key", None) in ANSWERS]
        self._at_once, self._waiting = at_once, waiting
        self._first_space_lost = _drops_first_space(variant.tokenizer)

    def logprobs(self, pairs: Sequence[Pair]) -> list[float | Refused]:
        """Without `_loglikelihood_tokens`, which asks the same but would stop at the first refusal."""

        def ask(pair: Pair) -> Ask[float | Refused]:
            return _unless_refused(lambda session: self.lm.logprob(session, *pair))

        return together(list(map(ask, pairs)), self._at_once, self._waiting)

    def _options(self, requests: list[OptionProbs], tokens: list[list[int]]) -> list[Answer]:
        """One request per question where the server lists the likeliest next tokens with their ids."""
        if not (self.lm.tops or self.lm.by_id):
            return super()._options(requests, tokens)

        def ask(request: OptionProbs, prompt: list[int]) -> Ask[NextToken | Refused]:
            forms = self._forms.ids(request)
            ids = [token for option in forms for token in option if token is not None]
            needed = [option[0] for option in forms if option[0] is not None]
            return _unless_refused(lambda session: self.lm.after(session, prompt, ids, needed))

        self.stats.tokens_computed += sum(len(prompt) + 1 for prompt in tokens)
        found = together(list(map(ask, requests, tokens)), self._at_once, self._waiting)
        return list(map(self._option_answer, requests, map(len, tokens), found))

    def _option_answer(self, request: OptionProbs, n_tokens: int, found: NextToken | Refused) -> Answer:
        if isinstance(found, Refused):
            return failed(request, found.reason, n_tokens)
        left = iter(found.logprobs)
        ids = self._forms.ids(request)
        values = [[None if token is None else next(left) for token in option] for option in ids]
        unknown = [
            [token is not None and value is None for token, value in zip(*option, strict=True)]
            for option in zip(ids, values, strict=True)
        ]
        answer, note = of_listed(request, values, unknown, n_tokens, found.listed, found.bound)
        if note:
            self._note(note)
        return answer

    def write(self, prompts: Sequence[list[int]], requests: Sequence[Generation]) -> list[Answer]:
        def ask(prompt: list[int], request: Generation) -> Ask[Completion | Refused]:
            return _unless_refused(
                lambda session: self.lm.complete(
                    session,
                    prompt,
                    max_tokens=request.max_new_tokens,
                    temperature=request.temperature,
                    top_p=request.top_p,
                    seed=request.seed % SEEDS,
                )
            )

        found = together(list(map(ask, prompts, requests)), self._at_once, self._waiting)
        return list(map(self._written, prompts, requests, found))

    def _written(self, prompt: list[int], request: Generation, found: Completion | Refused) -> Answer:
        if isinstance(found, Refused):
            return failed(request, found.reason)
        problem = miscounted(found, len(prompt))
        if problem:
            return failed(request, problem)
        if found.ids is not None:
            ends = (place + 1 for place, token in enumerate(found.ids) if token in self.variant.eos_ids)
            answer = reference.generation_answer(self.variant, request, found.ids[: next(ends, None)])
            if isinstance(answer, GenerationAnswer) and found.finished == "stop":  # perhaps at an end token of its own
                return replace(answer, stopped="eos")
            return answer
        return self._from_text(found)

    def _from_text(self, found: Completion) -> Answer:
        """The answer of a server that returns no ids: its own text, the end token put back where it stopped there."""
        stopped = "eos" if found.finished == "stop" else "length"
        clean = found.text.removeprefix(" ") if self._first_space_lost else found.text
        tokenizer = self.variant.tokenizer
        end = (
            tokenizer.eos_token_id
            if tokenizer.eos_token_id in self.variant.eos_ids
            else min(self.variant.eos_ids, default=None)
        )
        text = clean + (str(tokenizer.decode([end])) if stopped == "eos" and end is not None else "")
        counted = found.new_tokens
        if counted is None:
            counted = len(tokenizer(clean, add_special_tokens=False)["input_ids"]) + (stopped == "eos")
        return GenerationAnswer(text, clean, counted, stopped)


def _unless_refused(ask: Ask[T]) -> Ask[T | Refused]:
    async def asked(session: Session) -> T | Refused:
        try:
            return await ask(session)
        except HttpStatus as error:
            if error.status in REFUSALS:
                return Refused(say("served.refused", status=error.status))
            raise

    return asked


def _drops_first_space(tokenizer: Any) -> bool:
    """Whether our tokenizer decodes new ids without the space they begin with, as sentencepiece's kind does."""
    last = tokenizer("a a", add_special_tokens=False)["input_ids"][-1:]
    return not str(tokenizer.decode(last)).startswith(" ")
