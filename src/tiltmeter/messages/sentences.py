"""What tiltmeter says, in English and Chinese, from one catalogue: messages/*.yaml, key -> {en, zh}.

say       a sentence: English text that remembers its key and values
join      several sentences or clauses as one
as_data   what a sentence remembers, as JSON beside the English text
tell      that JSON in a language
heard     English text that was stored without its key, recognised by the catalogue's own English template

Sentences are made in English, so stored documents, terminals and logs read as they always did; a reader of another
language (the report) renders them again from what they remember. Numbers are formatted once, by whoever says them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from string import Formatter
from typing import Any

import yaml

LANGUAGES = {"en": "English", "zh": "中文"}
PARTS = ("report", "analysis", "stored")
STORED = "stored."  # keys of sentences that other parts write as plain English text
CLAUSE = "clause"  # this placeholder may hold a list ("a; b") and must itself be recognised: "{name}: {clause}"
LONGEST = 800  # characters of a text that is still looked up
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """key -> {language: text}."""
    folder = files("tiltmeter").joinpath("messages")
    found: dict[str, dict[str, str]] = {}
    for part in PARTS:
        text = folder.joinpath(f"{part}.yaml").read_text(encoding="utf-8")
        found |= yaml.load(text, Loader=_LOADER)  # noqa: S506 (a safe loader, in C where there is one)
    return found


class Said(str):
    """A sentence in English that knows its key and values; `values` is a tuple where parts are joined."""

    key: str
    values: Mapping[str, str] | tuple[str, ...]

    def __new__(cls, text: str, key: str, values: Mapping[str, str] | tuple[str, ...]) -> Said:
        made = super().__new__(cls, text)
        made.key, made.values = key, values
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Said, (str(self), self.key, self.values)


def say(key: str, **values: object) -> Said:
    """The sentence of a key. Values are names, printed numbers or sentences. Raises KeyError for an unknown key."""
    given = {name: value if isinstance(value, str) else str(value) for name, value in values.items()}
    return Said(catalogue()[key]["en"].format(**given), key, given)


def join(key: str, parts: Iterable[str]) -> Said:
    """Parts with the key's text between them."""
    given = tuple(parts)
    return Said(catalogue()[key]["en"].join(given), key, given)


def named(kind: str, name: str) -> str:
    """The sentence of `kind.name` where the catalogue has one, else the name itself."""
    return say(f"{kind}.{name}") if f"{kind}.{name}" in catalogue() else name


def as_data(text: str) -> dict[str, Any] | None:
    """{"key", "values"} of a sentence, JSON-ready; None for text that remembers nothing."""
    if not isinstance(text, Said):
        return None
    if isinstance(text.values, tuple):
        return {"key": text.key, "values": [as_data(part) or str(part) for part in text.values]}
    return {"key": text.key, "values": {name: as_data(value) or str(value) for name, value in text.values.items()}}


def tell(data: Any, language: str, names: Mapping[str, str] | None = None) -> str:
    """A sentence's JSON in a language. names: plain values that are to be shown otherwise (model ids).

    Raises KeyError for a key or a value that this version does not know (a document of another version).
    """
    if not isinstance(data, Mapping):
        return (names or {}).get(str(data), str(data))
    template, values = catalogue()[data["key"]][language], data["values"]
    if isinstance(values, Mapping):
        return template.format(**{name: tell(value, language, names) for name, value in values.items()})
    return template.join(tell(part, language, names) for part in values)


@lru_cache(maxsize=4096)
def heard(text: str) -> str:
    """Text as a sentence, where one of the catalogue's stored English templates made it; else as it is.

    Captured values are recognised in turn; a list of clauses ("a; b") is recognised clause by clause.
    """
    if isinstance(text, Said) or not 0 < len(text) <= LONGEST:
        return text
    particular, general = _patterns()
    found = _match(text, particular)
    if found is None and "; " in text:
        parts = [heard(part) for part in text.split("; ")]
        found = join("join.clauses", parts) if any(isinstance(part, Said) for part in parts) else None
    return found or _match(text, general) or text


Patterns = tuple[tuple[str, re.Pattern[str]], ...]


def _match(text: str, patterns: Patterns) -> Said | None:
    for key, pattern in patterns:
        found = pattern.fullmatch(text)
        if found:
            values = {name: heard(value) for name, value in found.groupdict().items()}
            if CLAUSE not in values or isinstance(values[CLAUSE], Said):
                return Said(text, key, values)
    return None


@cache
def _patterns() -> tuple[Patterns, Patterns]:
    """Templates that have words of their own, those with most of them first; and the general ones ("{a}: {b}")."""
    own: dict[str, int] = {}
    for key, texts in catalogue().items():
        if key.startswith(STORED):
            own[key] = sum(len(literal) for literal, *_ in Formatter().parse(texts["en"]))
    ranked = [(key, _pattern(catalogue()[key]["en"])) for key in sorted(own, key=lambda key: -own[key])]
    return tuple(e for e in ranked if own[e[0]] > 2), tuple(e for e in ranked if own[e[0]] <= 2)


def _pattern(template: str) -> re.Pattern[str]:
    """Values end before the next clause ("; ") or explanation (": "); a {clause} may hold both."""
    written = "".join(
        re.escape(literal) + (f"(?P<{name}>{'.*?' if name == CLAUSE else '(?:(?![;:] ).)*?'})" if name else "")
        for literal, name, _, _ in Formatter().parse(template)
    )
    return re.compile(written, re.DOTALL)
