"""Every sentence that a person reads, in English and Chinese: `Message`, and the catalogue it is rendered from."""

from tiltmeter.messages.sentences import (
    LANGUAGES,
    Message,
    Text,
    as_json,
    catalogue,
    from_json,
    join,
    json_default,
    named,
    say,
    sentence,
    sentences,
    spoken,
    told,
    translated,
)

__all__ = [
    "LANGUAGES",
    "Message",
    "Text",
    "as_json",
    "catalogue",
    "from_json",
    "join",
    "json_default",
    "named",
    "say",
    "sentence",
    "sentences",
    "spoken",
    "told",
    "translated",
]
