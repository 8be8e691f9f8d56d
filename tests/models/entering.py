"""How a model enters, and how tests damage one."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tiltmeter.errors import UserError
from tiltmeter.models import reading
from tiltmeter.models.check import check_checkpoint
from tiltmeter.models.formats.awq_gptq import read_format
from tiltmeter.models.resolve import resolve

LAYER = "model.layers.1.mlp.down_proj.weight"


def enter(folder: Path) -> None:
    """What every command does with a model before it computes anything."""
    resolved = resolve(str(folder))
    read_format(resolved, "m")
    check_checkpoint(resolved, "m", reading.load_config(resolved, "m"), reading.load_tokenizer(resolved, "m"))


def change(folder: Path, edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def configure(folder: Path, file: str = "config.json", **values) -> None:
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | values))


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        enter(folder)
    assert caught.value.fix
    return str(caught.value)
