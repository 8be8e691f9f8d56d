"""Which GGUF file a name means: a path, a folder that holds one, or a file of a hub repository.

./model.Q4_K_M.gguf                 a file
./quantized/                        a folder with exactly one .gguf and no safetensors
org/repo-GGUF/model.Q4_K_M.gguf     a file of a hub repository
org/repo-GGUF:Q4_K_M                the one file of a hub repository with that tag in its name, as llama.cpp has it
"""

from __future__ import annotations

import re
from pathlib import Path

from tiltmeter.errors import UserError
from tiltmeter.models.hub import hub_mistakes

HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.gguf)", re.IGNORECASE)
HUB_TAG = re.compile(r"([\w.-]+/[\w.-]+):([\w.-]+)")
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
SHOWN = 8  # file names in a message


def is_gguf(model: str) -> bool:
    """Whether `model` names a GGUF file rather than a folder of safetensors or a hub id. Nothing is fetched."""
    path = Path(model).expanduser()
    if path.is_dir():
        return bool(_inside(path)) and not any(path.glob("*.safetensors"))
    return model.lower().endswith(".gguf") or (not path.exists() and HUB_TAG.fullmatch(model) is not None)


def locate(model: str) -> Path:
    """The file that `model` names, fetched from the hub where it lies there.

    Raises UserError for a file that is not there, a name that several files fit, a file in parts, and what the hub
    refuses.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        found = path / _only([file.name for file in _inside(path)], model, model.rstrip("/") + "/")
    elif path.exists():
        found = path
    elif model.startswith((".", "/", "~")) or not (HUB_FILE.fullmatch(model) or HUB_TAG.fullmatch(model)):
        raise UserError(
            f"there is no file {model!r}",
            fix="check the path; a file of the hub is org/repo/file.gguf, or org/repo:Q4_K_M",
        )
    else:
        found = _from_hub(model)
    _refuse_parts(found.name, model)
    return found


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf")


def _from_hub(model: str) -> Path:
    from huggingface_hub import hf_hub_download

    with hub_mistakes(model):
        named = HUB_FILE.fullmatch(model)
        if named:
            repository, name = named.groups()
        else:
            repository, tag = HUB_TAG.fullmatch(model).groups()  # type: ignore[union-attr]
            name = _only(_tagged(repository, tag), model, repository + "/")
        _refuse_parts(name, model)  # before gigabytes are fetched
        return Path(hf_hub_download(repository, name))


def _tagged(repository: str, tag: str) -> list[str]:
    """GGUF files of a repository with `tag` as a whole word of their name; those on this machine when it is offline."""
    import httpx
    from huggingface_hub import HfApi, snapshot_download

    try:
        names = HfApi().list_repo_files(repository)
    except (ConnectionError, httpx.TransportError):  # the first is also what HF_HUB_OFFLINE=1 raises
        folder = Path(snapshot_download(repository, allow_patterns=["*.gguf"], local_files_only=True))
        names = [str(file.relative_to(folder)) for file in folder.rglob("*")]
    word = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(tag)}(?![A-Za-z0-9_])", re.IGNORECASE)
    return sorted(name for name in names if name.lower().endswith(".gguf") and word.search(name))


def _only(names: list[str], model: str, before: str) -> str:
    """The one name; UserError where there are none, several, or the parts of one file."""
    if len(names) == 1:
        return names[0]
    if not names:
        raise UserError(f"there is no GGUF file for {model!r}", fix="name the file: org/repo/file.gguf")
    if all(PART.search(name) for name in names) and len({PART.sub("", name) for name in names}) == 1:
        _refuse_parts(names[0], model)
    listed = ", ".join(repr(name) for name in names[:SHOWN]) + (" …" if len(names) > SHOWN else "")
    raise UserError(f"{model} holds {len(names)} GGUF files ({listed})", fix=f"name one of them: {before}{names[0]}")


def _refuse_parts(name: str, model: str) -> None:
    part = PART.search(name)
    if part and int(part[2]) > 1:
        raise in_parts(model, int(part[2]), PART.sub("", Path(name).name))


def in_parts(model: str, n_parts: int, stem: str) -> UserError:
    """The error for a model that is spread over several GGUF files."""
    return UserError(
        f"{model} is one of {n_parts} parts of a split GGUF file, which cannot be read",
        fix=f"join them with llama.cpp and name the joined file: llama-gguf-split --merge "
        f"{stem}-00001-of-{n_parts:05d}.gguf {stem}.gguf",
    )
