"""The JSON Schema of a policy file, made from the same names and limits that read it.

For editors and pre-commit: `tiltmeter policy --schema` prints it, docs/policy.schema.json keeps it. What it cannot say
(whether a benchmark is installed, that a key stands twice) is said when the policy is read.
"""

from __future__ import annotations

import json
from dataclasses import fields

from tiltmeter.decisions.policy import AMOUNTS, CHOICES, SHARES, Limits

LARGEST = 1e300  # as policies are read: beyond it is no number
_AMOUNT = {"type": "number", "minimum": 0, "exclusiveMaximum": LARGEST}
_PATTERN = {"type": "string", "description": "a name; * and ? stand for any"}


def schema() -> dict[str, object]:
    """JSON Schema (2020-12) of what `read_policy` takes."""
    limits = {name: _limit(name) for name in (field.name for field in fields(Limits))}
    block = {"type": ["object", "null"], "additionalProperties": False, "properties": limits}
    patterns = {name: _PATTERN for name in ("strategy", "benchmark", "model", "format")}
    cell = {
        "type": "object",
        "additionalProperties": False,
        "required": ["strategy", "benchmark"],
        "properties": {**patterns, **limits},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tiltmeter policy",
        "description": "What a change of bias may be: tiltmeter gate RUN --policy FILE",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "default": {"$ref": "#/$defs/limits"},
            "benchmarks": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/limits"}},
            "cells": {"type": ["array", "null"], "items": cell},
            "ignore": {"type": ["array", "null"], "items": _PATTERN},
            "margins": {
                "type": ["object", "null"],
                "additionalProperties": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": LARGEST},
            },
        },
        "$defs": {"limits": block},
    }


def text() -> str:
    """The schema as JSON text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _limit(name: str) -> dict[str, object]:
    """What a limit of this name may be; one that no rule here knows is a mistake of this file."""
    if name in CHOICES:
        return {"enum": list(CHOICES[name])}
    if name in SHARES:
        return {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    if name in AMOUNTS:
        return {**_AMOUNT, "type": "number" if name == "exclude_harm_beyond" else ["number", "null"]}
    if name == "allow_partial":
        return {"type": "boolean"}
    if name == "groups":
        return {"type": ["object", "null"], "propertyNames": {"pattern": "="}, "additionalProperties": _AMOUNT}
    raise KeyError(name)
