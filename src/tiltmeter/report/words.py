"""Words and numbers of the report, in English and Chinese, from tiltmeter's one catalogue (tiltmeter.messages).

Every sentence the report says is a key of the catalogue with both languages. Sentences that the run stored (verdict
reasons, notes, limits) are stored as data and told in the report's language; plain text (a plug-in's words, an error's
text, a document of another version) stays as it was written, marked as English.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.messages import LANGUAGES, Message, Text, catalogue


class Told(str):
    """A stored sentence as the report shows it; `foreign`: still in English on a page of another language."""

    foreign: bool = False


def foreign(text: str, is_foreign: bool) -> Told:
    told = Told(text)
    told.foreign = is_foreign
    return told


class Words:
    """The catalogue in one language: words("key", n=3) -> text. Raises UserError for an unknown language."""

    def __init__(self, lang: str = "en") -> None:
        if lang not in LANGUAGES:
            raise UserError(f"the report does not speak {lang!r}", fix=f"choose --lang {' or --lang '.join(LANGUAGES)}")
        self.lang = lang

    def __call__(self, key: str, **values: Any) -> str:
        """The text of a key, its {placeholders} filled. Raises KeyError for an unknown key: a bug, not bad input."""
        return catalogue()[key][self.lang].format(**values)

    def told(self, text: Text | None, names: Mapping[str, str] | None = None) -> Told:
        """A sentence in the report's language. Plain text (None: empty) stays as it was written."""
        text = text or ""
        if isinstance(text, Message):
            return foreign(text.text(self.lang, names), not text.speaks(self.lang))
        return foreign(text, self.lang != "en")

    def has(self, key: str) -> bool:
        return key in catalogue()

    def name(self, kind: str, value: str) -> str:
        """The words of a stored name (a unit, an attribute …) where the catalogue has them, else the name."""
        key = f"{kind}.{value}"
        return self(key) if self.has(key) else value
