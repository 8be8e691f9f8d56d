"""The JSON Schema of the results document: python -m tiltmeter.schema > docs/results.schema.json"""

from __future__ import annotations

import json
import math
from typing import Any

from tiltmeter.schema.results import Document


def text() -> str:
    """JSON Schema (2020-12) of what `tiltmeter results RUN --json` prints, as JSON text."""
    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Document.model_json_schema(by_alias=True, mode="validation"),
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
