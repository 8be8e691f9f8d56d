"""What a completions server's answer says, read strictly: an answer that is none ends the cell with its reason.

Next-token log-probabilities come in three spellings: {"token_id:5": -1.2} (vLLM, SGLang, when asked for ids),
[{"id": 5, "logprob": -1.2}] (llama.cpp's), and by the tokens' text, which is not unique and is not used here.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from tiltmeter.backends._http import Nonsense
from tiltmeter.printed import whole

ROUNDING = 1e-3  # nats by which a log-probability may lie above 0
COUNT = 2**31  # token ids and counts are below
LONGEST_TOKEN = 512  # characters; a text longer than its tokens allow was not written by this model
_DATED = re.compile(r"-\d{4}(-?\d\d-?\d\d)?$")  # OpenAI answers "gpt-…-0914" for "gpt-…"
_ID = re.compile(r"token_id:(\d{1,10})")  # how vLLM and SGLang write a token where ids were asked for


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
        top: id -> log-probability (nats) of the likeliest first new tokens; empty where none came, or none with ids.
        words: how the server spells those tokens, where it says so.
        spelled: text -> log-probability (nats) of the likeliest first new tokens, those that write the same together.
    """

    text: str
    ids: list[int] | None
    finished: str | None
    prompt_tokens: int | None
    new_tokens: int | None
    echoed: list[str] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    top: dict[int, float] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)
    spelled: dict[str, float] = field(default_factory=dict)


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
    said = choice["message"].get("content") if "message" in choice else choice.get("text")
    text, finished, ids = said or "", choice.get("finish_reason"), choice.get("token_ids")
    if not isinstance(text, str) or not (finished is None or isinstance(finished, str)):
        raise ValueError("its text is none")
    if not scored and len(text) > LONGEST_TOKEN * (allowed + 1):
        raise ValueError(f"a text of {len(text):,} characters where {allowed} tokens were asked for")
    content = scored.get("content")
    if ids is None and content and all("id" in token for token in content):
        ids = [token["id"] for token in content]
    if ids is not None:
        ids = [_count(token, "a token id") for token in ids]
        if len(ids) > allowed + 1:
            raise ValueError(f"{len(ids):,} new tokens where {allowed} were asked for")
    top, words = _top(scored)
    return Completion(
        text=whole(text),
        ids=ids,
        finished=finished,
        prompt_tokens=_count_or_none(usage.get("prompt_tokens"), "the number of prompt tokens"),
        new_tokens=_count_or_none(usage.get("completion_tokens"), "the number of new tokens"),
        echoed=[whole(token) for token in scored.get("tokens") or [] if isinstance(token, str)],
        logprobs=[_logprob(value) for value in scored.get("token_logprobs") or []],
        top=top,
        words=words,
        spelled=_spelled(scored),
    )


def _top(scored: dict[str, Any]) -> tuple[dict[int, float], dict[int, str]]:
    """The likeliest first tokens of an answer, (id -> nats, id -> spelling), as far as they come with ids."""
    found: dict[int, float] = {}
    words: dict[int, str] = {}
    if scored.get("content"):
        for entry in scored["content"][0].get("top_logprobs") or []:
            if "id" in entry and entry["logprob"] > -COUNT:  # llama.cpp writes the lowest float for probability 0
                token = _count(entry["id"], "a token id")
                found[token] = _known(entry["logprob"])
                words[token] = whole(str(entry.get("token", "")))
    else:
        for name, value in ((scored.get("top_logprobs") or [None])[0] or {}).items():
            if (match := _ID.fullmatch(name)) and value > -COUNT:
                found[_count(int(match[1]), "a token id")] = _known(value)
    if sum(map(math.exp, found.values())) > 1 + ROUNDING:
        raise ValueError("the probabilities of its next tokens add up to more than 1")
    return found, words


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < COUNT:
        raise ValueError(f"{what} is {str(value)[:40]!r}")
    return value


def _count_or_none(value: Any, what: str) -> int | None:
    return None if value is None else _count(value, what)


def _spelled(scored: dict[str, Any]) -> dict[str, float]:
    """The likeliest first tokens of a chat answer by the text that they write; a part of a character writes none."""
    found: dict[str, float] = {}
    for entry in (scored.get("content") or [{}])[0].get("top_logprobs") or []:
        text = entry["token"]
        if isinstance(entry.get("bytes"), list):
            text = bytes(entry["bytes"]).decode("utf-8", "replace")
        if entry["logprob"] > -COUNT and "\ufffd" not in text:
            value = _known(entry["logprob"])
            before = found.get(text, -math.inf)
            found[text] = max(before, value) + math.log1p(math.exp(-abs(before - value)))
    if sum(map(math.exp, found.values())) > 1 + ROUNDING:
        raise ValueError("the probabilities of its next tokens add up to more than 1")
    return found


def _known(value: Any) -> float:
    found = _logprob(value)
    if found is None:
        raise ValueError("a log-probability is None")
    return found


def _logprob(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -COUNT < value <= ROUNDING:
        raise ValueError(f"a log-probability is {str(value)[:40]}")
    return float(value)
