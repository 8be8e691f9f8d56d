"""The shared folder's data sets as `tiltmeter data fetch` would lay them out."""

from __future__ import annotations

import tempfile
from pathlib import Path


def linked(data: Path) -> Path:
    """One folder with links to all data sets, under the names that `tiltmeter data fetch` gives them."""
    folder = Path(tempfile.mkdtemp())
    for source in (*data.iterdir(), *(data / "extra").iterdir()):
        if source.is_dir() and source.name != "extra":
            (folder / source.name).mkdir(exist_ok=True)
            for file in source.iterdir():
                (folder / source.name / file.name.replace(".trimmed.csv", ".csv")).symlink_to(file.resolve())
    return folder


if __name__ == "__main__":
    import sys

    print(linked(Path(sys.argv[1])))
