"""Fetching a dataset: each file is checked against its published hash, or locked at first, then put in place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from tiltmeter.datasets.catalogue import LOCK, DataFile, Dataset, datasets, locked_hash, read_lock
from tiltmeter.datasets.downloads import download
from tiltmeter.errors import UserError
from tiltmeter.files.whole import file_sha256
from tiltmeter.registry import build


def fetch(name: str | Dataset, folder: Path, progress: Callable[[int, int | None], None]) -> None:
    """Download one dataset's files into `folder`; files already there and right are left alone.

    progress(bytes so far, bytes in all or None) is called per file. Raises UserError when a download fails, when a file
    is not the published one (nothing is put in place then), or when another file already stands where it would go.
    """
    dataset = name if isinstance(name, Dataset) else _of(name)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".fetch.lock"):
        for file in dataset.files:
            target, expected = folder / file.path, file.sha256 or locked_hash(folder, file)
            if target.exists():
                if expected != file_sha256(target):
                    raise UserError(
                        f"{target} is there, and it is not the file this would fetch",
                        fix="move it away, or fetch into another folder with --data",
                    )
                progress(target.stat().st_size, target.stat().st_size)
                continue
            if file.unpack is not None:
                _fetch_and_unpack(file, target, progress)
            elif expected is not None:
                download(file.url, target, sha256=expected, progress=progress)
            else:
                _fetch_and_lock(dataset, file, folder, progress)


def _fetch_and_unpack(file: DataFile, target: Path, progress: Callable[[int, int | None], None]) -> None:
    """A file that is published inside another: that one's hash is checked first, then the hash of what came out."""
    assert file.unpack is not None
    packed = target.with_name(f"{target.name}.packed")
    download(file.url, packed, sha256=file.packed_sha256, progress=progress)
    draft = target.with_name(f".{target.name}.part")
    draft.write_bytes(file.unpack(packed.read_bytes()))
    packed.unlink()
    if file_sha256(draft) != file.sha256:
        draft.unlink()
        raise UserError(
            f"{file.url} did not unpack to {file.path} as it did before", fix="report this, with the version"
        )
    os.replace(draft, target)


def _fetch_and_lock(
    dataset: Dataset, file: DataFile, folder: Path, progress: Callable[[int, int | None], None]
) -> None:
    """First fetch of a file without a known hash: schema and row count decide, then its hash is locked."""
    target = folder / file.path
    unchecked = target.with_name(f"{target.name}.unchecked")  # its part waits beside it for a second call
    found = download(file.url, unchecked, sha256=None, progress=progress)
    with TemporaryDirectory(dir=folder, prefix=".first-fetch-") as waiting:
        staged = Path(waiting) / file.path
        staged.parent.mkdir(parents=True)
        os.replace(unchecked, staged)
        rows = len(build("benchmark", dataset.name).load(Path(waiting)))
        if rows != dataset.rows:
            raise UserError(
                f"{file.url} has {rows:,} rows, expected {dataset.rows:,}: it is not locked and not kept",
                fix=f"try again, or put the published file at {target} by hand",
            )
        lock = read_lock(folder) | {file.path: {"sha256": found, "url": file.url, "rows": rows}}
        draft = folder / f".{LOCK}.part"
        draft.write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(draft, folder / LOCK)  # before the file: a crash between the two only means one more download
        os.replace(staged, target)


def _of(name: str) -> Dataset:
    if name not in datasets():
        raise UserError(f"there is no dataset called {name!r}", fix=f"choose from: {', '.join(datasets())}")
    return datasets()[name]
