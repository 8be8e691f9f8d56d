"""Chat turns as one text: the prompt of a server that applies its own chat template to messages. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tiltmeter.scoring.requests import Prompt

MARK = "tiltmeter chat turns"


@dataclass(frozen=True)
class Turns:
    """(role, text) of each turn, the last one the user's, and the beginning of the answer ("" for none)."""

    messages: tuple[tuple[str, str], ...]
    prefix: str = ""


def as_text(prompt: Prompt) -> str:
    """A prompt's turns, for a request."""
    turns = [list(turn) for turn in prompt.messages]
    return json.dumps({MARK: turns, "prefix": prompt.prefix.strip()}, ensure_ascii=False)


def from_text(text: str) -> Turns | None:
    """What `as_text` wrote; None for any other text."""
    if not text.startswith(f'{{"{MARK}": '):
        return None
    found = json.loads(text)
    return Turns(tuple((role, said) for role, said in found[MARK]), found["prefix"])
