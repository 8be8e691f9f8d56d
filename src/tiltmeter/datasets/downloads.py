"""Fetching one file over HTTP: resumed after an interruption, checked, put in place by an atomic rename.

What has come so far waits beside the target as ``.NAME.part`` (and its version as ``.NAME.etag``). The rest is asked
for with ``Range`` and ``If-Range``: a file that changed on the server starts anew instead of being glued together.
Where the server names no version, only a file with a known SHA-256 is continued: the checksum would find a wrong join.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tiltmeter.errors import UserError
from tiltmeter.files.whole import file_sha256

Progress = Callable[[int, int | None], None]
"""(bytes so far, bytes in all or None where the server does not say)"""

ATTEMPTS = 4
PAUSE_SEC = 1.0  # before the second attempt; doubled before each further one
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Interrupted(Exception):
    """The connection broke, or the server asked to come back later: what has come is kept."""


def download(url: str, target: Path, *, sha256: str | None, progress: Progress, pause_sec: float = PAUSE_SEC) -> str:
    """Put the file at `url` at `target` and return its SHA-256 (hex). `target` never holds a partial or wrong file.

    Raises UserError when the address cannot be reached or refuses, and when the content is not what `sha256` promises.
    The part that came before a broken connection is kept for the next call.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, version = _beside(target)
    with httpx.Client(follow_redirects=True, timeout=30.0) as client:
        continued = part.exists()
        while True:
            _receive_with_retries(client, url, target, sha256 is not None, progress, pause_sec)
            found = file_sha256(part)
            if sha256 in (None, found) or not continued:
                break
            part.unlink()  # an old part may be at fault: once more, from the first byte
            continued = False
    if sha256 is not None and found != sha256:
        part.unlink()
        version.unlink(missing_ok=True)
        raise UserError(
            f"{url} is not the published file: SHA-256 {found[:12]}…, expected {sha256[:12]}…",
            fix=f"try again; if it stays so, get the published file by hand and put it at {target}",
        )
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    version.unlink(missing_ok=True)
    return found


def _beside(target: Path) -> tuple[Path, Path]:
    """Where the part that has come, and the version it is of, are kept."""
    return target.with_name(f".{target.name}.part"), target.with_name(f".{target.name}.etag")


def _receive_with_retries(
    client: httpx.Client, url: str, target: Path, checked: bool, progress: Progress, pause_sec: float
) -> None:
    part, _ = _beside(target)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(client, url, target, checked, progress)
            return
        except (httpx.TransportError, _Interrupted) as error:
            if attempt == ATTEMPTS:
                kept = part.stat().st_size if part.exists() else 0
                again = "run the command again" + (f" (it continues after {kept:,} bytes)" if kept else "")
                raise UserError(
                    f"{url} could not be fetched: {error or type(error).__name__}",
                    fix=f"check the connection and {again}, or put the file at {target} by hand",
                ) from error
            time.sleep(pause_sec * 2 ** (attempt - 1))


def _receive(client: httpx.Client, url: str, target: Path, checked: bool, progress: Progress) -> None:
    """One request: continue the part where that is safe, else start anew. checked: a SHA-256 will judge the result."""
    part, version = _beside(target)
    etag = version.read_text() if version.exists() else ""
    have = part.stat().st_size if part.exists() and (etag or checked) else 0
    headers = {"Accept-Encoding": "identity"}  # compressed bytes could neither be counted nor continued
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": etag} if etag else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            version.unlink(missing_ok=True)
            raise _Interrupted("the server does not have the rest of the part that is here")
        if response.status_code in TRANSIENT:
            raise _Interrupted(f"the server answered {response.status_code}")
        if response.is_error:
            raise UserError(
                f"{url} answered {response.status_code} {response.reason_phrase}".rstrip(),
                fix=f"get the file by hand (tiltmeter data list shows its source) and put it at {target}",
            )
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        strong = response.headers.get("ETag", "")
        version.write_text("" if strong.startswith("W/") else strong)  # a weak tag does not promise equal bytes
        done = have
        progress(done, total)
        with open(part, "ab" if have else "wb") as file:
            for block in response.iter_bytes():
                file.write(block)
                done += len(block)
                progress(done, total)
        if total is not None and done != total:
            raise _Interrupted(f"{done:,} of {total:,} bytes came")
