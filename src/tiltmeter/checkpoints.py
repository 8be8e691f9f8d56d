"""Model name -> a local folder that is safe to load, and the hash of what lies in it.

A name is a folder or a hub id; a ready-made variant may also be a GGUF file, which is given a folder beside its base
(`tiltmeter.gguf_files`). Pickled weights are refused (they run code when opened) and only configuration, tokenizer,
safetensors and GGUF files are fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tiltmeter.artifacts import default_folder
from tiltmeter.errors import UserError
from tiltmeter.gguf_files.source import is_gguf

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


def resolve(model: str, base: str | None = None) -> Path:
    """The local folder of `model`, fetched from the hub when it is not a folder.

    base: the model that a ready-made checkpoint is compared with; a GGUF file cannot be read without it.
    Raises UserError for a folder without config, weights or tokenizer, for pickled weights, for a hub model that is
    absent, gated or out of reach, and for a GGUF file that cannot be read or was not made from `base`.
    """
    if is_gguf(model):
        from tiltmeter.gguf_files.beside import beside

        return beside(model, base)
    path = Path(model).expanduser()
    if not path.is_dir():
        if path.exists():
            raise UserError(f"{model} is a file; a model is a folder or a hub id", fix="name the folder that holds it")
        if model.startswith(("http://", "https://")):
            raise UserError(
                f"{model} is an address: a served model can be asked, but neither loaded nor timed here",
                fix="give a folder or hub id; endpoints belong to: tiltmeter compare BASE ADDRESS",
            )
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise UserError(
                f"there is no model folder {model!r}",
                fix="check the path, or give a hub id such as Qwen/Qwen3-0.6B",
            )
        path = _from_hub(model)
    check_folder(path, model)
    return path


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


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download

    with hub_mistakes(model):
        return Path(snapshot_download(model, allow_patterns=list(WANTED)))


@contextmanager
def hub_mistakes(model: str) -> Iterator[None]:
    """Turns what the hub refuses into UserErrors that name `model`."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    repository = "/".join(model.split(":")[0].split("/")[:2])
    try:
        yield
    except GatedRepoError:
        raise UserError(
            f"the hub model {model} is gated: its owner must give you access",
            fix=f"ask at https://huggingface.co/{repository}, then: hf auth login",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(
            f"there is neither a folder nor a hub model called {model!r}",
            fix="check the spelling; for a private model log in first: hf auth login",
        ) from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"the hub cannot be reached and {model} is not on this machine",
            fix="check the connection, or give the path of a local folder",
        ) from None
    except EntryNotFoundError:
        raise UserError(
            f"the hub repository {repository} has no such file: {model}",
            fix=f"choose one of those at https://huggingface.co/{repository}/tree/main",
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise UserError(
            f"fetching {model} from the hub failed: {type(error).__name__}: {str(error)[:200]}",
            fix="try again, or give the path of a local folder",
        ) from None


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
