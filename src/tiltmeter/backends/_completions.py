"""One model of an OpenAI-compatible completions server, spoken to through lm-evaluation-harness' ``local-completions``.

lm-eval builds the payload; `_http` carries it, repeats it where that may help, and bounds what comes back. Answers are
read strictly: how many tokens the server saw, which ones, who answered, and why it stopped. An answer that is none
(counts that are words, log-probabilities above 0, another model's name) ends the cell with its reason.

Settings that are no part of OpenAI's interface but that vLLM, SGLang and llama.cpp's server know are sent where the
server takes them: no top-k, min-p or repetition penalty of the served model's own, the base's end tokens, and the wish
for the new token ids, which our own tokenizer then decodes.

The key is read from OPENAI_API_KEY; it is sent and otherwise goes nowhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lm_eval.models.openai_completions import LocalCompletionsAPI

from tiltmeter.backends._http import LISTED_S, HttpStatus, Nonsense, Session, Unreachable, get, key_header, post
from tiltmeter.backends.base import BackendFailed
from tiltmeter.messages import Message, Text
from tiltmeter.printed import whole

PLAIN_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # none of the served model's own defaults
ANSWER_S, TOKEN_S = 120.0, 2.0  # seconds that an answer may take, and more for every token that it may write
ROUNDING = 1e-3  # nats by which a log-probability may lie above 0
COUNT = 2**31  # token ids and counts are below
LONGEST_TOKEN = 512  # characters; a text longer than its tokens allow was not written by this model


@dataclass
class Completion:
    """One choice of a completions answer, checked.

    Attributes:
        text: what was written, without special tokens.
        ids: the new token ids; None where the server does not return them.
        finished: the server's own word ("stop", "length").
        prompt_tokens, new_tokens: as the server counts them; None where it does not.
        echoed: strings of the tokens that were scored, the prompt's first, as far as there are any.
        logprobs: theirs, in nats; None for a text's first.
    """

    text: str
    ids: list[int] | None
    finished: str | None
    prompt_tokens: int | None
    new_tokens: int | None
    echoed: list[str] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)


class Completions(LocalCompletionsAPI):
    """lm-eval's `local-completions` for token-id prompts; its coroutines take the session that `_http.together` gives.

    Args:
        address: the server's address up to and with /v1.
        name: the served model; `also` are names under which it may answer, too.
        eos_ids: ids that end a generation.
        attempts: how often a request is sent before it has failed.
        seconds: for one attempt, before the tokens that it may write are added.
    """

    def __init__(
        self,
        address: str,
        name: str,
        eos_ids: Sequence[int],
        *,
        also: Sequence[str] = (),
        attempts: int = 3,
        seconds: float = ANSWER_S,
    ) -> None:
        # its log lines repeat the server's answers, and an exception's repr the key
        logging.getLogger("lm_eval.models.api_models").setLevel(logging.CRITICAL + 1)
        super().__init__(
            base_url=f"{address}/completions",
            model=name,
            tokenizer_backend=None,
            max_length=2**31,
            max_retries=attempts,
        )
        self.tokenized_requests = True  # ids made by our own tokenizer
        self.address, self.names, self.seconds = address, {name, *also}, seconds
        self.extras: dict[str, Any] = {**PLAIN_SAMPLING, "stop_token_ids": list(eos_ids), "return_token_ids": True}
        self.gone: str | None = None  # why the last request got no answer

    @cached_property
    def header(self) -> dict[str, str]:
        return key_header()

    def _create_payload(
        self, messages: Any, generate: bool = False, gen_kwargs: dict[str, Any] | None = None, **settings: Any
    ) -> dict[str, Any]:
        payload: dict[str, Any] = super()._create_payload(messages, generate, gen_kwargs, **settings)
        if generate:
            payload.pop("stop")  # generation ends at end tokens, never at a string
            payload.update(self.extras)
        return payload

    async def complete(
        self, session: Session, prompt: Sequence[int], attempts: int | None = None, **settings: Any
    ) -> Completion:
        """What the server writes after a prompt. Raises HttpStatus, or BackendFailed when it cannot be reached."""
        return await self._asked(session, prompt, attempts, generate=True, gen_kwargs=settings)

    async def echo(self, session: Session, prompt: Sequence[int], attempts: int | None = None) -> Completion:
        """The prompt's own log-probabilities. Raises as `complete` does."""
        return await self._asked(session, prompt, attempts, generate=False)

    async def logprob(self, session: Session, before: Sequence[int], after: Sequence[int]) -> float:
        """Summed log-probability (nats) of `after`, given `before`; NaN where the server gives none for a token.

        Raises BackendFailed when the server saw another number of tokens than it was sent.
        """
        ids = [*before, *after]
        found = await self.echo(session, ids)
        problem = miscounted(found, len(ids)) or (None if len(found.logprobs) >= len(ids) else NO_ECHO)
        if problem:
            raise BackendFailed(problem)
        scored = found.logprobs[len(before) : len(ids)]
        return sum(float("nan") if value is None else float(value) for value in scored)

    async def _asked(self, session: Session, prompt: Sequence[int], attempts: int | None, **call: Any) -> Completion:
        payload = self._create_payload(
            self.create_message([list(prompt)]), seed=self._seed, eos=self.eos_string, **call
        )
        allowed = int(payload["max_tokens"])
        if self.gone:  # one short question instead of a long wait, cell after cell
            await _listed(session, self.address)
            self.gone = None
        try:
            body = await post(
                session, self.base_url, payload, self.seconds + TOKEN_S * allowed, attempts or self.max_retries
            )
        except Unreachable as error:
            self.gone = str(error)
            raise
        return read_completion(body, self.address, self.names, allowed)


_DATED = re.compile(r"-\d{4}(-?\d\d-?\d\d)?$")  # OpenAI answers "gpt-…-0914" for "gpt-…"
NO_ECHO = Message("served.no_echo")
ADDS_TOKENS = Message("served.adds_tokens")


def miscounted(found: Completion, sent: int) -> Text | None:
    """Why an answer belongs to another prompt than the one of `sent` ids, by the server's own counts, or None."""
    echoed = len(found.logprobs) or sent
    if found.prompt_tokens is not None and found.prompt_tokens != sent:
        longer = found.prompt_tokens > sent
    elif echoed > sent + 1:  # one more is the token that it had to write
        longer = True
    else:
        return None
    return ADDS_TOKENS if longer else Message("served.drops_tokens")


async def served(session: Session, address: str) -> list[dict[str, Any]] | None:
    """What the server's /models lists; None when it has no such page. Raises HttpStatus or BackendFailed."""
    try:
        body = await _listed(session, address)
    except HttpStatus as error:
        if error.status in (404, 405, 501):
            return None
        raise
    entries = body.get("data") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        return None
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]]


async def _listed(session: Session, address: str) -> Any:
    return await get(session, f"{address}/models", LISTED_S)


def read_completion(body: Any, where: str, names: set[str], allowed: int) -> Completion:
    """What a server's JSON says, where `allowed` tokens were asked for. Raises Nonsense for what cannot be believed."""
    try:
        return _completion(body, names, allowed)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Nonsense(f"{where} answered with no completion") from None
    except ValueError as error:
        raise Nonsense(f"{where} cannot be believed: {error}") from None


def _completion(body: Any, names: set[str], allowed: int) -> Completion:
    """The first choice of an answer. Raises ValueError with what is wrong, KeyError and its like for no completion."""
    choice, usage = body["choices"][0], body.get("usage") or {}
    scored = choice.get("logprobs") or {}
    answered = body.get("model")
    if isinstance(answered, str) and not any(_DATED.sub("", answered) == name or answered == name for name in names):
        raise ValueError(f"another model answered: {whole(answered)[:100]!r} instead of {min(names)!r}")
    text, finished, ids = choice.get("text") or "", choice.get("finish_reason"), choice.get("token_ids")
    if not isinstance(text, str) or not (finished is None or isinstance(finished, str)):
        raise ValueError("its text is none")
    if not scored and len(text) > LONGEST_TOKEN * (allowed + 1):
        raise ValueError(f"a text of {len(text):,} characters where {allowed} tokens were asked for")
    if ids is not None:
        ids = [_count(token, "a token id") for token in ids]
        if len(ids) > allowed + 1:
            raise ValueError(f"{len(ids):,} new tokens where {allowed} were asked for")
    return Completion(
        text=whole(text),
        ids=ids,
        finished=finished,
        prompt_tokens=_count_or_none(usage.get("prompt_tokens"), "the number of prompt tokens"),
        new_tokens=_count_or_none(usage.get("completion_tokens"), "the number of new tokens"),
        echoed=[whole(token) for token in scored.get("tokens") or [] if isinstance(token, str)],
        logprobs=[_logprob(value) for value in scored.get("token_logprobs") or []],
    )


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < COUNT:
        raise ValueError(f"{what} is {str(value)[:40]!r}")
    return value


def _count_or_none(value: Any, what: str) -> int | None:
    return None if value is None else _count(value, what)


def _logprob(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -COUNT < value <= ROUNDING:
        raise ValueError(f"a log-probability is {str(value)[:40]}")
    return float(value)
