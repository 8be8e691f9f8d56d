"""Stored JSON -> typed facts, or one clear error with what to do: other versions, damaged or half copied files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tiltmeter.errors import UserError
from tiltmeter.schema.base import Stored

Kind = TypeVar("Kind", bound=Stored)


def load_json(path: Path, *, fix: str) -> Any:
    """The file's content; None when there is none. Raises UserError when it is no JSON or cannot be read."""
    if path.exists() and not path.is_file():  # a pipe in a folder from elsewhere would be waited for
        raise UserError(f"cannot read {path}: it is no file", fix=fix)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not complete JSON ({_short(error)})", fix=fix) from None


def read(kind: type[Kind], content: Any, *, where: str, fix: str, schema: str | None = None) -> Kind:
    """`content` as `kind`. `schema`: the version it must declare. Raises UserError that names the first misfit."""
    if not isinstance(content, dict):
        raise UserError(f"{where} holds no JSON object", fix=fix)
    found = content.get("schema")
    if schema is not None and found != schema:
        raise UserError(
            f"{where} is of {_version(found)}; this tiltmeter reads {schema}",
            fix=f"read it with the tiltmeter that wrote it, or: {fix}",
        )
    try:
        return kind.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise UserError(f"{where} does not fit: {_first(error)}", fix=fix) from None


def _version(found: Any) -> str:
    return f"version {str(found)[:60]!r}" if found is not None else "an unnamed version"


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is nested too deeply"
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"[:300]


def _short(error: Exception) -> str:
    return str(error)[:120]
