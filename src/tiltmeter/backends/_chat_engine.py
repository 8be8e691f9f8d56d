"""Our requests, asked of a chat server: texts written, options read at the first token of its answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tiltmeter.backends._answers import Completion
from tiltmeter.backends._chat import NO_SEQUENCES, Chat
from tiltmeter.backends._http import REFUSALS, HttpStatus, Session, together
from tiltmeter.backends._lm_eval import SAMPLES_ITSELF, SEEDS
from tiltmeter.backends._options import of_listed
from tiltmeter.messages import Text, say
from tiltmeter.scoring import turns
from tiltmeter.scoring.engine import Stats
from tiltmeter.scoring.requests import (
    NO_TEXT,
    Answer,
    Generation,
    GenerationAnswer,
    OptionProbs,
    Request,
    failed,
)

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.scoring.remembered import Outcome

BATCH = 32  # requests between two commits: what an interruption costs at most


class ChatEngine:
    """Many requests at a time. One refused request is unscored; a server that breaks ends the cell.

    Args:
        obstacles: request class -> why no such request can be answered; these are not asked.
        at_once: requests on the way at any time.
        waiting: gets a line while the server is silent.

    Attributes: as `backends.base.Answering` says; `stats` counts the tokens that the server counts.
    """

    def __init__(
        self,
        variant: LoadedVariant,
        chat: Chat,
        *,
        obstacles: Mapping[type, Text],
        at_once: int,
        waiting: Callable[[str], None],
    ) -> None:
        self.variant, self.chat, self.obstacles = variant, chat, dict(obstacles)
        self.stats = Stats()
        self.outcomes: dict[str, Outcome] = {}  # it tests nothing itself
        self.notes: list[Text] = [note for note in variant.notes if getattr(note, "key", "") != "served.served_note"]
        self._at_once, self._waiting = at_once, waiting

    def plan(self, requests: Iterable[Request], salt: str = "") -> list[list[int]]:
        """Batches of numbers of `requests`, in their order."""
        count = sum(1 for _ in requests)
        return [list(range(start, min(start + BATCH, count))) for start in range(0, count, BATCH)]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to one batch, in its order. Raises BackendFailed for a server that broke."""
        started = time.perf_counter()
        answers: dict[int, Answer] = {}
        asked: list[tuple[int, Any, turns.Turns]] = []
        for place, request in enumerate(requests):
            obstacle = self.obstacles.get(type(request))
            if obstacle or not isinstance(request, (OptionProbs, Generation)):
                answers[place] = failed(request, obstacle or NO_SEQUENCES)
                continue
            said = turns.from_text(request.prompt)
            if said is None:
                answers[place] = failed(request, NO_TEXT)
            else:
                asked.append((place, request, said))
        found = together([self._ask(request, said) for _, request, said in asked], self._at_once, self._waiting)
        for (place, request, _), heard in zip(asked, found, strict=True):
            answers[place] = self._heard(request, heard)
        self.stats.seconds += time.perf_counter() - started
        return [answers[place] for place in range(len(requests))]

    def _ask(self, request: OptionProbs | Generation, said: turns.Turns) -> Callable[[Session], Any]:
        async def asked(session: Session) -> Completion | Text:
            messages, settings = self.chat.begun(said.messages, said.prefix)
            try:
                if isinstance(request, OptionProbs):
                    return await self.chat.first(session, messages, self.chat.listed, **settings)
                if request.temperature:
                    settings = settings | {"top_p": request.top_p, "seed": request.seed % SEEDS}
                return await self.chat.answer(
                    session,
                    messages,
                    max_tokens=request.max_new_tokens,
                    temperature=request.temperature,
                    **settings,
                )
            except HttpStatus as error:
                if error.status in REFUSALS:
                    return say("served.refused", status=error.status)
                raise

        return asked

    def _heard(self, request: OptionProbs | Generation, found: Completion | Text) -> Answer:
        if not isinstance(found, Completion):
            return failed(request, found)
        read, new = found.prompt_tokens or 0, found.new_tokens or 0
        self.stats.tokens_asked += read + new
        self.stats.tokens_computed += read + new
        if isinstance(request, Generation):
            if request.temperature and SAMPLES_ITSELF not in self.notes:
                self.notes.append(SAMPLES_ITSELF)
            return self._text(found)
        if not found.spelled:
            return failed(request, say("served.no_tops"), read)
        rest = max(0.0, 1.0 - sum(map(math.exp, found.spelled.values())))
        bound = min(rest, math.exp(min(found.spelled.values())))
        values = tuple(tuple(found.spelled.get(form) for form in option) for option in request.options)
        unknown = tuple(tuple(value is None for value in option) for option in values)
        answer, note = of_listed(request, values, unknown, read, len(found.spelled), bound)
        if note and note not in self.notes:
            self.notes.append(note)
        return answer

    def _text(self, found: Completion) -> Answer:
        """The server's own text; the base's end token is put back where it says that the answer ended."""
        stopped = "eos" if found.finished == "stop" else "length"
        tokenizer = self.variant.tokenizer
        end = getattr(tokenizer, "eos_token", None) or ""
        text = found.text + (end if stopped == "eos" else "")
        return GenerationAnswer(text, found.text, found.new_tokens or 0, stopped)
