"""The JSON Schema of the results document: python -m tiltmeter.schema > docs/results.schema.json"""

from __future__ import annotations

import ast
import inspect
import json
import math
import textwrap
from itertools import pairwise
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from tiltmeter.schema.results import Document


class Described(GenerateJsonSchema):
    """With the string below an attribute as its description. pydantic can do that by itself (use_attribute_docstrings),
    but at every import, where parsing the sources takes longer than all the rest."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        fields = schema["cls"].model_fields
        for parent in reversed(schema["cls"].__mro__):
            for name, told in docstrings(parent).items():
                field = fields.get(name)
                shown = found.get("properties", {}).get((field.alias or name) if field else name)
                if shown is not None:
                    shown.setdefault("description", told)
        return found


def docstrings(cls: type) -> dict[str, str]:
    """The strings below the annotated attributes of a class of this package."""
    if not cls.__module__.startswith("tiltmeter."):
        return {}
    [body] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(body, ast.ClassDef)
    return {
        attribute.target.id: inspect.cleandoc(below.value.value)
        for attribute, below in pairwise(body.body)
        if isinstance(attribute, ast.AnnAssign)
        and isinstance(attribute.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def text() -> str:
    """JSON Schema (2020-12) of what `tiltmeter results RUN --json` prints, as JSON text."""
    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Document.model_json_schema(by_alias=True, mode="validation", schema_generator=Described),
    }
    return json.dumps(_plain(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """NaN, the default of a number that is not known, as JSON writes it: null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    print(text(), end="")
