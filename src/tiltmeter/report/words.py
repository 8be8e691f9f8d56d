"""Words and numbers of the report, in English and Chinese, from tiltmeter's one catalogue (tiltmeter.wording).

Every sentence the report says is a key of the catalogue with both languages. Sentences that the run stored (verdict
reasons, notes, limits) are told again in the report's language where the catalogue knows them; what it does not know
(a plug-in's words, an error's text, a document of another version) stays as it was written, marked as English.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from tiltmeter.errors import UserError
from tiltmeter.wording import LANGUAGES, as_data, catalogue, heard, tell

NONE = "–"  # printed where there is no number; its reason stands beside it


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

    def told(self, text: Any, data: Any = None, names: Mapping[str, str] | None = None) -> Told:
        """A stored sentence in the report's language: from what it remembers (`data`), else recognised by its text."""
        text = str(text or "")
        data = data or as_data(heard(text))
        if data:
            try:
                return Told(tell(data, self.lang, names))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError):
                pass  # of another version: its English text stands beside it
        return foreign(text, self.lang != "en")

    def has(self, key: str) -> bool:
        return key in catalogue()

    def name(self, kind: str, value: str) -> str:
        """The words of a stored name (a unit, an attribute …) where the catalogue has them, else the name."""
        key = f"{kind}.{value}"
        return self(key) if self.has(key) else value


def defined(value: Any) -> TypeGuard[float]:
    """A finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def digits(unit: str) -> int:
    """Decimals a score of this unit is printed with."""
    return 1 if unit in ("percent", "%", "points") else 3


def number(value: Any, places: int = 3) -> str:
    """A number with a true minus sign; NONE where it is undefined."""
    if not defined(value):
        return NONE
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: Any, places: int = 3) -> str:
    """A change: always with its sign; a change that rounds to nothing is printed as ±0."""
    if not defined(value):
        return NONE
    text = number(value, places)
    if float(text.replace("−", "-")) == 0:
        return "±" + text
    return text if text.startswith("−") else "+" + text


def interval(ends: Any, places: int = 3) -> str:
    """[low, high] with signs; NONE where there is none."""
    if not ends or not all(defined(end) for end in ends):
        return NONE
    return f"[{signed(ends[0], places)}, {signed(ends[1], places)}]"


def p_value(value: Any) -> str:
    if not defined(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def compact(value: Any) -> str:
    """A measured quantity of unknown scale, three significant digits, thousands separated."""
    if isinstance(value, bool) or value is None:
        return NONE if value is None else ("✓" if value else "✗")
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not defined(value):
        return NONE
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2e}".replace("-", "−")
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}").replace("-", "−")


def size(n_bytes: Any) -> str:
    """Bytes as a person reads them (powers of 1024)."""
    if not defined(n_bytes):
        return NONE
    for unit in ("B", "KiB", "MiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"
