"""Model name -> a local folder that is safe to load, and the hash of what lies in it.

A name is a folder or a hub id; a ready-made variant may also be a GGUF file, which is given a folder beside its base
(`tiltmeter.models.formats.gguf`). Pickled weights are refused (they run code when opened) and only
configuration, tokenizer, safetensors and GGUF files are fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

import hashlib
import os

from tiltmeter.models.artifacts import default_folder

GGUF_LINK = "variant.gguf"  # the file itself, in the folder that stands for it
WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)

_seen: dict[tuple[tuple[str, int, int], ...], str] = {}


def check_folder(path: Path, model: str) -> None:
    """Raises UserError when the folder cannot be loaded safely and completely."""
    other = "name the folder that save_pretrained wrote"
    if "gguf" in model.lower():
        other = f"name a file: {model}:Q4_K_M, or {model}/FILE.gguf"
    if not (path / "config.json").is_file():
        raise UserError(f"the model folder {model} has no config.json", fix=other)
    if not any(path.glob("*.safetensors")):
        pickled = [file.name for pattern in PICKLED for file in path.glob(pattern)]
        if pickled:
            raise UserError(
                f"{model} holds its weights as a pickle ({pickled[0]}), which could run code when opened",
                fix="convert it where you trust it: model.save_pretrained(folder, safe_serialization=True)",
            )
        raise UserError(
            f"the model folder {model} has no weights (*.safetensors)",
            fix=other,
        )
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"the model folder {model} has no tokenizer",
            fix=f"copy the model's tokenizer files ({', '.join(TOKENIZER_FILES[:2])} …) into it",
        )


def weights_on_disk(path: Path) -> int:
    """Bytes of the folder's weight files."""
    return sum(file.stat().st_size for pattern in ("*.safetensors", GGUF_LINK) for file in path.glob(pattern))


def fingerprint_folder(path: Path) -> str:
    """SHA-256 over names and bytes of the files that decide an answer: weights, config, tokenizer, end tokens.

    Remembered by file name, size and modification time, in this process and in the cache folder, so
    that asking again costs no reading.
    """
    files = sorted(file for pattern in (*WANTED, GGUF_LINK) for file in path.glob(pattern))
    stamp = tuple((str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    if stamp in _seen:
        return _seen[stamp]
    remembered = default_folder() / "fingerprints.json"
    stamp_id = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()
    known = _read_json(remembered)
    if stamp_id not in known:
        total = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                total.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        known = {**_read_json(remembered), stamp_id: total.hexdigest()}
        _remember(remembered, known)
    _seen[stamp] = known[stamp_id]
    return _seen[stamp]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def _remember(path: Path, known: dict[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(known))
        temporary.replace(path)
    except OSError:
        pass  # only speed is lost: the hash is computed again next time


OLD_SETTINGS = {"gptq": "quantize_config.json", "awq": "quant_config.json"}  # where old versions wrote them


def tensor_names(shards: Iterable[Path]) -> set[str]:
    """The names of all tensors in safetensors files, from their headers."""
    from safetensors import safe_open

    names: set[str] = set()
    for shard in shards:
        with safe_open(shard, framework="numpy") as file:
            names.update(file.keys())
    return names
