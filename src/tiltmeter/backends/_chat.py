"""One model of an OpenAI-compatible chat server: messages in, its own template over them, text and first tokens out.

What a hosted API offers: no prompt of token ids, no log-probabilities of a prompt. So no whole texts are scored, the
template is the server's, and options are read at the first token of its answer, by the text that tokens write, among
the likeliest that it gives.

An answer can be begun for the model where the server goes on after a last assistant turn: some always do (llama.cpp's),
some when asked to (vLLM, SGLang). Whether one does is seen from the number of prompt tokens that it counts: to close a
turn and to open the next takes several, "a" takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiltmeter.backends._answers import Completion, read_completion
from tiltmeter.backends._completions import ANSWER_S, TOKEN_S
from tiltmeter.backends._dialect import Try, Wrote, acted_on
from tiltmeter.backends._http import REFUSALS, HttpStatus, Session, post, together
from tiltmeter.messages import Message, Text, say
from tiltmeter.models.probes import TEXTS
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob

ATTEMPTS = 3
LISTED = (1000, 100, 20, 5)  # how many of the likeliest first tokens are asked for; the first number not refused
CONTINUE: tuple[dict[str, Any], ...] = ({"continue_final_message": True, "add_generation_prompt": False}, {})
ONE_MORE = 2  # prompt tokens, at most, that the turn "a" adds where it is left open

NO_SEQUENCES = Message("served.chat_no_sequences")
NO_FIRST_TOKENS = Message("served.chat_no_first_tokens")
NO_PREFIX = Message("served.chat_no_prefix")
OWN_TEMPLATE = Message("served.chat_own_template")

Turn = tuple[str, str]  # role, text


class Chat:
    """Coroutines take the session that `_http.together` gives.

    Args:
        address: the server's address up to and with /v1.
        name: the served model; `also` are names under which it may answer, too.

    Attributes, set by `probe`:
        extras: settings beyond OpenAI's that go with every request.
        listed: how many of the likeliest first tokens the server gives; 0: none.
        goes_on: settings under which it goes on after a last assistant turn; None: it does not.
    """

    def __init__(self, address: str, name: str, also: Sequence[str] = ()) -> None:
        self.address, self.name, self.names = address, name, {name, *also}
        self.extras: dict[str, Any] = {}
        self.listed = 0
        self.goes_on: dict[str, Any] | None = None

    async def answer(
        self, session: Session, messages: Sequence[Turn], attempts: int = ATTEMPTS, *, max_tokens: int, **settings: Any
    ) -> Completion:
        """What the server answers. Raises HttpStatus, or BackendFailed when it cannot be reached or believed."""
        payload = {
            **self.extras,
            "model": self.name,
            "messages": [{"role": role, "content": text} for role, text in messages],
            "max_tokens": max_tokens,
            **settings,
        }
        url, seconds = f"{self.address}/chat/completions", ANSWER_S + TOKEN_S * max_tokens
        return read_completion(
            await post(session, url, payload, seconds, attempts), self.address, self.names, max_tokens
        )

    async def first(
        self, session: Session, messages: Sequence[Turn], n: int, attempts: int = ATTEMPTS, **settings: Any
    ) -> Completion:
        """The `n` likeliest first tokens of an answer, before any sampling setting."""
        settings |= {"temperature": 0.0, "logprobs": True, "top_logprobs": n}
        return await self.answer(session, messages, attempts, max_tokens=1, **settings)

    def begun(self, messages: Sequence[Turn], prefix: str) -> tuple[list[Turn], dict[str, Any]]:
        """(turns, settings) with the beginning of an answer where the server takes one; else without it."""
        if not prefix or self.goes_on is None:
            return list(messages), {}
        return [*messages, ("assistant", f" {prefix}")], self.goes_on


def probe(chat: Chat, waiting: Callable[[str], None]) -> tuple[dict[type, Text], list[Text]]:
    """(request class -> why it cannot be answered, notes for the run); `chat` is set up to ask what can be asked.

    Raises HttpStatus for a server that refuses every request, BackendFailed for one that cannot be reached.
    """
    user = [("user", TEXTS[2])]
    obstacles: dict[type, Text] = {SequenceLogprob: NO_SEQUENCES}
    notes: list[Text] = [Message("served.server_batches"), OWN_TEMPLATE]
    [plain] = together([lambda session: chat.answer(session, user, 1, max_tokens=1, temperature=0.0)], waiting=waiting)

    def tried(messages: Sequence[Turn], settings: Mapping[str, Any], n: int) -> Completion | None:
        try:
            [found] = together([lambda session: chat.first(session, messages, n, 1, **settings)], waiting=waiting)
        except HttpStatus as error:
            if error.status not in REFUSALS:
                raise
            return None
        return found

    for n in LISTED:
        found = tried(user, {}, n)
        if found is not None:
            chat.listed = n if found.spelled else 0
            break
    if not chat.listed:
        obstacles[OptionProbs] = NO_FIRST_TOKENS
    for settings in CONTINUE if plain.prompt_tokens is not None else ():
        found = _plainly(chat, [*user, ("assistant", "a")], settings, waiting)
        if found is not None and 0 < (found.prompt_tokens or 0) - (plain.prompt_tokens or 0) <= ONE_MORE:
            chat.goes_on = settings
            break
    if chat.goes_on is None and chat.listed:
        notes.append(NO_PREFIX)
    chat.extras, silent = acted_on(_wrote(chat), waiting)
    if silent:
        notes.append(say("served.silent", names=", ".join(silent)))
    assert Generation not in obstacles
    return obstacles, notes


def _plainly(
    chat: Chat, messages: Sequence[Turn], settings: Mapping[str, Any], waiting: Callable[[str], None]
) -> Completion | None:
    """One token after these turns; None where they, or the settings, are refused."""
    try:
        [found] = together(
            [lambda session: chat.answer(session, messages, 1, max_tokens=1, temperature=0.0, **settings)],
            waiting=waiting,
        )
    except HttpStatus as error:
        if error.status not in REFUSALS:
            raise
        return None
    return found


def _wrote(chat: Chat) -> Try:
    def wrote(before: str, settings: Mapping[str, Any]) -> Callable[[Session], Any]:
        async def ask(session: Session) -> Wrote:
            try:
                found = await chat.answer(session, [("user", before)], 1, max_tokens=8, **settings)
            except HttpStatus as error:
                if error.status in REFUSALS:
                    return None
                raise
            return found.text

        return ask

    return wrote
