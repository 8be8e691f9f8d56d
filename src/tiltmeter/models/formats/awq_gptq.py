"""AWQ and GPTQ checkpoints in their own formats: what they are, and a copy that transformers can load.

transformers reads both through GPTQModel, which does not install beside the other libraries here. compressed-tensors
converts them without loading a model (`tiltmeter.models.formats.converters`): one shard in memory at a time,
integers and scales unchanged. The copy is an artifact in the cache, under the weight hash of the original; a variant
keeps being identified by the original.

What cannot be read is refused before anything is computed: layouts made for one kernel (AWQ gemv, Marlin), 3-bit
words, settings that differ by layer. GGUF files become loadable in `tiltmeter.models.formats.gguf`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import Message, say
from tiltmeter.models.converted import Converted
from tiltmeter.models.folders import OLD_SETTINGS, WANTED, tensor_names
from tiltmeter.models.formats.gguf.beside import facts_of
from tiltmeter.models.formats.gguf.weights import loadable_gguf
from tiltmeter.models.quiet import held_back
from tiltmeter.models.weight_files import INDEX, SINGLE, read_headers, weight_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tiltmeter.models.artifacts import Artifacts

BITS = {"awq": (4,), "gptq": (2, 4, 8)}
LAYOUTS = {"awq": ("gemm",), "gptq": ("gptq", "gptq_v2")}
READER = 1  # counts up when the conversion changes, so that older copies are not used


@dataclass(frozen=True)
class QuantizedFormat:
    """How a checkpoint says its weights are stored.

    Attributes:
        method: "awq" or "gptq".
        layout: "gemm", or "gptq" (zeros stored less one) or "gptq_v2".
        bits, group_size: of the integers; -1: one group per output.
        symmetric: zeros all lie in the middle of the range.
        act_order: GPTQ chose columns by activation (desc_act).
        producer: who wrote it ("gptqmodel:4.0.0"), "" where it does not say.
    """

    method: str
    layout: str
    bits: int
    group_size: int
    symmetric: bool
    act_order: bool
    producer: str

    @property
    def summary(self) -> Message:
        facts = {
            "layout": self.layout,
            "bits": self.bits,
            "groups": say("proof.groups_of", n=self.group_size)
            if self.group_size > 0
            else say("proof.group_per_output"),
            "kind": say("proof.symmetric" if self.symmetric else "proof.asymmetric"),
        }
        if self.method == "awq":
            return say("proof.format_awq", **facts)
        return say(
            "proof.format_gptq", **facts, order=say("proof.act_order" if self.act_order else "proof.no_act_order")
        )


@dataclass(frozen=True)
class Packed(Converted):
    """A copy of AWQ or GPTQ weights; of what they were, as `QuantizedFormat` has it."""

    format: QuantizedFormat
    dense_layers: int  # those that no packed layer could hold

    @property
    def how(self) -> Message:
        if not self.dense_layers:
            return say("proof.converted")
        packed = self.quantized_layers - self.dense_layers
        return say("proof.made_dense", n=self.dense_layers, rest=say("proof.the_others", n=packed) if packed else "")

    @property
    def figures(self) -> dict[str, object]:
        layers = {"quantized_layers": self.quantized_layers, "layer_names": self.layer_names}
        return {"summary": self.summary, **asdict(self.format), **layers, "dense_layers": self.dense_layers}


def read_format(folder: Path, model: str) -> QuantizedFormat | None:
    """The format of an AWQ or GPTQ checkpoint; None for every other. Raises UserError for one that cannot be read."""
    settings = _settings(folder)
    method = str(settings.get("quant_method", "")).lower()
    if method not in LAYOUTS:
        return None
    layout = _layout(settings, method)
    if layout not in LAYOUTS[method]:
        raise UserError(
            f"{model} is stored in {method.upper()}'s {layout!r} layout, which is made for one kernel",
            fix=f"save it in the layout {LAYOUTS[method][0]!r}, or let tiltmeter quantize the base: "
            f"tiltmeter run BASE -s {method}",
        )
    bits = int(settings.get("bits", settings.get("w_bit", 4)))
    if bits not in BITS[method]:
        raise UserError(
            f"{model} holds {bits}-bit {method.upper()} weights",
            fix=f"{' and '.join(map(str, BITS[method]))} bits can be read; or let tiltmeter quantize the "
            f"base: tiltmeter run BASE -s {method}",
        )
    if any(not str(rule).startswith("-") for rule in settings.get("dynamic") or ()):
        raise UserError(
            f"{model} has GPTQ settings that differ by layer (dynamic), which cannot be read",
            fix="quantize it with one setting for all layers",
        )
    if settings.get("pack_dtype", "int32") != "int32":
        raise UserError(f"{model} packs its weights in {settings['pack_dtype']} words", fix="save it with int32 words")
    producer = (settings.get("meta") or {}).get("quantizer", "")
    found = QuantizedFormat(
        method=method,
        layout=layout,
        bits=bits,
        group_size=int(settings.get("group_size", settings.get("q_group_size", 128)) or -1),
        symmetric=not settings.get("zero_point", True) if method == "awq" else bool(settings.get("sym", True)),
        act_order=bool(settings.get("desc_act", False)),
        producer=str(producer[0] if isinstance(producer, list) and producer else producer or ""),
    )
    _check_shapes(folder, model, found)
    return found


def _check_shapes(folder: Path, model: str, found: QuantizedFormat) -> None:
    """Raises UserError naming file and layer where packed weights, zeros and scales are not of one layout; see
    `converters` for it. From headers alone."""
    headers = read_headers(weight_files(folder, model), model)
    kinds = ("qweight", "qzeros", "scales")
    layers = dict.fromkeys(name.rpartition(".")[0] for name in headers if name.endswith(kinds))
    for layer in layers:
        parts = {kind: headers[f"{layer}.{kind}"] for kind in kinds if f"{layer}.{kind}" in headers}
        missing = [kind for kind in kinds if kind not in parts]
        optional = ["qzeros"] if found.method == "awq" else []  # AWQ without zero points
        if missing and missing != optional:
            problem = f"{layer} has no {missing[0]}"
        else:
            per_word = 32 // found.bits
            rows, columns = (*parts["qweight"].shape, 0, 0)[:2]
            n_in, n_out = (rows, columns * per_word) if found.method == "awq" else (rows * per_word, columns)
            groups = 1 if found.group_size <= 0 else -(-n_in // found.group_size)
            zeros = parts["qzeros"].shape if "qzeros" in parts else (groups, -(-n_out // per_word))
            if parts["scales"].shape == (groups, n_out) and zeros == (groups, -(-n_out // per_word)):
                continue
            problem = f"the tensors of {layer} do not fit {found.bits} bits in groups of {found.group_size}"
        raise UserError(
            f"{model}: {next(iter(parts.values())).file.name} cannot be read as {found.method.upper()}: {problem}",
            fix="correct quantization_config in config.json where it is wrong, or fetch the whole checkpoint again",
        )


def loadable(
    folder: Path,
    model: str,
    weights: str,
    dtype: str,
    artifacts: Artifacts,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Path, Converted | None]:
    """The folder to load and, where it is a converted copy, what was converted.

    weights: the weight hash of `folder`. Raises UserError for a checkpoint that does not hold what its settings say.
    """
    known = facts_of(folder)
    if known is not None:
        return loadable_gguf(folder, known, model, weights, dtype, artifacts, say)
    found = read_format(folder, model)
    if found is None:
        return folder, None

    def make(place: Path) -> Mapping[str, object]:
        say(f"converting {model} from {found.method.upper()} for loading")
        return {**_convert(folder, place, model, found, dtype), "title": f"{model} · {found.method}, for loading"}

    key = {
        "kind": "converted checkpoint",
        "weights": weights,
        "format": asdict(found),
        "dtype": dtype,
        "reader": READER,
    }
    artifact = artifacts.get_or_make(key, make)
    facts = artifact.facts
    layers, names = facts["quantized_layers"], facts["layer_names"]
    return artifact.path / "model", Packed(found.summary, found.method, layers, names, found, facts["dense_layers"])


def _convert(folder: Path, place: Path, model: str, found: QuantizedFormat, dtype: str) -> Mapping[str, object]:
    """Writes `place`/model and returns the facts of the conversion."""
    import shutil

    try:
        import torch
        from compressed_tensors.entrypoints.convert import convert_checkpoint
        from loguru import logger

        from tiltmeter.models.formats import converters
    except ImportError:
        raise missing_extra("compressed-tensors", "compress", f"reading {found.method.upper()} weights") from None
    logger.disable("compressed_tensors")
    names = tensor_names(_stage(folder, place / "source", model))
    layers = sorted(name.removesuffix(".qweight") for name in names if name.endswith(".qweight"))
    if not layers:
        raise UserError(
            f"{model} says that it is {found.method.upper()}, but holds no packed weights (qweight)",
            fix="fetch the whole checkpoint again, or remove quantization_config from its config.json",
        )
    reader: Any
    if found.method == "awq":
        reader = converters.AwqConverter(group_size=found.group_size, names=names)
    else:
        reader = converters.GptqConverter(
            bits=found.bits,
            group_size=found.group_size,
            v1=found.layout == "gptq",
            dtype=getattr(torch, dtype),
            borrows=found.producer.lower().startswith("gptqmodel"),
            names=names,
        )
    try:
        with held_back():
            convert_checkpoint(place / "source", place / "model", reader, device="cpu")
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{model} cannot be read as {found.method.upper()}: {error}",
            fix="quantize it anew with GPTQModel, format gptq_v2 (AWQ: format gemm), or let tiltmeter "
            f"quantize the base: tiltmeter run BASE -s {found.method}",
        ) from None
    shutil.rmtree(place / "source")
    return {"quantized_layers": len(layers), "layer_names": layers, "dense_layers": len(reader.dense)}


def _stage(folder: Path, place: Path, model: str) -> list[Path]:
    """Links to the files that are converted (no pickles, no stray shards); returns the weight files."""
    place.mkdir()
    index = folder / INDEX
    shards = weight_files(folder, model)
    for pattern in WANTED[1:]:
        for file in folder.glob(pattern):
            if file == index and shards == [folder / SINGLE]:
                continue  # an index beside the one file that is loaded
            (place / file.name).symlink_to(file.resolve())
    for shard in shards:  # old AutoGPTQ names its one file after bits and group size
        target = place / (SINGLE if len(shards) == 1 and not index.is_file() else shard.relative_to(folder))
        target.parent.mkdir(exist_ok=True, parents=True)
        target.symlink_to(shard.resolve())
    return shards


def _settings(folder: Path) -> Mapping[str, Any]:
    """`quantization_config` of the checkpoint; where config.json has none, the file that old versions wrote."""
    config = _json(folder / "config.json")
    if config.get("quantization_config"):
        settings = config["quantization_config"]
        if not isinstance(settings, dict):
            raise UserError(
                f"{folder / 'config.json'}: quantization_config is no set of settings: {str(settings)[:50]}",
                fix="copy the model's own config.json",
            )
        return settings
    for method, name in OLD_SETTINGS.items():
        settings = _json(folder / name)
        if settings and any(each.endswith(".qweight") for each in tensor_names(weight_files(folder, str(folder)))):
            return {"quant_method": method, **settings}
    return {}


def _layout(settings: Mapping[str, object], method: str) -> str:
    if settings.get("is_marlin_format"):
        return "marlin"
    keys = ("version", "checkpoint_format", "format") if method == "awq" else ("checkpoint_format", "format")
    return str(next((settings[key] for key in keys if settings.get(key)), LAYOUTS[method][0])).lower()


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
