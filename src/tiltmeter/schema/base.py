"""What all stored types share: frozen, read leniently about what is new and strictly about what is there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from tiltmeter.messages import Message, Text, as_json, from_json, spoken


def _from_null(value: Any) -> Any:
    return math.nan if value is None else value


def _to_null(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _to_text(value: Any) -> Text:
    if isinstance(value, (str, Message)):
        return value
    if isinstance(value, Mapping):
        return from_json(value)
    raise ValueError("is no sentence")


Number = Annotated[
    float,
    BeforeValidator(_from_null),
    PlainSerializer(_to_null),
    WithJsonSchema({"type": ["number", "null"]}),
]
"""A number that may be undefined: NaN here, null in JSON (JSON has no NaN). Its reason stands beside it."""

Ends = tuple[Number, Number]
"""Lower and upper end of an interval."""

Sentence = Annotated[
    Text,
    PlainValidator(_to_text),
    PlainSerializer(as_json),
    WithJsonSchema({"type": "string"}),
]
"""A sentence: a message here; in documents English, its key and values beside it (NAME_message, NAME_messages)."""


class Stored(BaseModel):
    """A part of a stored document. Unknown keys are left out when it is read: a later version may have added them."""

    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _with_sentences(cls, content: Any) -> Any:
        """Sentences from what stands beside their English text (`…_said`: as documents before messages had it)."""
        if not isinstance(content, Mapping):
            return content
        found = dict(content)
        for name, data in content.items():
            field, _, ending = str(name).rpartition("_")
            if not data or name in cls.model_fields or field not in cls.model_fields:
                continue
            if ending in ("message", "messages"):
                found[field] = data
            elif ending == "said":
                found[field] = _said(content.get(field), data)
        return found

    def as_json(self) -> dict[str, Any]:
        """As files keep it: undefined numbers as null, tuples as lists, sentences with their key and values."""
        return self.model_dump(mode="json", by_alias=True)

    def as_document(self) -> dict[str, Any]:
        """As documents show it: sentences in English, their data beside them."""
        return spoken(self.as_json())  # type: ignore[no-any-return]

    def but(self, **fields: Any) -> Self:
        """The same with other fields."""
        return self.model_copy(update=fields)


def _said(text: Any, data: Any) -> Any:
    if isinstance(text, (list, tuple)) and isinstance(data, (list, tuple)) and len(text) == len(data):
        return [_said(*pair) for pair in zip(text, data)]
    return {"text": text, **data} if isinstance(data, Mapping) else text
