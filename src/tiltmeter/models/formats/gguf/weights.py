"""The copy of a GGUF file that is loaded: every block turned into the weights it stands for, as safetensors.

transformers dequantizes with the `gguf` package, tensor by tensor in float32, undoes llama.cpp's order of rotary rows,
and casts to the run's type. The copy is an artifact in the cache under the hash of the original: dense, so as large as
the base in the run's type. A variant keeps being identified by the original.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import Message
from tiltmeter.models.converted import Converted
from tiltmeter.models.folders import GGUF_LINK
from tiltmeter.models.formats.gguf.beside import READER, GgufFacts
from tiltmeter.models.formats.gguf.header import BROKEN, PLAIN, package
from tiltmeter.models.formats.gguf.settings import as_type
from tiltmeter.models.quiet import held_back
from tiltmeter.models.reading import load_config

if TYPE_CHECKING:
    from tiltmeter.models.artifacts import Artifacts


@dataclass(frozen=True)
class Blocks(Converted):
    """A copy of a GGUF file's weights."""

    types: Mapping[str, int]  # tensors of each


def loadable_gguf(
    folder: Path,
    known: GgufFacts,
    model: str,
    weights: str,
    dtype: str,
    artifacts: Artifacts,
    say: Callable[[str], None],
) -> tuple[Path, Converted]:
    """(folder to load, what was converted) for the GGUF file that `folder` stands for.

    known: `beside.facts_of(folder)`; weights: its hash. Raises UserError for a file whose tensors do not fit its model.
    """
    package()

    def make(place: Path) -> Mapping[str, object]:
        say(f"converting {model} from GGUF for loading")
        _convert(folder, known.read_as, place / "model", model, dtype)
        return {"title": f"{model} · gguf, for loading"}

    key = {
        "kind": "converted checkpoint",
        "weights": weights,
        "format": "gguf",
        "dtype": dtype,
        "reader": READER,
        "gguf": version("gguf"),
    }
    artifact = artifacts.get_or_make(key, make)
    quantized = [name for name, kind in known.layers.items() if kind not in PLAIN]
    counts = ", ".join(f"{n} × {kind}" for kind, n in known.counts.items())
    summary = Message("proof.format_gguf", {"types": counts})
    return artifact.path / "model", Blocks(summary, "gguf", len(quantized), quantized, known.counts)


def _convert(folder: Path, read_as: str, place: Path, model: str, dtype: str) -> None:
    import torch
    import transformers

    config = as_type(load_config(folder, model), read_as)
    dense: dict[str, object] = {}
    packed = getattr(transformers, "GgufConfig", None)
    if packed:  # later versions can keep blocks for kernels of their own
        dense["quantization_config"] = packed(dequantize=True)
    try:
        with held_back():
            found = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file=GGUF_LINK,
                config=config,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
                trust_remote_code=False,
                local_files_only=True,
                **dense,
            )
    except (RuntimeError, NotImplementedError, *BROKEN) as error:
        text = str(error)
        if "out of memory" in text.lower() or "can't allocate" in text.lower():
            raise
        raise UserError(
            f"{model} cannot be read as the model it says it is: {text[:200]!r}",
            fix="fetch the file again, or name another",
        ) from None
    loaded, info = cast("tuple[Any, dict[str, list[str]]]", found)
    wrong = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in info[kind]]
    if wrong:
        raise UserError(
            f"{model} does not fit the model it says it is: {wrong[0]!r} and {len(wrong) - 1} more",
            fix="fetch the file again, or name another",
        )
    with held_back():
        loaded.save_pretrained(place)
    shutil.copyfile(folder / "config.json", place / "config.json")  # of the base's type
    (place / "generation_config.json").unlink(missing_ok=True)  # made of defaults; the base's own says when to end
    if (folder / "generation_config.json").is_file():
        shutil.copyfile(folder / "generation_config.json", place / "generation_config.json")
