"""Whether a checkpoint can be taken: whole, of the shapes that its configuration makes, fitting its tokenizer.

No weight is read. transformers loads the folder once onto the meta device, which opens the headers and nothing else,
with the names and conversions of its real loading; what it reports is then refused, not logged: a tensor that is
missing would be drawn at random, one that has no place would be dropped, scales of quantized weights among them.
What only running a model can show is `tiltmeter.models.sanity`'s.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.errors import UserError
from tiltmeter.models.folders import GGUF_LINK, OLD_SETTINGS, fingerprint_folder
from tiltmeter.models.quiet import held_back
from tiltmeter.models.weight_files import FETCH, Stored, check_index, read_headers, weight_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

FLOATS = ("F64", "F32", "F16", "BF16")  # safetensors' names of types that hold a weight in full
MASKS = ("attention.bias", "attn.bias", "masked_bias")  # of older models, kept beside the weights; nobody reads them
PACKED = ("scale", "scales", "weight_scale", "weight_scale_inv", "weight_packed", "qweight", "qzeros", "absmax", "SCB")
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
MERGE = "merge the adapter into the model first: peft's merge_and_unload, then save_pretrained"
LARGEST_SIZE = 10_000_000
ADAPTED = ("lora_", ".base_layer.", "ia3_", "modules_to_save")  # in peft's names of tensors
EXPERT = re.compile(r"(.+\.experts\.)(\d+)(\..+)")
MASKED = ("ForMaskedLM", "ForPreTraining")

_passed: set[str] = set()  # weight hashes: a folder is checked once in a process


def check_checkpoint(folder: Path, model: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises UserError, with file, layer and fix, for a checkpoint that cannot be taken as it is."""
    _check_vocabulary(model, config, tokenizer)
    _check_ends(folder, model, config)
    key = fingerprint_folder(folder)
    if key in _passed or (folder / GGUF_LINK).exists():  # a GGUF file is checked by its own reader
        return
    _check_kind(model, config)
    headers = read_headers(weight_files(folder, model), model)
    check_index(folder, model, headers)
    settings = quantization_settings(model, config)
    if settings.get("quant_method") and not _any_packed(settings, headers):
        raise UserError(
            f"{model}: config.json says that the weights are quantized ({str(settings['quant_method'])[:50]}), and "
            "every one is stored in full",
            fix="take quantization_config out of config.json, or fetch the quantized weights it belongs to",
        )
    old = any(name.endswith(".qweight") for name in headers) and any(
        (folder / name).is_file() for name in OLD_SETTINGS.values()
    )
    if (
        not old and str(settings.get("quant_method", "")).lower() not in OLD_SETTINGS
    ):  # converted before they are loaded
        _check_tensors(folder, model, config, headers, settings)
    _passed.add(key)


def _check_vocabulary(model: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Every id of the tokenizer needs a row of the embedding; a padding token alone is never asked for."""
    rows = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    beyond = {text for text, index in tokenizer.get_vocab().items() if rows is not None and index >= rows}
    if beyond - {str(tokenizer.pad_token)}:
        raise UserError(
            f"the tokenizer of {model} has {max(tokenizer.get_vocab().values()) + 1} entries, the model {rows}",
            fix="give the folder the tokenizer that the model was trained with",
        )


def _check_ends(folder: Path, model: str, config: PretrainedConfig) -> None:
    """An end token that the model cannot write would let every answer run to its limit."""
    rows = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    beyond = sorted(index for index in end_ids(folder, config) if rows is not None and not 0 <= index < rows)
    if beyond:
        raise UserError(
            f"{model}: eos_token_id {beyond[0]} is no token of the model, which has {rows}",
            fix="copy the model's own generation_config.json and config.json",
        )


def end_ids(folder: Path, config: Any) -> set[int]:
    """Ids that end a generation: of the generation config, else of the configuration."""
    from transformers import GenerationConfig

    try:
        ids = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:
        ids = None
    ids = ids if ids is not None else getattr(config, "eos_token_id", None)
    return set() if ids is None else set(ids) if isinstance(ids, list) else {ids}


def _check_kind(model: str, config: PretrainedConfig) -> None:
    """Sizes that can be a model's, and no masked language model, which sees the words that it is asked to guess."""
    text = config.get_text_config(decoder=True)
    for key in SIZES:
        value = getattr(text, key, None)
        if value is not None and not (isinstance(value, int) and 0 < value <= LARGEST_SIZE):
            raise UserError(
                f"{model}: config.json has {key} = {str(value)[:50]}", fix="copy the model's own config.json"
            )
    kinds = [str(kind) for kind in getattr(config, "architectures", None) or ()]
    masked = [kind for kind in kinds if kind.endswith(MASKED)]
    if masked and len(masked) == len(kinds) and not getattr(config, "is_decoder", False):
        raise not_causal(model, masked[0])


def not_causal(model: str, what: str) -> UserError:
    return UserError(
        f"{model} is no causal language model ({what}): it reads the tokens whose probability is asked",
        fix="give a model that writes from left to right, such as Llama, Qwen or Mistral",
    )


def _check_tensors(
    folder: Path, model: str, config: PretrainedConfig, headers: Mapping[str, Stored], settings: Mapping[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    if not settings:
        _check_experts(model, headers)
        whole = [name for name, tensor in headers.items() if is_packed(tensor) and not name.endswith(MASKS)]
        if whole:
            raise _dropped(model, whole, headers)
    try:
        with held_back():
            found = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype="float32",
                device_map={"": "meta"},
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # whatever a library makes of values that make no sense; loading will say it again
        if settings and isinstance(error, (ImportError, NotImplementedError, RuntimeError)):
            return  # a format whose library will not work on shapes alone: seen when it is loaded
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{model} makes no causal language model: {type(error).__name__}: {text[0][:300]}",
            fix="check its config.json; models that need remote code, and other kinds, are not supported",
        ) from None
    loaded, info = cast("tuple[PreTrainedModel, dict[str, list[str]]]", found)
    report(model, info, headers)
    if str(settings.get("quant_method", "")) == "compressed-tensors":
        shapes = {
            name: (module.out_features, module.in_features)
            for name, module in loaded.named_modules()
            if getattr(module, "in_features", None) is not None
        }
        for problem in _wrong_packing(settings, headers, shapes):
            raise UserError(f"{model}: {problem}", fix="correct quantization_config, or fetch the checkpoint again")


def _check_experts(model: str, headers: Mapping[str, Stored]) -> None:
    """Raises UserError for an expert that lacks a matrix the others have, or holds one of another shape: transformers
    stacks them and says only that it could not."""
    sets: dict[str, dict[str, dict[int, str]]] = {}
    for name in headers:
        if found := EXPERT.fullmatch(name):
            sets.setdefault(found[1], {}).setdefault(found[3], {})[int(found[2])] = name
    for layer, matrices in sets.items():
        numbers = {number for held in matrices.values() for number in held}
        for matrix, held in matrices.items():
            if missing := sorted(numbers - held.keys()):
                raise UserError(f"{model} lacks {layer}{missing[0]}{matrix}{_more(len(missing))}", fix=FETCH)
            usual, _ = Counter(headers[name].shape for name in held.values()).most_common(1)[0]
            for name in held.values():
                if headers[name].shape != usual:
                    raise UserError(
                        f"{model}: {_where(name, headers)} is {headers[name].shape}, other experts' are {usual}",
                        fix=FETCH,
                    )


def report(model: str, info: Mapping[str, Any], headers: Mapping[str, Stored] | None = None) -> None:
    """Raises UserError for what transformers' loading report (`output_loading_info`) says was not loaded as stored."""
    headers = headers or {}
    if info["mismatched_keys"]:
        name, stored, made = sorted(info["mismatched_keys"], key=str)[0]
        raise UserError(
            f"{model}: {_where(name, headers)} is {tuple(stored)}, where config.json makes it {tuple(made)}"
            + _more(len(info["mismatched_keys"])),
            fix="give the config.json that was saved with these weights, or fetch both again",
        )
    if info["missing_keys"]:
        name, *_ = missing = sorted(info["missing_keys"])
        others = sorted(each for each in info["unexpected_keys"] if each.endswith(tuple(f".{key}" for key in missing)))
        raise UserError(
            f"{model} lacks {name}{_more(len(missing))}: its configuration asks for weights that no file holds"
            + (f"; there is {others[0]}, under another prefix" if others else ""),
            fix=MERGE
            if any(part in each for each in info["unexpected_keys"] for part in ADAPTED)
            else "save it with save_pretrained, which writes the names its model class reads"
            if others
            else "fetch the whole checkpoint again, with the config.json that belongs to it",
        )
    if info["unexpected_keys"]:
        raise _dropped(model, sorted(info["unexpected_keys"]), headers)
    if info.get("error_msgs"):
        raise UserError(f"{model} cannot be loaded: {str(info['error_msgs'])[:300]}", fix=FETCH)


def _dropped(model: str, names: list[str], headers: Mapping[str, Stored]) -> UserError:
    """The refusal of tensors that the configuration has no place for, with the fix that fits their kind."""
    if any(part in name for name in names for part in ADAPTED):
        fix = MERGE
    elif any(name.endswith(PACKED) or (name in headers and is_packed(headers[name])) for name in names):
        fix = "these are quantized weights: put the quantization_config they were saved with into config.json"
    else:
        fix = "give the config.json that was saved with these weights, or take these tensors out of the file"
    return UserError(
        f"{model}: {_where(names[0], headers)}{_more(len(names))}: config.json makes a model without a place for that, "
        "which would be dropped",
        fix=fix,
    )


def _wrong_packing(
    settings: Mapping[str, Any], headers: Mapping[str, Stored], shapes: Mapping[str, tuple[int, int]]
) -> Iterator[str]:
    """Layers of a compressed-tensors checkpoint whose packed weights or scales are not what its settings say."""
    groups = list((settings.get("config_groups") or {}).values())
    if len(groups) != 1:
        return  # which layer has which scheme is the library's to say
    weights = groups[0].get("weights") or {}
    bits, size = weights.get("num_bits"), weights.get("group_size")
    for name, (n_out, n_in) in shapes.items():
        packed, scale = headers.get(f"{name}.weight_packed"), headers.get(f"{name}.weight_scale")
        if packed and settings.get("format") == "pack-quantized" and bits:
            words = -(-n_in * bits // 32)
            if packed.shape != (n_out, words):
                yield (
                    f"{packed.file.name}: {name} holds {packed.shape[-1]} words a row, where {n_in} inputs of "
                    f"{bits} bits make {words}"
                )
        if scale and weights.get("strategy") == "group" and size and scale.shape[-1] != -(-n_in // size):
            yield (
                f"{scale.file.name}: {name} has {scale.shape[-1]} scales a row, where {n_in} inputs in groups of "
                f"{size} make {-(-n_in // size)}"
            )


def _where(name: str, headers: Mapping[str, Stored]) -> str:
    return f"{headers[name].file.name}: {name}" if name in headers else name


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""


def quantization_settings(model: str, config: PretrainedConfig) -> dict[str, Any]:
    """The quantization settings of a configuration as plain values; {} where there are none."""
    settings = getattr(config, "quantization_config", None)
    if settings is None or isinstance(settings, dict):
        return settings or {}
    if getattr(settings, "to_json_string", None) is None:
        raise UserError(
            f"{model}: quantization_config in config.json is no set of settings: {str(settings)[:50]}",
            fix="copy the model's own config.json",
        )
    return dict(json.loads(settings.to_json_string(use_diff=False)))


def is_packed(tensor: Stored) -> bool:
    """Whether a matrix is stored as integers, bits or narrow floats."""
    return tensor.dtype not in FLOATS and len(tensor.shape) > 1


def _any_packed(settings: Mapping[str, Any], headers: Mapping[str, Stored]) -> bool:
    """Whether there is what quantization settings speak of: packed weights or scales; a scheme of the KV cache alone
    leaves the weights as they are."""
    if settings.get("kv_cache_scheme") and not settings.get("config_groups"):
        return True
    return any(is_packed(tensor) or name.endswith(PACKED) for name, tensor in headers.items())
