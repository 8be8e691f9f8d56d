"""Text that models and data sets wrote, made harmless for where it is shown.

`clean` is for eyes: nothing invisible stays invisible (control characters, terminal escapes, bidirectional
overrides, zero-width marks become visible signs), nothing is endless. The other functions add the escaping
of one output format. HTML escaping is the template engine's (autoescape), on top of `clean`.
"""

from __future__ import annotations

import json
import re
from typing import Any

ANSWER_LIMIT = 1500  # characters of one text shown in the report; the run keeps all of it

_INVISIBLE = [
    0x061C,
    *range(0x200B, 0x200C),
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    *range(0x80, 0xA0),
    *range(0xE0000, 0xE0080),
]
_VISIBLE: dict[int, str] = {code: f"⟨U+{code:04X}⟩" for code in _INVISIBLE}
_VISIBLE |= {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}  # ␀ ␛ …
_VISIBLE |= {0x7F: "␡", 0x2028: "\n", 0x2029: "\n"}


def clean(text: str, limit: int | None = None) -> str:
    """Text with every invisible or steering character made visible, cut at `limit` characters.

    Lone surrogates (not encodable as UTF-8) become "?". A cut text says how much is missing.
    """
    missing = 0
    if limit is not None and len(text) > limit:
        missing, text = len(text) - limit, text[:limit]
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").translate(_VISIBLE)
    return f"{text} … (+{missing:,})" if missing else text


def json_for_html(value: Any) -> str:
    """JSON that may stand inside a <script type="application/json"> element: no `<`, `>`, `&` survive."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\u2212": "$-$",
}


def latex(text: str) -> str:
    """Text that LaTeX prints as it is and never executes; one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(clean(text).split()))


def markdown(text: str) -> str:
    """Text for a Markdown table cell: no markup, no HTML, no link, no mention becomes active; one line."""
    line = " ".join(clean(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", line)
    line = re.sub(r"(?i)\b(https?|javascript|data|ftp|file|mailto):", "\\1:\u2060", line)
    return re.sub(r"@(?=\w)", "@\u2060", line)
