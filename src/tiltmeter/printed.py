"""Text that models, servers and data sets wrote, made harmless for where it is shown: one cleaner per medium.

    one_line      a line on a terminal or in a log          csv_safe      a cell of a CSV file
    clean         the report (the template engine escapes)  latex         LaTeX
    markdown      a Markdown table cell                     xml           an XML text or attribute
    github        a GitHub annotation                       json_text     JSON on a terminal
    figure        a picture's specification                 whole         any file: no lone surrogates

What is invisible or steers (control characters, terminal escapes, bidirectional overrides, zero-width marks) becomes
visible; nothing begins a line; nothing is a link, a mention, a formula or a command. YAML is quoted by its own writer
after `one_line`. What a stream cannot take is the business of `tiltmeter.cli.output`.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from numbers import Integral, Real
from typing import Any, TypeGuard

ANSWER_LIMIT = 1500  # characters of one text shown in the report; the run keeps all of it

# Unicode's format characters and others that show nothing, but for what text of some script cannot do without: joiners
# (U+200C, U+200D), presentation selectors (U+FE0E, U+FE0F), Mongolian, Khmer, and signs that are drawn (U+0600 …).
_INVISIBLE = [
    *range(0x80, 0xA0),
    0xAD,
    0x034F,
    0x061C,
    0x115F,
    0x1160,
    0x180E,
    0x200B,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    0x3164,
    *range(0xFE00, 0xFE0E),
    0xFEFF,
    0xFFA0,
    *range(0xFFF0, 0xFFFC),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0000, 0xE0200),
]
_VISIBLE: dict[int, str] = {code: f"⟨U+{code:04X}⟩" for code in _INVISIBLE}
_VISIBLE |= {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}  # ␀ ␛ …
_VISIBLE |= {0x7F: "␡", 0x2028: "\n", 0x2029: "\n"}


_STEERING = re.compile("[" + "".join(map(re.escape, map(chr, _VISIBLE))) + "\ud800-\udfff]")

# GitHub takes a line that begins with "::" and "##[" anywhere in a line for a command to its runner.
_COMMAND = re.compile(r"(?m)^(\s*):(?=:)|#(?=#\[)")

STYLE = {  # colour of a verdict -> style of the terminal
    "worse": "bold red",
    "shifted": "bold magenta",
    "better": "green",
    "equivalent": "cyan",
    "inconclusive": "dim",
    "idle": "dim",
    "unusable": "magenta",
}


def whole(text: str) -> str:
    """Text that every encoding can hold: halves of a surrogate pair joined, lone ones replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def one_line(text: object) -> str:
    """Text for a line on a terminal or in a log: nothing in it steers either, begins a line, or commands a runner."""
    return no_command(" ".join(clean(str(text)).split()))


def no_command(text: str) -> str:
    """Text none of whose lines is a command to GitHub's runner: "::error" becomes ": :error"."""
    return _COMMAND.sub(lambda found: found[0] + " ", text)


def clean(text: str, limit: int | None = None) -> str:
    """Text with every invisible or steering character made visible, cut at `limit` characters.

    A cut text says how much is missing.
    """
    missing = 0
    if limit is not None and len(text) > limit:
        missing, text = len(text) - limit, text[:limit]
    text = whole(text).replace("\r\n", "\n").translate(_VISIBLE)
    return f"{text} … (+{missing:,})" if missing else text


def figure(specification: Any) -> Any:
    """A Vega-Lite specification with every text in it clean: its renderer ends the process at a control character."""
    if isinstance(specification, str):
        return clean(specification)
    if isinstance(specification, dict):
        return {figure(key): figure(value) for key, value in specification.items()}
    return [figure(value) for value in specification] if isinstance(specification, (list, tuple)) else specification


def null(value: Any) -> Any:
    """JSON form of a value: NaN and infinity become None, tuples lists."""
    if isinstance(value, Real) and not isinstance(value, int):  # numpy's numbers too, without numpy
        number = int(value) if isinstance(value, Integral) else float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, dict):
        return {str(key): null(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [null(inner) for inner in value]
    return value


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON whose invisible and steering characters are escaped: the same value, and nothing moves a terminal."""
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, indent=indent)
    return _STEERING.sub(lambda found: _escaped(found[0]), text).replace("##[", "\\u0023#[")


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xD800 <= code < 0xE000:  # half of a pair is no text
        return "\\ufffd"
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(character)[1:-1]


def xml(text: object) -> str:
    """Text without the characters that XML 1.0 forbids, and none that steer; escaping is the XML writer's."""
    return one_line(text)


def github(text: object, *, in_property: bool = False) -> str:
    """Text inside a workflow command (`::error title=…::…`), escaped as GitHub's runner asks."""
    line = clean(str(text)).replace("##[", "# #[").replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return line.replace(":", "%3A").replace(",", "%2C") if in_property else line


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
    "\u2013": "--",
    "\u00b1": "$\\pm$",
}


def latex(text: str) -> str:
    """Text that LaTeX prints as it is and never executes; one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(clean(text).split()))


def markdown(text: str) -> str:
    """Text for a Markdown table cell: no markup, no HTML, no link, no mention becomes active; one line."""
    line = " ".join(clean(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~#!$])", r"\\\1", line)
    line = re.sub(r"(?i)\b(\w+):(?=//)|\b(javascript|data|mailto|xmpp):|\b(www\.)|\b(GH-)(?=\d)", _parted, line)
    return no_command(line.replace("@", "＠"))


def _parted(found: re.Match[str]) -> str:
    return found[0] + " "


FORMULA = ("=", "+", "-", "@", "\t")  # what begins one for a spreadsheet
NONE = "–"  # printed where there is no number; its reason stands beside it


def defined(value: Any) -> TypeGuard[float]:
    """A finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def digits(unit: str) -> int:
    """Decimals a score of this unit is printed with."""
    return 2 if unit in ("percent", "%", "points") else 3


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


def without_controls(text: str) -> str:
    """`one_line`, for cells of a terminal's table."""
    return one_line(text)


def csv_safe(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula and no runner for a command; numbers stay numbers, None is empty.

    Line breaks stay: the writer quotes them.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        value = no_command(clean(value.replace("\r\n", "\n").replace("\r", "\n")))
        first = unicodedata.normalize("NFKC", value.lstrip()[:1])  # wide forms are formulas in some languages' Excel
        return "'" + value if first in FORMULA and not _number_like(value) else value
    return value


def _number_like(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
