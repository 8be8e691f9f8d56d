"""For the time of the change to messages: English text stored without its key, recognised by its template."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from string import Formatter

from tiltmeter.messages.sentences import Message, Text, catalogue, join

STORED = "stored."
CLAUSE = "clause"
LONGEST = 800


@lru_cache(maxsize=4096)
def heard(text: Text) -> Text:
    if isinstance(text, Message) or not 0 < len(text) <= LONGEST:
        return text
    particular, general = _patterns()
    found = _match(text, particular)
    if found is None and "; " in text:
        parts = [heard(part) for part in text.split("; ")]
        found = join("join.clauses", parts) if any(isinstance(part, Message) for part in parts) else None
    return found or _match(text, general) or text


def _match(text, patterns):
    for key, pattern in patterns:
        found = pattern.fullmatch(text)
        if found:
            values = {name: heard(value) for name, value in found.groupdict().items()}
            if CLAUSE not in values or isinstance(values[CLAUSE], Message):
                return Message(key, values)
    return None


@cache
def _patterns():
    own = {}
    for key, texts in catalogue().items():
        if key.startswith(STORED):
            own[key] = sum(len(literal) for literal, *_ in Formatter().parse(texts["en"]))
    ranked = [(key, _pattern(catalogue()[key]["en"])) for key in sorted(own, key=lambda key: -own[key])]
    return tuple(e for e in ranked if own[e[0]] > 2), tuple(e for e in ranked if own[e[0]] <= 2)


def _pattern(template):
    written = "".join(
        re.escape(literal) + (f"(?P<{name}>{'.*?' if name == CLAUSE else '(?:(?![;:] ).)*?'})" if name else "")
        for literal, name, _, _ in Formatter().parse(template)
    )
    return re.compile(written, re.DOTALL)
