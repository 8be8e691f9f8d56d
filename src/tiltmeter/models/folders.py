"""Model name -> a local folder that is safe to load, and the hash of what lies in it.

A name is a folder or a hub id; a ready-made variant may also be a GGUF file, which is given a folder beside its base
(`tiltmeter.models.formats.gguf`). Pickled weights are refused (they run code when opened) and only
configuration, tokenizer, safetensors and GGUF files are fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.models.artifacts import default_folder
from tiltmeter.models.weight_files import read_headers, weight_files

GGUF_LINK = "variant.gguf"  # the file itself, in the folder that stands for it
WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
DECIDES = (*WANTED[1:], "additional_chat_templates/*.jinja", GGUF_LINK)  # beside the weights
ADAPTER = (
    *(f"adapter*.{kind}" for kind in ("json", "safetensors", "bin", "pt", "npz")),
    "*lora*.safetensors",
    "*lora*.bin",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)

_seen: dict[tuple[tuple[str, int, int, int, int], ...], str] = {}


def check_folder(path: Path, model: str) -> None:
    """Raises UserError when the folder cannot be loaded safely and completely, as far as names of files tell."""
    adapter = next((file.name for pattern in ADAPTER for file in sorted(path.glob(pattern))), None)
    if adapter:
        raise UserError(
            f"{model} holds an adapter ({adapter}), which would not be applied",
            fix="merge it where you can load both: peft's merge_and_unload, then save_pretrained; name that folder "
            f"(without the adapter: take {adapter} out)",
        )
    if not (path / "config.json").is_file():
        other = "name the folder that save_pretrained wrote"
        if "gguf" in model.lower():
            other = f"name a file: {model}:Q4_K_M, or {model}/FILE.gguf"
        raise UserError(f"the model folder {model} has no config.json", fix=other)
    weight_files(path, model)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"the model folder {model} has no tokenizer",
            fix=f"copy the model's tokenizer files ({', '.join(TOKENIZER_FILES[:2])} …) into it",
        )


def _weights(path: Path) -> list[Path]:
    return [] if (path / GGUF_LINK).exists() else weight_files(path, str(path))


def weights_on_disk(path: Path) -> int:
    """Bytes of the folder's weight files."""
    return sum(file.stat().st_size for file in (*_weights(path), *path.glob(GGUF_LINK)))


def fingerprint_folder(path: Path) -> str:
    """SHA-256 over names and bytes of the files that decide an answer: weights, config, tokenizer, end tokens.

    The weights are the files that are loaded, wherever an index or a link puts them. Remembered in this process and
    in the cache folder by name, size, time in nanoseconds, inode and time of the last change to the inode, so that
    asking again costs no reading: putting an old time back (touch -r, cp -p, rsync) does not pass for the old file.
    """
    files = sorted({*_weights(path), *(file for pattern in DECIDES for file in path.glob(pattern))})
    return fingerprint_files(files, path)


def fingerprint_files(files: Sequence[Path], path: Path) -> str:
    """SHA-256 over the names below `path` and the bytes of `files`, in their order; remembered as above."""
    stamp = tuple(_stamp(file) for file in files)
    if stamp in _seen:
        return _seen[stamp]
    remembered = default_folder() / "fingerprints.json"
    stamp_id = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()
    known = _read_json(remembered)
    if stamp_id not in known:
        total = hashlib.sha256()
        for file in files:
            name = file.relative_to(path).as_posix()
            with file.open("rb") as stream:
                total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        known = {**_read_json(remembered), stamp_id: total.hexdigest()}
        _remember(remembered, known)
    _seen[stamp] = known[stamp_id]
    return _seen[stamp]


def _stamp(file: Path) -> tuple[str, int, int, int, int]:
    facts = file.stat()
    return str(file.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns


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
    return set(read_headers(shards, "the checkpoint"))
