"""A model name -> the folder that holds it: a local folder, a hub download, a GGUF file beside its base."""

from __future__ import annotations

from pathlib import Path

from tiltmeter.errors import UserError
from tiltmeter.models.folders import check_folder
from tiltmeter.models.formats.gguf.alone import alone
from tiltmeter.models.formats.gguf.beside import beside
from tiltmeter.models.formats.gguf.source import is_gguf
from tiltmeter.models.hub import from_hub


def resolve(model: str, base: str | None = None) -> Path:
    """The local folder of `model`, fetched from the hub when it is not a folder.

    base: the model that a ready-made checkpoint is compared with; a GGUF file without one is read as far as it says
        enough (`formats.gguf.alone`).
    Raises UserError for a folder without config, weights or tokenizer, for pickled weights, for a hub model that is
    absent, gated or out of reach, and for a GGUF file that cannot be read, was not made from `base`, or says too
    little.
    """
    if is_gguf(model):
        return beside(model, base or model, resolve(base) if base else alone(model))
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
        path = from_hub(model)
    check_folder(path, model)
    return path
