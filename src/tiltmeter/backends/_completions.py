"""One model of an OpenAI-compatible completions server, spoken to through lm-evaluation-harness' ``local-completions``.

lm-eval builds the payload and carries it; requests are repeated as it repeats them (`tenacity`, three attempts).
Answers are read more strictly than there: how many tokens the server saw, which ones, and why it stopped.

Settings that are no part of OpenAI's interface but that vLLM, SGLang and llama.cpp's server know are sent where the
server takes them: no top-k, min-p or repetition penalty of the served model's own, the base's end tokens, and the wish
for the new token ids, which our own tokenizer then decodes.

The key is read from OPENAI_API_KEY; it is sent and otherwise goes nowhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import requests
from lm_eval.models.openai_completions import LocalCompletionsAPI
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential

from tiltmeter.backends.base import BackendFailed

KEY = "OPENAI_API_KEY"
PLAIN_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # none of the served model's own defaults
BUSY = (408, 409, 425, 429)  # worth another attempt, like everything from 500 on


class HttpStatus(BackendFailed):
    """The server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"status {status}: {message}" if message else f"status {status}")
        self.status, self.message = status, message


@dataclass
class Completion:
    """One choice of a completions answer, checked for shape only.

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


def redacted(text: str) -> str:
    """The first line of what a server or library said, shortened, without the key."""
    key = os.environ.get(KEY, "").strip()
    lines = str(text).strip().splitlines() or [""]
    return (lines[0].replace(key, "***") if key else lines[0])[:200]


class Completions(LocalCompletionsAPI):
    """lm-eval's `local-completions` for token-id prompts.

    Args:
        address: the server's address up to and with /v1.
        name: the served model.
        eos_ids: ids that end a generation.
        attempts: how often a request is sent before it has failed.
        timeout: seconds for one attempt.
    """

    def __init__(
        self, address: str, name: str, eos_ids: Sequence[int], *, attempts: int = 3, timeout: int = 300
    ) -> None:
        # its log lines repeat the server's answers, and an exception's repr the key
        logging.getLogger("lm_eval.models.api_models").setLevel(logging.CRITICAL + 1)
        super().__init__(
            base_url=f"{address}/completions",
            model=name,
            tokenizer_backend=None,
            max_length=2**31,
            max_retries=attempts,
            timeout=timeout,
        )
        self.tokenized_requests = True  # ids made by our own tokenizer
        self.address = address
        self.extras: dict[str, Any] = {**PLAIN_SAMPLING, "stop_token_ids": list(eos_ids), "return_token_ids": True}

    @cached_property
    def header(self) -> dict[str, str]:
        key = os.environ.get(KEY, "").strip()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _create_payload(
        self, messages: Any, generate: bool = False, gen_kwargs: dict[str, Any] | None = None, **settings: Any
    ) -> dict[str, Any]:
        payload: dict[str, Any] = super()._create_payload(messages, generate, gen_kwargs, **settings)
        if generate:
            payload.pop("stop")  # generation ends at end tokens, never at a string
            payload.update(self.extras)
        return payload

    def complete(self, prompt: Sequence[int], attempts: int | None = None, **settings: Any) -> Completion:
        """What the server writes after a prompt. Raises HttpStatus, or BackendFailed when it cannot be reached."""
        return self._asked(prompt, attempts, generate=True, gen_kwargs=settings)

    def echo(self, prompt: Sequence[int], attempts: int | None = None) -> Completion:
        """The prompt's own log-probabilities. Raises as `complete` does."""
        return self._asked(prompt, attempts, generate=False)

    def logprob(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Summed log-probability (nats) of `after`, given `before`; NaN where the server gives none for a token.

        Raises BackendFailed when the server saw another number of tokens than it was sent.
        """
        ids = [*before, *after]
        found = self.echo(ids)
        problem = miscounted(found, len(ids)) or (None if len(found.logprobs) >= len(ids) else NO_ECHO)
        if problem:
            raise BackendFailed(problem)
        scored = found.logprobs[len(before) : len(ids)]
        return sum(float("nan") if value is None else float(value) for value in scored)

    def _asked(self, prompt: Sequence[int], attempts: int | None, **call: Any) -> Completion:
        tries = retry(
            stop=stop_after_attempt(attempts or self.max_retries),
            wait=wait_exponential(multiplier=0.5, min=1, max=10),
            retry=retry_if_exception(_worth_another),
            reraise=True,
        )(self.model_call)
        try:
            return _completion(tries(messages=[list(prompt)], **call))
        except requests.HTTPError as error:
            assert error.response is not None  # raised by raise_for_status
            raise HttpStatus(error.response.status_code, redacted(_message(error.response))) from None
        except requests.JSONDecodeError:
            raise BackendFailed(f"{self.address} answered with something else than JSON") from None
        except requests.RequestException as error:
            raise BackendFailed(f"{self.address} cannot be reached: {type(error).__name__}") from None
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise BackendFailed(f"{self.address} answered with no completion: {redacted(repr(error))}") from None


NO_ECHO = "server gives no log-probabilities of a prompt's tokens"
ADDS_TOKENS = "server adds a token (BOS again) to prompts that are token ids"


def miscounted(found: Completion, sent: int) -> str | None:
    """Why an answer belongs to another prompt than the one of `sent` ids, by the server's own counts, or None."""
    echoed = len(found.logprobs) or sent
    if found.prompt_tokens is not None and found.prompt_tokens != sent:
        longer = found.prompt_tokens > sent
    elif echoed > sent + 1:  # one more is the token that it had to write
        longer = True
    else:
        return None
    return ADDS_TOKENS if longer else "server drops tokens of prompts that are token ids"


def served(address: str, timeout: float = 30) -> list[dict[str, Any]] | None:
    """What the server's /models lists; None when it has no such page. Raises HttpStatus or BackendFailed."""
    key = os.environ.get(KEY, "").strip()
    try:
        response = requests.get(
            f"{address}/models", timeout=timeout, headers={"Authorization": f"Bearer {key}"} if key else {}
        )
    except requests.RequestException as error:
        raise BackendFailed(f"{address} cannot be reached: {type(error).__name__}") from None
    if response.status_code in (404, 405, 501):
        return None
    if not response.ok:
        raise HttpStatus(response.status_code, redacted(_message(response)))
    try:
        return [entry for entry in response.json()["data"] if isinstance(entry, dict) and "id" in entry]
    except (ValueError, KeyError, TypeError):
        return None


def _worth_another(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in BUSY
    return isinstance(error, requests.RequestException)


def _message(response: requests.Response) -> str:
    """The error text of an OpenAI-style body, or the body's first line."""
    try:
        body = response.json()
        error = body.get("error", body)
        return str(error.get("message", "") if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        return response.text if "<" not in response.text[:20] else ""


def _completion(body: Any) -> Completion:
    choice, usage = body["choices"][0], body.get("usage") or {}
    scored = choice.get("logprobs") or {}
    ids = choice.get("token_ids")
    return Completion(
        text=str(choice.get("text") or ""),
        ids=[int(token) for token in ids] if isinstance(ids, list) and all(isinstance(t, int) for t in ids) else None,
        finished=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        new_tokens=usage.get("completion_tokens"),
        echoed=[token for token in scored.get("tokens") or [] if isinstance(token, str)],
        logprobs=list(scored.get("token_logprobs") or []),
    )
