"""One small damage to a file, by number: the same number does the same everywhere."""

from __future__ import annotations

import json
import random
from typing import Any

ODD: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 1e308, -0.5, "", "x" * 3000, "\x00\x1b[2J", "\u202e", "\ud800", "NaN",
    [], {}, [[]], {"": {}}, "none", "worse", "plain", "../../etc/passwd", [None] * 50,
]  # fmt: skip
BYTES = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"NaN",
    b"1e999",
    b"-Infinity",
    b"[" * 2000,
    b'"',
    b"\n",
    b"\r",
    b",",
    b"\\ud800",
    b"9" * 5000,
]


def mutated(content: bytes, number: int) -> bytes:
    """The content with one thing changed: a value of its JSON where it holds some, else some of its bytes."""
    rng = random.Random(f"fuzz-{number}")
    if number % 2 and content.lstrip()[:1] in (b"{", b"["):
        lines = content.splitlines(keepends=True) if b"}\n{" in content else [content]
        place = rng.randrange(len(lines))
        try:
            value = json.loads(lines[place])
        except ValueError:
            return _bytes(content, rng)
        lines[place] = json.dumps(_value(value, rng)).encode() + b"\n"
        return b"".join(lines)
    return _bytes(content, rng)


def _value(value: Any, rng: random.Random) -> Any:
    """The value with one of its parts replaced, removed, doubled or renamed."""
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.1:
        return rng.choice(ODD)
    if isinstance(value, dict):
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.1:
            return {**value, key + "x": value[key]}
        return {**value, key: _value(value[key], rng)}
    place = rng.randrange(len(value))
    if rng.random() < 0.2:
        return value[:place] + (
            value[place + 1 :] if rng.random() < 0.5 else value[place : place + 1] * 2 + value[place + 1 :]
        )
    return [*value[:place], _value(value[place], rng), *value[place + 1 :]]


def _bytes(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    end = min(len(content), start + rng.choice([0, 1, 1, 2, 8, 64]))
    kind = rng.randrange(5)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + bytes(rng.randrange(256) for _ in range(end - start)) + content[end:]
    if kind == 2:
        return content[:start] + content[end:]
    if kind == 3:
        return content[:end] + content[start:]
    return content[:start] + rng.choice(BYTES) + content[end:]
