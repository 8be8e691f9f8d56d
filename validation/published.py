"""`make published`: writes docs/published.md, the study's printed changes with what can be told of them."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

from validation.published_changes import changes, page

TARGET = Path(__file__).resolve().parent.parent / "docs" / "published.md"


def rows() -> list[dict[str, str]]:
    text = files("tiltmeter.results").joinpath("published.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


if __name__ == "__main__":
    TARGET.write_text(page(changes(rows())), encoding="utf-8")
    print(f"wrote {TARGET}")
