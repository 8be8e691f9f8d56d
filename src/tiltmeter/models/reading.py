"""A folder -> config, tokenizer and model in memory, on a device, in a dtype; what cannot be read is refused."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tiltmeter.errors import UserError
from tiltmeter.models.check import report
from tiltmeter.models.library import import_models
from tiltmeter.models.quiet import held_back
from tiltmeter.models.sanity import check_runs
from tiltmeter.models.variant import LoadedVariant

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")
NO_LIMIT = 1_000_000  # tokens; models without a stated context length
READ_IN_BFLOAT16 = ("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized")  # compressed-tensors' formats
NOT_FROM_A_FILE = ("fusion_config", "transformers_weights")  # would change what code runs, or which file is opened

NO_DECODING = (  # of a generation configuration: they change no text, or are read elsewhere
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "transformers_version",
    "max_length",
    "max_new_tokens",
    "use_cache",
    "cache_implementation",
    "trust_remote_code",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "return_dict_in_generate",
)

Read = TypeVar("Read")


def release(variant: LoadedVariant) -> None:
    """Frees the model's memory; the variant cannot be asked afterwards."""
    import torch

    variant.model = None  # type: ignore[assignment]
    variant.new_cache = variant.generate = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pick_device(device: str) -> str:
    """The device that "auto" means here; UserError for a GPU that is not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UserError(f"unknown device {device!r}", fix="choose auto, cpu, cuda or cuda:N")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            raise UserError(
                f"device {device!r} was asked for, but torch sees {count or 'no'} GPU",
                fix="use --device cpu, or install a torch build for your GPU",
            )
    return device


def pick_dtype(dtype: str, device: str, config: Any) -> str:
    """The dtype a run's base has: as named, or by the rule of the module docstring."""
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}", fix=f"choose from: {', '.join(DTYPES)}")
    if dtype != "auto":
        return dtype
    own = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return "float32" if device == "cpu" or own not in DTYPES else own


def load_tokenizer(folder: Path, model: str) -> PreTrainedTokenizerBase:
    """The folder's tokenizer. Raises UserError when it cannot be read, or used, without remote code."""
    import_models()
    from transformers import AutoTokenizer

    def read() -> PreTrainedTokenizerBase:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        ids = tokenizer("Once upon a time", verbose=False)["input_ids"]
        if not ids or not all(isinstance(index, int) for index in ids):
            raise ValueError(f"it makes {str(ids)[:50]} of a text")
        return tokenizer  # type: ignore[no-any-return]

    return _read(
        read,
        f"the tokenizer of {model} cannot be loaded",
        "check its tokenizer files; tokenizers that need remote code are not supported",
    )


def load_model(folder: Path, dtype: str, device: str, **options: Any) -> PreTrainedModel:
    """The causal LM in `folder`, for evaluation, without gradients, after one forward (`sanity.check_runs`).

    Raises UserError when it cannot be read as it is stored, or cannot run.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config = load_config(folder, str(folder))
    _check_dtype(config, dtype, str(folder))
    try:
        with held_back():
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=getattr(torch, dtype),
                device_map={"": device},
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except ImportError as error:  # transformers names the package that this kind of checkpoint needs
        raise UserError(
            f"{folder} cannot be loaded here: {_first_line(error)}",
            fix="install the package it names, or give a checkpoint in compressed-tensors format",
        ) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be loaded: {_first_line(error)}", fix="fetch the checkpoint again") from None
    except ValueError as error:
        raise UserError(
            f"{folder} cannot be loaded as a causal language model: {_first_line(error)}",
            fix="models that need remote code, and other kinds of models, are not supported",
        ) from None
    model, info = cast("tuple[PreTrainedModel, dict[str, list[str]]]", loaded)
    report(str(folder), info)
    if "bitsandbytes" in sys.modules:  # by a strategy, or because the checkpoint itself is of that kind
        keep_plain_packing(model)
    model = model.eval().requires_grad_(False)
    with held_back():  # compressed-tensors' first forward unpacks the weights behind a progress bar
        check_runs(model, str(folder))
    return model


def _check_dtype(config: Any, dtype: str, name: str) -> None:
    """Raises UserError for formats whose weights are unpacked to bfloat16 whatever the model runs in, where the first
    forward would fail in another type."""
    settings = getattr(config, "quantization_config", None)
    kind = settings.get("format") if isinstance(settings, dict) else getattr(settings, "format", None)
    if kind in READ_IN_BFLOAT16 and dtype != "bfloat16":
        raise UserError(
            f"{name} holds weights in {kind} format, which are read in bfloat16 only, and this run is in {dtype}",
            fix="run its base and it in that type: add --dtype bfloat16",
        )


def own_decoding(model: PreTrainedModel, eos_ids: frozenset[int]) -> dict[str, object]:
    """Puts plain greedy decoding in the place of the checkpoint's generation settings, which a library's own `generate`
    would obey; returns those that would have changed a text."""
    from transformers import GenerationConfig

    plain = GenerationConfig().to_dict()
    theirs: dict[str, object] = getattr(model.generation_config, "to_dict", dict)()
    asked = {
        name: value
        for name, value in theirs.items()
        if value != plain.get(name) and value is not None and not name.startswith("_") and name not in NO_DECODING
    }
    ends = sorted(eos_ids)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0
    )
    return asked


def out_of_memory(model: str, device: str) -> UserError:
    return UserError(
        f"{model} does not fit into the memory of {device}",
        fix="use a smaller model, --dtype bfloat16, or another device; nothing half-made was kept",
    )


def load_config(folder: Path, model: str) -> Any:
    """The folder's configuration, without what would choose other code or files than ours: attention and expert
    kernels (the kernel loader fetches code from the hub), fusions, names of weight files.

    Raises UserError when it needs remote code or cannot be read.
    """
    import_models()
    from transformers import AutoConfig, PretrainedConfig

    def read() -> Any:
        config = AutoConfig.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation=None,
            experts_implementation=None,
        )
        config.get_text_config(decoder=True)
        for each in (config, *(part for part in vars(config).values() if isinstance(part, PretrainedConfig))):
            each._attn_implementation_internal = each._experts_implementation_internal = None
            for name in NOT_FROM_A_FILE:
                each.__dict__.pop(name, None)
        return config

    return _read(
        read,
        f"the configuration of {model} cannot be read",
        "check its config.json; architectures that need remote code are not supported",
    )


def _read(read: Callable[[], Read], what: str, fix: str) -> Read:
    """What `read` returns; whatever a library raises on a senseless file, Rust's panics included, is a UserError."""
    try:
        with held_back():
            return read()
    except (KeyboardInterrupt, SystemExit, MemoryError, UserError):
        raise
    except BaseException as error:
        raise UserError(f"{what}: {_first_line(error)}", fix=fix) from None


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    for holder in (model.generation_config, model.config, tokenizer):
        ids = getattr(holder, "eos_token_id", None)
        if ids is not None:
            return frozenset(ids if isinstance(ids, (list, tuple)) else [ids])
    return frozenset()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:300]


def keep_plain_packing(model: nn.Module) -> int:
    """Switches the AVX512-BF16 repacking off in every Linear4bit; returns how many there are.

    Must run before the first forward. Without it the trap of the module docstring closes.
    """
    import bitsandbytes as bnb

    layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)
