"""A folder that stands for a GGUF file: what the rest of tiltmeter expects of a checkpoint, except safetensors.

It holds the configuration (`settings`), links to the base's tokenizer, chat template and generation settings, a link
to the file itself, and what is known of the file without reading its weights. It lies in the cache folder, takes a few
kilobytes, and its hash (`checkpoints.fingerprint_folder`) is that of all this content: the variant is known by the file
and by the tokenizer that asks it, wherever either lies.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.difference import Difference
from tiltmeter.models.folders import GGUF_LINK, OLD_SETTINGS, WANTED
from tiltmeter.models.formats.gguf.header import PLAIN, package, read_header
from tiltmeter.models.formats.gguf.settings import configuration, linear_layers
from tiltmeter.models.formats.gguf.source import locate
from tiltmeter.models.formats.gguf.vocabulary import vocabulary_differences
from tiltmeter.models.reading import load_config, load_tokenizer

READER = 1  # counts up when what is made of a file changes
FACTS = "gguf.facts"  # JSON; no part of the hash


def beside(model: str, base: str, base_folder: Path) -> Path:
    """The folder that stands for GGUF file `model` beside `base`, made when it is not there yet.

    Raises UserError for a file that cannot be read, and for one that was not made from `base`.
    """
    file = locate(model)
    stamps = [
        (str(each.resolve()), each.stat().st_size, each.stat().st_mtime_ns)
        for each in (file, base_folder / "config.json", *_lent(base_folder))
    ]
    key = json.dumps([READER, _versions(), *stamps])
    place = Artifacts().root / "gguf" / hashlib.sha256(key.encode()).hexdigest()[:32]
    if not (place / FACTS).is_file():
        _make(place, file, model, base_folder, base)
    return place


@dataclass(frozen=True)
class GgufFacts:
    """What is known of a GGUF file without reading its weights."""

    read_as: str  # its model type in transformers
    counts: Mapping[str, int]  # tensors of each type
    layers: Mapping[str, str]  # linear layer -> type
    stored: tuple[str, ...]  # the floating-point types that its weights need
    differences: tuple[Difference, ...]  # from the base

    def as_json(self) -> Mapping[str, object]:
        return {**vars(self), "differences": [each.as_json() for each in self.differences]}


def facts_of(folder: Path) -> GgufFacts | None:
    """What is known of the GGUF file that `folder` stands for; None for every other folder."""
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    differences = tuple(Difference.from_json(each) for each in found["differences"])
    return GgufFacts(found["read_as"], found["counts"], found["layers"], tuple(found["stored"]), differences)


def _make(place: Path, file: Path, model: str, base_folder: Path, base: str) -> None:
    header = read_header(file, model)
    text_config = load_config(base_folder, base).get_text_config(decoder=True)
    tokenizer = load_tokenizer(base_folder, base)
    try:
        config, kind, changed = configuration(file, header, text_config, (model, base))
        layers = linear_layers(config, header, model)
        differences = vocabulary_differences(header, tokenizer)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # whatever a library makes of values that make no sense
        raise UserError(
            f"{model} says of itself what makes no model: {type(error).__name__}: {str(error)[:200]!r}",
            fix="fetch the file again, or name another",
        ) from error
    if changed:
        differences.append(Difference("architecture", say("differs.gguf_settings", changed=", ".join(changed))))
    stored = {PLAIN.get(kind, "float32") for name, kind in header.types.items() if len(header.shapes[name]) > 1}
    facts = GgufFacts(kind, header.counts, layers, tuple(sorted(stored)), tuple(differences))
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        settings = {**json.loads(config.to_json_string(use_diff=True)), "model_type": config.model_type}
        settings.pop("transformers_version", None)
        (partial / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
        for each in _lent(base_folder):
            (partial / each.name).symlink_to(each.resolve())
        (partial / GGUF_LINK).symlink_to(file.resolve())
        (partial / FACTS).write_text(json.dumps(facts.as_json()), encoding="utf-8")
        if not place.exists():  # another process may have been quicker
            partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _lent(base: Path) -> list[Path]:
    """The base's files that decide how a model is asked and when it ends: tokenizer, template, generation settings."""
    own = {"config.json", *OLD_SETTINGS.values()}
    found = {file for pattern in WANTED[1:] for file in base.glob(pattern)}
    return sorted(file for file in found if file.name not in own and not file.name.endswith(".index.json"))


def _versions() -> list[str]:
    from importlib.metadata import version

    package()
    return [version("gguf"), version("transformers")]
