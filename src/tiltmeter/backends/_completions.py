"""One model of an OpenAI-compatible completions server, spoken to through lm-evaluation-harness' ``local-completions``.

lm-eval builds the payload; `_http` carries it, repeats it where that may help, and bounds what comes back; `_answers`
reads it: how many tokens the server saw, which ones, who answered, and why it stopped.

The base's end tokens and the wish for token ids, which our own tokenizer then decodes, go with every request that
generates, and whatever else `_dialect` finds that the server acts on.

The key is read from OPENAI_API_KEY; it is sent and otherwise goes nowhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lm_eval.models.openai_completions import LocalCompletionsAPI

from tiltmeter.backends._answers import Completion, read_completion
from tiltmeter.backends._http import LISTED_S, HttpStatus, Nonsense, Session, Unreachable, get, key_header, post
from tiltmeter.backends.base import BackendFailed
from tiltmeter.messages import Message, Text

ANSWER_S, TOKEN_S = 120.0, 2.0  # seconds that an answer may take, and more for every token that it may write
IDS = {"return_token_ids": True, "return_tokens_as_token_ids": True}  # two wishes of vLLM's interface for ids


@dataclass(frozen=True)
class NextToken:
    """What a server says of some ids as the next token.

    Attributes:
        logprobs: nats, per id that was asked for; None: not among the likeliest that the server gives.
        bound: probability that each of those has at most.
        listed: how many of the likeliest tokens were given.
    """

    logprobs: list[float | None]
    bound: float
    listed: int


class Completions(LocalCompletionsAPI):
    """lm-eval's `local-completions` for token-id prompts; its coroutines take the session that `_http.together` gives.

    Args:
        address: the server's address up to and with /v1.
        name: the served model; `also` are names under which it may answer, too.
        eos_ids: ids that end a generation.
        attempts: how often a request is sent before it has failed.
        seconds: for one attempt, before the tokens that it may write are added.

    Attributes, set by what `_asking.probe` finds:
        extras: settings beyond OpenAI's that go with every generation.
        tops: how many of the likeliest next tokens the server gives with ids, ascending; empty: none.
        by_id: whether it gives the next-token log-probabilities of ids that it is asked for (vLLM).
        echoes: whether it gives the log-probabilities of a prompt.
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
        self.extras: dict[str, object] = {"stop_token_ids": list(eos_ids), **IDS}
        self.tops: tuple[int, ...] = ()
        self.by_id = self.echoes = False
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
            return {**self.extras, **payload}
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

    async def top(
        self,
        session: Session,
        prompt: Sequence[int],
        n: int,
        ids: Sequence[int] | None = None,
        attempts: int | None = None,
    ) -> Completion:
        """The `n` likeliest next tokens, or those of `ids`, before any sampling setting. Raises as `complete` does.

        Greedy: a token drawn from elsewhere would stand among the likeliest in some servers' answers.
        """
        settings: dict[str, object] = {"max_tokens": 1, "temperature": 0.0, "logprobs": n}
        if ids is not None:
            settings["logprob_token_ids"] = list(ids)
        return await self._asked(session, prompt, attempts, generate=True, gen_kwargs=settings)

    async def after(
        self, session: Session, prompt: Sequence[int], ids: Sequence[int], needed: Sequence[int]
    ) -> NextToken:
        """Log-probabilities of `ids` after a prompt, from one request where its list holds every one of them.

        A longer list is asked for where one of `needed` is missing; then, where the server scores prompts, each of
        those that are still missing, which costs a request of its own. Raises BackendFailed as `logprob` does.
        """
        listed: dict[int, float] = {}
        if self.by_id:
            listed = await self._top(session, prompt, 1, ids)
        elif not self.tops:
            return NextToken([await self.logprob(session, prompt, [token]) for token in ids], 0.0, 0)
        else:
            for n in self.tops:
                listed = await self._top(session, prompt, n)
                if all(token in listed for token in needed):
                    break
        values: list[float | None] = [listed.get(token) for token in ids]
        if self.echoes:
            values = [
                await self.logprob(session, prompt, [token]) if value is None else value
                for token, value in zip(ids, values, strict=True)
            ]
        rest = max(0.0, 1.0 - sum(map(math.exp, listed.values())))
        return NextToken(values, min(rest, math.exp(min(listed.values()))), len(listed))

    async def _top(
        self, session: Session, prompt: Sequence[int], n: int, ids: Sequence[int] | None = None
    ) -> dict[int, float]:
        found = await self.top(session, prompt, n, ids)
        problem = miscounted(found, len(prompt))
        if problem or not found.top:
            raise BackendFailed(problem or NO_TOPS)
        return found.top

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


NO_ECHO = Message("served.no_echo")
NO_TOPS = Message("served.no_tops")
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


async def is_chat_only(session: Session, address: str, name: str) -> bool:
    """Whether the server has no completions page. Raises BackendFailed when it cannot be reached."""
    try:
        await post(session, f"{address}/completions", {"model": name, "prompt": [[0]], "max_tokens": 1}, ANSWER_S, 1)
    except HttpStatus as error:
        return error.status in (404, 405, 501)
    except Nonsense:
        return False
    return False


async def _listed(session: Session, address: str) -> Any:
    return await get(session, f"{address}/models", LISTED_S)
