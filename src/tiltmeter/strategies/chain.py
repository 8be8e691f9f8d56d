"""Strategy strings: ``wanda-2:4+int4:type=nf4+kv4`` -> a Chain, checked before anything is loaded.

Grammar: the longest registered name at the start (``wanda-2:4`` is a name), then optionally
``:key=value,…``; ``+`` chains, applied left to right, but goes on with a list where what follows names no strategy
(``w4a16:keep=0-3+29``); ``dtype:bfloat16`` is short for
``dtype:type=bfloat16``. The study's own names (``INT8``, ``WU`` …) are aliases.
"""

from __future__ import annotations

import keyword
import math
import typing
from dataclasses import MISSING, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from tiltmeter import registry
from tiltmeter.errors import UserError
from tiltmeter.messages import Text, join
from tiltmeter.schema.place import NONE, kind_of
from tiltmeter.strategies.base import RequestKind, Setting, Strategy

LARGEST = 2**31 - 1  # whole number that every library takes


@dataclass(frozen=True)
class Chain:
    """Strategies in the order they are applied; no parts: the base model."""

    parts: tuple[Strategy, ...]

    @property
    def canonical(self) -> str:
        """The one string for these settings: names as registered, defaults left out; "none" for the base."""
        return "+".join(_canonical(part) for part in self.parts) or NONE

    @property
    def settings(self) -> dict[str, dict[str, Setting]]:
        """Strategy name -> all its settings, defaults included."""
        return {part.name: part.settings for part in self.parts}

    @property
    def salt(self) -> str:
        """Text that changes batch composition and sampling seeds; "" unless the chain holds ``rerun``."""
        return "+".join(_canonical(part) for part in self.parts if part.redraws)

    @property
    def base_of(self) -> str | None:
        """For ``int8+rerun`` the chain whose noise it measures ("int8"; "none" for ``rerun``); else None."""
        if not self.salt:
            return None
        return Chain(tuple(part for part in self.parts if not part.redraws)).canonical

    @property
    def is_dtype_alone(self) -> bool:
        """Whether it is another floating-point type and nothing else, whose change stands in for noise."""
        return len(self.parts) == 1 and self.parts[0].acts_on == "dtype"

    @property
    def speed_is_real(self) -> typing.Literal[True] | Text:
        """True, or the sentence that stands where a speed would mislead."""
        return next((part.speed_is_real for part in self.parts if part.speed_is_real is not True), True)

    @property
    def calibrated(self) -> bool:
        """Whether any part looks at calibration text, so that its seed matters."""
        return any(part.calibrates for part in self.parts)

    def replicates(self, count: int) -> list[Chain]:
        """The chain under `count` calibration seeds, counted up from its own; itself alone if nothing calibrates.

        Replicates show how far the draw of calibration text moves a result; they are no extra hypotheses.
        """
        if not self.calibrated:
            return [self]
        return [
            Chain(
                tuple(
                    replace(part, **{"seed": int(part.settings["seed"]) + step}) if part.calibrates else part
                    for part in self.parts
                )
            )
            for step in range(count)
        ]

    @property
    def hypothesis(self) -> Chain:
        """The chain with its seeds at their defaults: replicates stand for one hypothesis."""
        defaults = {part: {f.name: f.default for f in fields(part)} for part in self.parts if part.seeded}
        return Chain(
            tuple(replace(part, **{"seed": defaults[part]["seed"]}) if part.seeded else part for part in self.parts)
        )

    @property
    def is_control(self) -> bool:
        """Anything measured again, or controls alone: int4+assisted accelerates, int4+rerun measures noise."""
        return any(part.redraws for part in self.parts) or (
            bool(self.parts) and all(part.is_control for part in self.parts)
        )

    def not_exercised(self, request_kind: RequestKind) -> Text | None:
        """Why none of the chain can have acted on such requests; None when some part can."""
        acting = [part for part in self.parts if not part.redraws]
        reasons = [part.not_exercised(request_kind) for part in acting]
        if not reasons or not all(reasons):
            return None
        return reasons[0] if len(reasons) == 1 else join("join.clauses", filter(None, reasons))

    def __str__(self) -> str:
        return self.canonical


def parse(text: str) -> Chain:
    """The chain that `text` names.

    Raises UserError for an unknown name (with the nearest), an unknown or impossible setting, and an
    order that cannot work (with the reason); nothing is loaded for that.
    """
    parts: list[Strategy] = []
    for piece in _pieces(text):
        part = _parse_part(piece, text)
        if part.is_base:
            continue
        if any(part.name == other.name for other in parts):
            raise UserError(f"{text!r} names {part.name} twice", fix=f"write {part.name} once")
        reason = part.cannot_follow(parts)
        if reason:
            raise UserError(
                f"{text!r} cannot work: {reason}",
                fix="run the parts as separate strategies, or another order",
            )
        parts.append(part)
    return Chain(tuple(parts))


def without_seed(strategy: str) -> str:
    """A canonical strategy with its calibration seeds at their defaults: replicates share one hypothesis."""
    return strategy if kind_of(strategy) == "checkpoint" else parse(strategy).hypothesis.canonical


def _pieces(text: str) -> list[str]:
    """What stands between the plus signs; what names no strategy goes on with the list that ends the piece before."""
    pieces: list[str] = []
    for piece in map(str.strip, text.split("+")):
        if pieces and piece and _named(piece) is None and _ends_in_a_list(pieces[-1]):
            pieces[-1] += f"+{piece}"
        else:
            pieces.append(piece)
    return pieces


def _named(piece: str) -> type[Strategy] | None:
    """The strategy whose name stands at the start."""
    lowered, names = piece.lower(), _names()
    found = [name for name in names if lowered == name or lowered.startswith(f"{name}:")]
    return names[max(found, key=len)] if found else None


def _ends_in_a_list(piece: str) -> bool:
    cls = _named(piece)
    last = piece.rpartition(",")[2].rpartition(":")[2].partition("=")[0].strip()
    return cls is not None and last in cls.lists


def _names() -> dict[str, type[Strategy]]:
    """Every name a user may type, aliases included, in lower case."""
    names: dict[str, type[Strategy]] = {}
    known: dict[str, type[Strategy]] = registry.known("strategy")
    for name, cls in known.items():
        for alias in (name, *cls.aliases):
            names[alias.lower()] = cls
    return names


def _parse_part(piece: str, whole: str) -> Strategy:
    names = _names()
    key = piece.partition("=")[0]
    bare = [cls for cls in names.values() if cls.bare and key in {f.name for f in fields(cls)}]
    piece = f"{bare[0].name}:{piece}" if bare and "=" in piece else piece
    lowered = piece.lower()
    name = max((n for n in names if lowered == n or lowered.startswith(n + ":")), key=len, default=None)
    if name is None:
        typed = piece.split(":")[0] or whole
        near = get_close_matches(lowered, names, n=1) or get_close_matches(typed.lower(), names, n=1)
        raise UserError(
            f"there is no strategy called {typed!r}",
            fix=f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(registry.known('strategy'))}",
        )
    cls = names[name]
    types = typing.get_type_hints(cls)
    settings: dict[str, Setting] = {}
    for assignment in filter(None, piece[len(name) + 1 :].split(",")):
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals and cls.shorthand:
            key, value = cls.shorthand, assignment.strip()
        elif not equals:
            raise UserError(f"{cls.name}: {assignment!r} is no setting", fix=f"write {cls.name}:key=value")
        key = f"{key}_" if keyword.iskeyword(key) else key
        known = [f.name for f in fields(cls)]
        if key not in known:
            near = get_close_matches(key, known, n=1)
            listed = f"its settings are: {', '.join(map(_typed, known))}" if known else "it has no settings"
            raise UserError(f"{cls.name} has no setting {key!r}", fix=f"did you mean {near[0]!r}?" if near else listed)
        settings[key] = _convert(cls.name, key, value, types[key])
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in settings]
    if missing:
        choices = typing.get_args(types[missing[0]])
        example = choices[0] if choices else "…"
        raise UserError(
            f"{cls.name} needs its setting {missing[0]!r}",
            fix=f"for instance {cls.name}:{missing[0]}={example}",
        )
    return cls(**settings)


def _convert(strategy: str, key: str, value: str, kind: Any) -> Any:
    """`value` as the type of the field; UserError when it is none."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        if value not in choices:
            raise UserError(
                f"{strategy}: {_typed(key)}={value!r} is not possible",
                fix=f"choose from: {', '.join(map(str, choices))}",
            )
        return value
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise UserError(
                f"{strategy}: {key} is true or false, got {value!r}", fix=f"write {key}=true or {key}=false"
            )
        return value.lower() == "true"
    if kind is str:
        return value
    try:
        number = kind(value)
        if not math.isfinite(number) or (kind is int and abs(number) > LARGEST):
            raise ValueError
        return number
    except (ValueError, OverflowError):
        noun = f"a whole number up to {LARGEST:,}" if kind is int else "a finite number"
        raise UserError(
            f"{strategy}: {key} is {noun}, got {value!r}",
            fix="see the settings with: tiltmeter list strategies",
        ) from None


def _typed(field: str) -> str:
    """The setting as it is typed: Python has no field called from."""
    return field.rstrip("_")


def _canonical(part: Strategy) -> str:
    changed = [(f.name, getattr(part, f.name)) for f in fields(part) if getattr(part, f.name) != f.default]
    if not changed:
        return part.name
    if [name for name, _ in changed] == [part.shorthand]:
        return f"{part.name}:{changed[0][1]}"
    texts = (f"{_typed(name)}={str(value).lower() if isinstance(value, bool) else value}" for name, value in changed)
    return f"{part.name}:{','.join(texts)}"
