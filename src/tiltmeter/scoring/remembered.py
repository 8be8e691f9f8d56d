"""What a self-test found out about one model on one machine, kept so that it need not be found out again.

The outcome is a pure function of the weights, the strategy, the processor, the libraries and the engine's own code.
All of them are in the key: whatever changes, the variant is tested anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import torch

from tiltmeter.messages import as_json, from_json
from tiltmeter.models.artifacts import default_folder
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.methods import NAMES, Method, OneByOne, Padded, Trees, decodings
from tiltmeter.scoring.selftest import Choice

LIBRARIES = ("torch", "transformers", "numpy")


class Outcome(TypedDict):
    """The choice of a self-test, as JSON holds it."""

    method: str  # its English name
    notes: list[Any]  # messages as JSON


class Remembered:
    """The outcomes for one variant by kind of request ("scores", "generation"), in a file of their own."""

    def __init__(self, variant: LoadedVariant, folder: Path | None = None) -> None:
        key = json.dumps(_key(variant), sort_keys=True, default=str).encode()
        folder = folder or default_folder() / "selftests"
        self._path = folder / f"{hashlib.sha256(key).hexdigest()[:32]}.json"

    def get(self, what: str) -> Outcome | None:
        """The outcome; None for what was not tested, or cannot be read."""
        found = self._read().get(what)
        return found if isinstance(found, dict) else None

    def keep(self, what: str, outcome: Outcome) -> None:
        """Best effort: a folder that cannot be written costs another test, not the run."""
        draft = self._path.with_suffix(f".{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps({**self._read(), what: outcome}, ensure_ascii=False), encoding="utf-8")
            os.replace(draft, self._path)
        except OSError:
            draft.unlink(missing_ok=True)

    def _read(self) -> dict[str, Outcome]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def as_outcome(choice: Choice) -> Outcome:
    return {"method": str(choice.method.name), "notes": [as_json(note) for note in choice.notes]}


def restored(variant: LoadedVariant, outcome: Outcome) -> Choice | None:
    """The choice that an outcome stands for; None where no such method can be had."""
    makers: dict[str, Callable[[], Method]] = {
        **{str(NAMES[way]): partial(Trees, variant, sparse=True, decoding=way) for way in decodings(variant)},
        "prefix trees through the model's own attention": lambda: Trees(variant, sparse=False),
        str(Padded.name): lambda: Padded(variant),
        str(OneByOne.name): lambda: OneByOne(variant),
    }
    make = makers.get(outcome.get("method", ""))
    if make is None:
        return None
    try:
        method = make()
    except NotImplementedError:
        return None
    return Choice(method, tuple(from_json(note) for note in outcome.get("notes", ())))


def _key(variant: LoadedVariant) -> list[Any]:
    device = torch.device(variant.device)
    processor: list[Any]
    if device.type == "cuda":
        processor = [torch.cuda.get_device_name(device), torch.version.cuda]
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        processor = [_cpu(), capability, torch.get_num_threads(), os.environ.get("MKL_CBWR")]
    return [
        variant.weight_hash,
        variant.strategy,
        dict(variant.settings),
        variant.dtype,
        device.type,
        processor,
        [version(name) for name in LIBRARIES],
        _engine_code(),
    ]


@lru_cache(maxsize=1)
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


@lru_cache(maxsize=1)
def _engine_code() -> str:
    """A hash of the scoring package's sources."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
