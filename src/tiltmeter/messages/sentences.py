"""What tiltmeter says, in English and Chinese, from one catalogue: messages/*.yaml, key -> {en, zh}.

say         a sentence: its key and the values that stand in it
join        several sentences or clauses as one
translated  a sentence that brings both languages itself, for words that only one benchmark or strategy uses
as_json     a sentence as data, for a run folder; from_json reads it back
spoken      data of a run folder as documents show them: English, with each sentence's data beside it

A `Message` is English where it is printed (`str`), and any language of the catalogue where it is asked for one
(`Message.text`). Plug-ins may give plain text wherever a `Text` is wanted. Numbers are formatted once, by whoever says
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any, TypeAlias

import yaml

LANGUAGES = {"en": "English", "zh": "中文"}
OWN = ""  # key of a message whose values are its own texts, by language
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, eq=True)
class Message:
    """One sentence, in no language yet.

    Attributes:
        key: its entry in the catalogue; "" for a message that brings its own texts.
        values: placeholder -> printed value or message; a tuple of parts where they are joined; language -> text where
            the key is "".
    """

    key: str
    values: Mapping[str, Text] | tuple[Text, ...] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text("en")

    def __contains__(self, words: str) -> bool:
        """Whether the English sentence holds these words."""
        return words in str(self)

    def __hash__(self) -> int:
        return hash((self.key, tuple(self.values.items()) if isinstance(self.values, Mapping) else self.values))

    def text(self, language: str, names: Mapping[str, str] | None = None) -> str:
        """The sentence in a language. names: plain values that are to be shown otherwise (model ids).

        Raises KeyError for a key or a value that the catalogue does not know.
        """
        if self.key == OWN and isinstance(self.values, Mapping):
            return str(self.values.get(language, self.values["en"]))
        template = catalogue()[self.key][language]
        if isinstance(self.values, Mapping):
            return template.format(**{name: told(value, language, names) for name, value in self.values.items()})
        return template.join(told(part, language, names) for part in self.values)

    @property
    def parts(self) -> tuple[Message, ...]:
        """The messages that are joined; itself where none are."""
        if isinstance(self.values, Mapping):
            return (self,)
        return tuple(part if isinstance(part, Message) else translated(part) for part in self.values)

    def value(self, name: str) -> Text:
        """What stands at a placeholder; the whole message where it has no such one."""
        return self.values.get(name, self) if isinstance(self.values, Mapping) else self

    def speaks(self, language: str) -> bool:
        """Whether there is a text in this language; False where the English would stand in its place."""
        return self.key != OWN or language in self.values


Text: TypeAlias = Message | str  # a sentence, or text that is the same in every language


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """key -> {language: text}."""
    folder = files("tiltmeter").joinpath("messages")
    found: dict[str, dict[str, str]] = {}
    for part in folder.iterdir():
        if part.name.endswith(".yaml"):
            found |= yaml.load(part.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 (safe, in C if there is)
    return found


def say(key: str, **values: object) -> Message:
    """The sentence of a key. Values are names, printed numbers or sentences.

    Raises KeyError for an unknown key, and where a value of the sentence is missing.
    """
    missing = _placeholders(key) - values.keys()
    if missing:
        raise KeyError(f"{key} needs {', '.join(sorted(missing))}")
    return Message(key, {name: v if isinstance(v, (str, Message)) else str(v) for name, v in values.items()})


def join(key: str, parts: Iterable[Text]) -> Message:
    """Parts with the key's text between them."""
    return Message(key, tuple(parts))


def named(kind: str, name: str) -> Text:
    """The sentence of `kind.name` where the catalogue has one, else the name itself."""
    return say(f"{kind}.{name}") if f"{kind}.{name}" in catalogue() else name


def translated(en: str, **others: str) -> Message:
    """A sentence with its own texts: translated("more often", zh="更常"). A language it lacks shows the English."""
    return Message(OWN, {"en": en, **others})


def told(text: Text, language: str, names: Mapping[str, str] | None = None) -> str:
    """A message or plain text in a language."""
    return text.text(language, names) if isinstance(text, Message) else (names or {}).get(text, text)


def as_json(text: Text | None) -> Any:
    """A message as {"text" (its English), "key", "values"}, JSON-ready; plain text, and None, as they are."""
    return {"text": str(text), **_data(text)} if isinstance(text, Message) else text


def json_default(value: Any) -> Any:
    """`default` of json.dump: messages as data wherever they stand. Raises TypeError for anything else."""
    if isinstance(value, Message):
        return as_json(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def from_json(data: Any) -> Text:
    """What `as_json` wrote; the English text of a sentence that this version does not know, None as empty text."""
    if isinstance(data, Message):
        return data
    if not isinstance(data, Mapping):
        return str(data or "")
    try:
        found = _read(data)
        str(found)  # its key and values are this version's
        return found
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        return str(data.get("text", ""))


def spoken(value: Any) -> Any:
    """Stored data as documents show them: English where sentences stand, their data beside it under `…_message`.

    {"reason": {"text": "Why.", "key": …}} -> {"reason": "Why.", "reason_message": {…}}; a list of sentences becomes a
    list of English texts, with `…_messages` beside it where any of them is more than text.
    """
    if _is_message(value):
        return value.get("text") or str(_read(value))
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for name, inner in value.items():
            if name.endswith("_messages"):  # beside the texts already
                found[name] = inner
                continue
            found[name] = spoken(inner)
            if _is_message(inner):
                found[f"{name}_message"] = inner
            elif isinstance(inner, (list, tuple)) and any(map(_is_message, inner)):
                found[f"{name}_messages"] = list(inner)
        return found
    return [spoken(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def sentence(data: Mapping[str, Any], name: str) -> Text:
    """The sentence that `spoken` left under a name of a document; plain text where the document has no more."""
    return from_json(data.get(f"{name}_message") or data.get(name))


def sentences(data: Mapping[str, Any], name: str) -> list[Text]:
    """As `sentence`, of a list."""
    return [from_json(entry) for entry in data.get(f"{name}_messages") or data.get(name) or []]


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and {"key", "values"} <= value.keys() <= {"text", "key", "values"}


def _data(text: Text) -> Any:
    if not isinstance(text, Message):
        return text
    if isinstance(text.values, Mapping):
        return {"key": text.key, "values": {name: _data(value) for name, value in text.values.items()}}
    return {"key": text.key, "values": [_data(part) for part in text.values]}


def _read(data: Any) -> Text:
    if not isinstance(data, Mapping):
        return str(data)
    key, values = str(data["key"]), data["values"]
    if isinstance(values, Mapping):
        return Message(key, {str(name): _read(value) for name, value in values.items()})
    return Message(key, tuple(_read(part) for part in values))


@cache
def _placeholders(key: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in Formatter().parse(catalogue()[key]["en"]) if name)
