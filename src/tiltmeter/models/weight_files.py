"""Which files of a folder hold the weights that are loaded, and what their headers say. No weight is read.

The choice is transformers' own: ``model.safetensors``, else the files that ``model.safetensors.index.json`` names. Only
these are read, hashed and checked; a file beside them (a pickle, a stray shard) is none of the model. An index may name
safetensors files inside its folder and nothing else: torch unpickles whatever has another ending.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from tiltmeter.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
FETCH = "fetch the file again: the whole checkpoint, with git-lfs or hf download"


@dataclass(frozen=True)
class Stored:
    """One tensor as a header describes it: safetensors' name of its type, its shape, and the file it lies in."""

    dtype: str
    shape: tuple[int, ...]
    file: Path


def weight_files(folder: Path, model: str) -> list[Path]:
    """The files that hold the weights, in name order. Raises UserError for none, pickles, and an index that lies."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).exists():
        return sorted(folder / name for name in _listed(folder / INDEX, model))
    found = sorted(file for file in folder.glob("*.safetensors") if not file.name.startswith("adapter_"))
    if len(found) == 1:  # old AutoGPTQ names its one file after bits and group size
        return found
    if found:
        raise UserError(f"{model} has several weight files and no {INDEX}", fix="fetch the whole checkpoint again")
    pickled = sorted(file.name for pattern in PICKLED for file in folder.glob(pattern))
    if pickled:
        raise UserError(
            f"{model} holds its weights as a pickle ({pickled[0]}), which could run code when opened",
            fix="convert it where you trust it: model.save_pretrained(folder, safe_serialization=True)",
        )
    raise UserError(f"the model folder {model} has no weights (*.safetensors)", fix=_other_folder(model))


def read_headers(files: Iterable[Path], model: str) -> dict[str, Stored]:
    """Tensor name -> what its file's header says. Raises UserError for a file that is no safetensors, or cut, and for a
    tensor that two files hold."""
    found: dict[str, Stored] = {}
    for file in files:
        header = _header(file, model)
        for name in header.keys() & found.keys():
            raise UserError(
                f"{model}: {name} stands in {found[name].file.name} and in {file.name}",
                fix="save the model again with save_pretrained into an empty folder",
            )
        found |= header
    return found


def check_index(folder: Path, model: str, headers: Mapping[str, Stored]) -> None:
    """Raises UserError where an index and the files it names hold different tensors: what it leaves out is not read."""
    if (folder / SINGLE).is_file() or not (folder / INDEX).exists():
        return
    listed: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
    for name, file in sorted(listed.items()):
        if name not in headers or headers[name].file != folder / file:
            there = f"; it stands in {headers[name].file.name}" if name in headers else ""
            raise UserError(f"{model}: {INDEX} names {name[:200]} in {file}, which does not hold it{there}", fix=FETCH)
    for name in sorted(headers.keys() - listed.keys()):
        raise UserError(f"{model}: {headers[name].file.name} holds {name[:200]}, which {INDEX} leaves out", fix=FETCH)


def _listed(index: Path, model: str) -> set[str]:
    """The file names in an index, checked one by one."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = set(content["weight_map"].values())
        dict(content["metadata"])  # transformers wants it
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{model}: {INDEX} is no index of weight files", fix=FETCH) from None
    if not names:
        raise UserError(f"{model}: {INDEX} names no weight file", fix=FETCH)
    for name in names:
        place = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
        if place.is_absolute() or ".." in place.parts or "\\" in name or place.suffix != ".safetensors":
            raise UserError(
                f"{model}: {INDEX} names {str(name)[:100]!r}, which is no safetensors file inside the folder",
                fix="only safetensors are read, pickles run code when opened: convert it where you trust it, "
                "model.save_pretrained(folder)",
            )
        if not (index.parent / place).is_file():
            raise UserError(f"{model} lacks {name}, which {INDEX} names", fix=FETCH)
    return names


def _header(file: Path, model: str) -> dict[str, Stored]:
    """Names, types and shapes of one safetensors file, whose length must be what its header says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(LARGEST_HEADER, size - 8):
                raise ValueError
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
        found = {
            str(name): Stored(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), file)
            for name, entry in header.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError):
        start = file.open("rb").read(200)
        what = "a git-lfs pointer, not the file it stands for" if b"git-lfs" in start else "no safetensors file, or cut"
        raise UserError(f"{model}: {file.name} is {what}", fix=FETCH) from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise UserError(f"{model}: {file.name} holds {size:,} of {expected:,} bytes", fix=FETCH)
    try:
        with safe_open(
            file, framework="numpy"
        ):  # types, shapes and places, as the library that will read them sees them
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{model}: {file.name} is damaged: {str(error)[:200]}", fix=FETCH) from None
    return found


def _other_folder(model: str) -> str:
    if "gguf" in model.lower():
        return f"name a file: {model}:Q4_K_M, or {model}/FILE.gguf"
    return "name the folder that save_pretrained wrote"
