"""What a completions server can answer, and the engine that asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from tiltmeter.backends._completions import NO_ECHO, Completion, Completions, miscounted
from tiltmeter.backends._http import Ask, HttpStatus, Session, together
from tiltmeter.backends._lm_eval import SEEDS, LmEvalEngine, Pair, Refused
from tiltmeter.messages import Message, Text, say
from tiltmeter.models.probes import TEXTS
from tiltmeter.scoring import reference
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.requests import Answer, Generation, GenerationAnswer, OptionProbs, SequenceLogprob, failed

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

OTHER_VOCABULARY = Message("served.other_vocabulary")
TEXT_ONLY = Message("served.text_only")
OWN_DEFAULTS = Message("served.own_defaults")
BATCHES = Message("served.server_batches")
UNVERIFIED = Message("served.unverified")
ANSWERS = (TEXT_ONLY, OWN_DEFAULTS, BATCHES, UNVERIFIED)  # notes that concern every answer
REFUSALS = (400, 413, 422)  # statuses that concern one request, or one parameter

Waiting = Callable[[str], None]
T = TypeVar("T")


def probe(lm: Completions, tokenizer: Any, waiting: Waiting) -> tuple[dict[type, Text], list[Text]]:
    """(request class -> why it cannot be answered, notes for the run), from two small requests.

    Raises HttpStatus for a server that refuses every request, BackendFailed for one that cannot be reached.
    """
    ids = encode(tokenizer, TEXTS[0])
    obstacles: dict[type, Text] = {}
    notes: list[Text] = [BATCHES]
    scoring, reading = _scores(lm, tokenizer, ids, waiting)
    if scoring:
        obstacles |= {SequenceLogprob: scoring, OptionProbs: scoring}
    found, writing = _writes(lm, ids, notes, waiting)
    problem = reading or (miscounted(found, len(ids)) if found else None)
    if problem:
        return dict.fromkeys((SequenceLogprob, OptionProbs, Generation), problem), notes
    if writing:
        obstacles[Generation] = writing
    if scoring:
        notes.append(UNVERIFIED)
    if found and found.ids is None:
        notes.append(TEXT_ONLY)
    return obstacles, notes


def _scores(lm: Completions, tokenizer: Any, ids: list[int], waiting: Waiting) -> tuple[Text | None, Text | None]:
    """(why the server cannot score a prompt, why it reads another prompt than it is sent)."""
    try:
        [found] = together([lambda session: lm.echo(session, ids, attempts=1)], waiting=waiting)
    except HttpStatus as error:
        if error.status not in REFUSALS:
            raise
        return say("served.no_echo_status", status=error.status), None
    misread = miscounted(found, len(ids))
    if misread:
        return None, misread
    if len(found.logprobs) < len(ids):
        return NO_ECHO, None
    if len(found.echoed) >= len(ids) and not same_words(tokenizer, ids, found.echoed):
        return None, OTHER_VOCABULARY
    return None, None


def _writes(
    lm: Completions, ids: list[int], notes: list[Text], waiting: Waiting
) -> tuple[Completion | None, Text | None]:
    """(a short answer, or None; why the server writes none). Leaves out the extra settings that it refuses."""
    for extras in (lm.extras, {}):
        lm.extras = extras
        try:
            [found] = together(
                [lambda session: lm.complete(session, ids, attempts=1, max_tokens=2, temperature=0.0)], waiting=waiting
            )
        except HttpStatus as error:
            if error.status not in REFUSALS:
                raise
            refused = say("served.no_ids", status=error.status)
            continue
        if not extras:
            notes.append(OWN_DEFAULTS)
        return found, None
    return None, refused


def same_words(tokenizer: Any, ids: Sequence[int], echoed: Sequence[str]) -> bool:
    """Whether most tokens are ours; servers spell spaces, bytes and special tokens in their own ways, or write ids."""

    def plain(text: str) -> str:
        return text.replace("▁", " ").replace("Ġ", " ").strip()

    same = [
        word == f"token_id:{token}" or plain(word) == plain(tokenizer.decode([token]))
        for token, word in zip(ids[1:], echoed[1:])
    ]
    return sum(same) >= len(same) / 2


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
        self.notes += [note for note in variant.notes if note in ANSWERS]
        self._at_once, self._waiting = at_once, waiting
        self._first_space_lost = _drops_first_space(variant.tokenizer)

    def logprobs(self, pairs: Sequence[Pair]) -> list[float | Refused]:
        """Without `_loglikelihood_tokens`, which asks the same but would stop at the first refusal."""

        def ask(pair: Pair) -> Ask[float | Refused]:
            return _unless_refused(lambda session: self.lm.logprob(session, *pair))

        return together(list(map(ask, pairs)), self._at_once, self._waiting)

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
            answer = reference.generation_answer(self.variant, request, found.ids)
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
