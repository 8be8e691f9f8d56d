"""Files written whole: a reader sees the old one or the new one, and a link in a folder leads nowhere.

A pipe or a device (/dev/stdout, /dev/null, >(command)) is written to, never replaced: root could.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tiltmeter.errors import UserError

PART = ".part"  # ending of what is not finished yet


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it takes its name when all is on the disk. What a failure leaves behind is removed.

    A symbolic link of that name is replaced, not followed, unless it leads to a pipe or a device; so is one in the
    place of the unfinished file.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("wb") as out:
            yield out
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """The text as UTF-8, by `written_whole`."""
    content = text.encode("utf-8")
    with written_whole(path) as out:
        out.write(content)


def refuse_links(folder: Path) -> None:
    """Raises UserError for a symbolic link inside a folder that is about to be written."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise UserError(
                f"{path} is a symbolic link: nothing is written through one",
                fix="remove it, or give this run another --out",
            )


def remove_unfinished(folder: Path) -> None:
    """Removes what writers that were killed left behind. Only for the one process that may write there."""
    for path in folder.rglob(f".*{PART}"):
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
