"""The worked examples of the benchmarks beyond the paper's six, and a folder in which a run finds their data."""

from __future__ import annotations

import json
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden" / "benchmarks_extra.json"


def example(identity: str) -> dict:
    """{"given", "want"} of one worked example."""
    return next(e for e in json.loads(GOLDEN.read_text(encoding="utf-8"))["examples"] if e["id"] == identity)


def linked(extra: Path, folder: Path) -> Path:
    """Links to the real files under the names that `tiltmeter data fetch` gives them."""
    for source in extra.iterdir():
        target = folder / source.name
        target.mkdir(exist_ok=True)
        for file in source.iterdir():
            if file.is_file():
                name = file.name.replace(".trimmed.csv", ".csv")
                (target / name).symlink_to(file)
    return folder
