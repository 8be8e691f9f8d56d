"""Disk cache of what takes long to make: compressed checkpoints, calibrated scales, probe logits.

An artifact is a folder under ``<cache>/artifacts/`` named by the SHA-256 of its key (weight hash, steps with
their settings, calibration text, library versions). It is made in a partial folder and renamed when it is
complete, under a lock: a kill leaves nothing that looks finished, two processes make it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tiltmeter.errors import UserError

LIBRARIES = ("torch", "transformers", "compressed-tensors", "llmcompressor")
RECORD = "artifact.json"


@dataclass(frozen=True)
class Artifact:
    """One finished artifact.

    Attributes:
        path: its folder.
        key: what identifies it, JSON-ready.
        facts: what its maker recorded (achieved sparsity, layer names …).
        n_bytes: size on disk.
        made: UTC time of completion, ISO format.
    """

    path: Path
    key: Mapping[str, Any]
    facts: Mapping[str, Any]
    n_bytes: int
    made: str

    @property
    def title(self) -> str:
        """What it is, in a few words for a person."""
        if self.facts.get("title"):
            return str(self.facts["title"])
        steps = [str(self.key[name]) for name in ("strategy", "settings") if self.key.get(name)]
        weights = (*self.key.get("lineage", ()), str(self.key.get("weights", "")))[0]
        made_of = [f"of weights {weights[:8]}"] if weights else []
        return " ".join([str(self.key.get("kind", "artifact")), *steps, *made_of])


def default_folder() -> Path:
    """$TILTMETER_CACHE, else $XDG_CACHE_HOME/tiltmeter, else ~/.cache/tiltmeter."""
    named = os.environ.get("TILTMETER_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiltmeter"


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose change makes artifacts stale; "" where not installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


class Artifacts:
    """The cache in one folder. Any number of processes may use it."""

    def __init__(self, folder: Path | str | None = None) -> None:
        self.root = Path(folder) if folder else default_folder()
        self.folder = self.root / "artifacts"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write the cache folder {self.root}: {error.strerror}",
                fix="name another: export TILTMETER_CACHE=DIR",
            ) from None

    def get_or_make(self, key: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]) -> Artifact:
        """The artifact of `key`; made by ``make(empty folder) -> facts`` when it is not there yet.

        Whatever `make` raises passes through and leaves nothing behind. A second process that wants
        the same artifact waits for the first.
        """
        full_key = {**key, "libraries": library_versions()}
        digest = hashlib.sha256(json.dumps(full_key, sort_keys=True).encode()).hexdigest()[:32]
        final = self.folder / digest
        with FileLock(self.folder / f"{digest}.lock"):
            if not (final / RECORD).is_file():
                for stale in self.folder.glob(f"{digest}.partial*"):  # of a killed process: we hold the lock
                    shutil.rmtree(stale, ignore_errors=True)
                partial = self.folder / f"{digest}.partial-{os.getpid()}"
                partial.mkdir()
                try:
                    facts = make(partial)
                    record = {
                        "key": full_key,
                        "facts": dict(facts),
                        "made": datetime.now(UTC).isoformat(timespec="seconds"),
                    }
                    _write_synced(partial / RECORD, json.dumps(record, indent=1))
                    shutil.rmtree(final, ignore_errors=True)
                    partial.rename(final)
                except OSError as error:
                    shutil.rmtree(partial, ignore_errors=True)
                    if error.errno == 28:  # no space left on device
                        raise UserError(
                            f"the disk of the cache folder {self.root} is full",
                            fix="tiltmeter cache clear, or name another folder: export TILTMETER_CACHE=DIR",
                        ) from error
                    raise
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
            return _read(final)

    def entries(self) -> list[Artifact]:
        """All finished artifacts, newest first."""
        found = [
            _read(record.parent) for record in self.folder.glob(f"*/{RECORD}") if ".partial" not in record.parent.name
        ]
        return sorted(found, key=lambda artifact: artifact.made, reverse=True)

    def clear(self) -> tuple[int, int]:
        """Removes everything no process is making just now; returns (artifacts removed, bytes freed)."""
        count = freed = 0
        for folder in list(self.folder.iterdir()):
            if not folder.is_dir():
                continue
            lock = FileLock(self.folder / f"{folder.name.split('.')[0]}.lock")
            try:
                with lock.acquire(timeout=0):
                    freed += _size(folder)
                    count += ".partial" not in folder.name
                    shutil.rmtree(folder, ignore_errors=True)
            except Timeout:
                continue
        return count, freed


def _read(folder: Path) -> Artifact:
    record = json.loads((folder / RECORD).read_text())
    return Artifact(folder, record["key"], record["facts"], _size(folder), record["made"])


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _write_synced(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
