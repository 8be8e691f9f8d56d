"""A model name and a strategy chain -> a LoadedVariant, with proof of what the strategy did.

dtype       "auto" is float32 on a CPU and the checkpoint's own type on a GPU; base and variants of a run
            get the same, unless the chain says ``dtype:…``. What ran is in ``LoadedVariant.dtype``.
Safety      remote code stays off, pickled weights are refused (`tiltmeter.checkpoints`).
Memory      one copy of the model at a time: the base's probe logits come from disk or are made, and the base
            released, before the variant is loaded.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tiltmeter.artifacts import Artifacts
from tiltmeter.checkpoints import fingerprint_folder, resolve, weights_on_disk
from tiltmeter.errors import UserError
from tiltmeter.quantized_formats import how_converted, loadable
from tiltmeter.scoring.variant import LoadedVariant
from tiltmeter.strategies import _bitsandbytes
from tiltmeter.strategies._quiet import held_back
from tiltmeter.strategies.base import Context, DidNothing, LoadFailed
from tiltmeter.strategies.chain import Chain

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")
NO_LIMIT = 1_000_000  # tokens; models without a stated context length


def load(
    model: str,
    chain: Chain,
    *,
    device: str = "auto",
    dtype: str = "auto",
    base: str | None = None,
    calibration: str | None = None,
    seed: int = 0,
    cache_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> LoadedVariant:
    """`model` (folder or hub id) under `chain`, in memory, proven to have been acted on.

    Args:
        device: "auto" (a GPU when there is one), "cpu", "cuda", "cuda:N".
        dtype: "auto", "float32", "bfloat16", "float16"; see the module.
        base: the model that a ready-made checkpoint is compared with; a GGUF file is read beside it.
        calibration: text file (or data set name) for strategies that calibrate.
        seed: the run's seed, from which calibration draws derive theirs.
        cache_dir: where compressed checkpoints are kept.
        progress: gets one line per step that may take long.
    Raises: UserError for what the user can repair; DidNothing when the strategy left the model unchanged;
        LoadFailed when a library failed.
    """
    say = progress or (lambda line: None)
    context = _context(model, chain, device, dtype, calibration, Artifacts(cache_dir), say, seed, base)
    original = context.checkpoint
    device, base_dtype = context.device, context.base_dtype
    acts = any(part.role in ("dtype", "pruning", "weights", "cache") for part in chain.parts)
    try:
        for part in chain.parts:
            part.check(context)
        context.checkpoint, context.found["converted"] = loadable(
            context.checkpoint, model, context.lineage[0], base_dtype, context.artifacts, say
        )
        for part in chain.parts:
            part.before_loading(context)
        probe = base_probe(model, device, base_dtype, context.artifacts, say) if acts else None
        options: dict[str, Any] = {}
        for part in chain.parts:
            options |= part.loading_options(context)
        say(f"loading {model} under {chain.canonical}")
        variant = _variant(context, model, chain, options)
        for part in chain.parts:
            part.after_loading(variant, context)
        variant.notes[:0] = context.notes
        _prove(variant, chain, context, probe, original)
    except MemoryError as error:
        raise out_of_memory(model, device) from error
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            raise out_of_memory(model, device) from error
        raise LoadFailed(f"{chain.canonical}: {type(error).__name__}: {_first_line(error)}") from error
    except (UserError, DidNothing, LoadFailed):
        raise
    except Exception as error:
        raise LoadFailed(f"{chain.canonical}: {type(error).__name__}: {_first_line(error)}") from error
    return variant


def compressed(
    model: str,
    chain: Chain,
    *,
    device: str,
    dtype: str,
    calibration: str | None,
    seed: int,
    progress: Callable[[str], None],
) -> Context:
    """The checkpoint that `chain` makes of `model`, for an engine that loads folders itself: `Context.checkpoint`.

    Every part must act by its checkpoint (`Strategy.makes_checkpoint`) or by the dtype. Raises as `load` does.
    """
    context = _context(model, chain, device, dtype, calibration, Artifacts(), progress, seed)
    try:
        for part in chain.parts:
            part.check(context)
        for part in chain.parts:
            part.before_loading(context)
    except RuntimeError as error:
        raise LoadFailed(f"{chain.canonical}: {type(error).__name__}: {_first_line(error)}") from error
    return context


def refusals(
    model: str, chains: Iterable[Chain], *, device: str, dtype: str, calibration: str | None
) -> dict[str, UserError]:
    """Canonical chain -> what `load` would say, for those it would refuse; as far as no weight need be read."""
    context = _context(model, Chain(()), device, dtype, calibration, Artifacts(), lambda line: None, 0)
    found = {}
    for chain in chains:
        try:
            for part in chain.parts:
                part.check(replace(context, dtype=_dtype_of(chain, context.base_dtype)))
        except UserError as error:
            found[chain.canonical] = error
    return found


def _dtype_of(chain: Chain, base: str) -> str:
    return next((part.settings["type"] for part in chain.parts if part.role == "dtype"), base)


def _context(
    model: str,
    chain: Chain,
    device: str,
    dtype: str,
    calibration: str | None,
    artifacts: Artifacts,
    say: Callable[[str], None],
    seed: int,
    base: str | None = None,
) -> Context:
    device = pick_device(device)
    folder = resolve(model, base)
    config = load_config(folder, model)
    base_dtype = pick_dtype(dtype, device, config)
    return Context(
        model=model,
        checkpoint=folder,
        config=config,
        tokenizer=load_tokenizer(folder, model),
        device=device,
        dtype=_dtype_of(chain, base_dtype),
        base_dtype=base_dtype,
        calibration=calibration,
        artifacts=artifacts,
        lineage=(fingerprint_folder(folder),),
        progress=say,
        seed=seed,
    )


def fingerprint(model: str, base: str | None = None) -> str:
    """SHA-256 of the checkpoint's weights, config and tokenizer; remembered, so cheap to ask again."""
    return fingerprint_folder(resolve(model, base))


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
    """The folder's tokenizer. Raises UserError when it cannot be read without remote code."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)  # type: ignore[no-any-return]
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"the tokenizer of {model} cannot be loaded: {_first_line(error)}",
            fix="check its tokenizer files; tokenizers that need remote code are not supported",
        ) from None


def load_model(folder: Path, dtype: str, device: str, **options: Any) -> PreTrainedModel:
    """The causal LM in `folder`, for evaluation, without gradients. Raises UserError when it cannot be read."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        with held_back():  # progress bars; what transformers logs still comes through
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
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
    model, info = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    if info["missing_keys"]:
        raise UserError(
            f"{folder} lacks weights that its configuration asks for: {sorted(info['missing_keys'])[0]}"
            f" and {len(info['missing_keys']) - 1} more",
            fix="fetch the whole checkpoint again",
        )
    if "bitsandbytes" in sys.modules:  # by a strategy, or because the checkpoint itself is of that kind
        _bitsandbytes.keep_plain_packing(model)
    model = model.eval().requires_grad_(False)
    if getattr(model.config, "quantization_config", None) is not None:
        _unpack_quietly(model)
    return model


def out_of_memory(model: str, device: str) -> UserError:
    return UserError(
        f"{model} does not fit into the memory of {device}",
        fix="use a smaller model, --dtype bfloat16, or another device; nothing half-made was kept",
    )


def load_config(folder: Path, model: str) -> Any:
    """The folder's configuration. Raises UserError when it needs remote code or cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the configuration of {model} cannot be read: {_first_line(error)}",
            fix="architectures that need remote code are not supported",
        ) from None


def _variant(context: Context, model: str, chain: Chain, options: dict[str, Any]) -> LoadedVariant:
    loaded = load_model(context.checkpoint, context.dtype, context.device, **options)
    text_config = context.config.get_text_config(decoder=True)
    return LoadedVariant(
        model_name=model,
        strategy=chain.canonical,
        model=loaded,
        tokenizer=context.tokenizer,
        device=context.device,
        dtype=context.dtype,
        eos_ids=_eos_ids(loaded, context.tokenizer),
        max_length=int(getattr(text_config, "max_position_embeddings", None) or NO_LIMIT),
        weight_hash=context.lineage[0],
        settings=chain.settings,
    )


def _unpack_quietly(model: PreTrainedModel) -> None:
    """The first forward of a compressed-tensors model unpacks its weights behind a progress bar: have it now."""
    import torch

    if "compressed" in str(getattr(model.config.quantization_config, "quant_method", "")).lower():
        with held_back(), torch.inference_mode():
            model(torch.zeros((1, 1), dtype=torch.long, device=model.device))


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    for holder in (model.generation_config, model.config, tokenizer):
        ids = getattr(holder, "eos_token_id", None)
        if ids is not None:
            return frozenset(ids if isinstance(ids, (list, tuple)) else [ids])
    return frozenset()


def base_probe(
    model: str, device: str, dtype: str, artifacts: Artifacts, say: Callable[[str], None] = lambda line: None
) -> Tensor:
    """Probe logits of the unchanged model, from the cache when they were ever computed; see `strategies._probes`."""
    from safetensors.torch import load_file, save_file

    from tiltmeter.strategies._probes import TAIL, TEXTS, probe_logits

    folder = resolve(model)

    def make(place: Path) -> dict[str, Any]:
        say(f"loading {model} for its probe answers")
        readable, _ = loadable(folder, model, fingerprint_folder(folder), dtype, artifacts, say)
        loaded = load_model(readable, dtype, device)
        save_file({"logits": probe_logits(loaded, load_tokenizer(folder, model))}, place / "probe.safetensors")
        return {"title": f"{model} · answers to the probe prompts"}

    key = {
        "kind": "probe logits",
        "weights": fingerprint_folder(folder),
        "dtype": dtype,
        "device": device.split(":")[0],
        "texts": [*TEXTS, TAIL],
    }
    return load_file(artifacts.get_or_make(key, make).path / "probe.safetensors")["logits"]


def _prove(variant: LoadedVariant, chain: Chain, context: Context, before: Tensor | None, original: Path) -> None:
    """Fills `variant.proof`; raises DidNothing when no probe logit changed. original: the folder before conversion."""
    from tiltmeter.strategies._probes import probe_logits

    steps = {part.name: part.prove(variant, context) for part in chain.parts}
    proof: dict[str, Any] = {
        "dtype": variant.dtype,
        "device": variant.device,
        "steps": steps,
        "checkpoint_bytes": weights_on_disk(context.checkpoint),
    }
    if context.found["converted"]:  # what lies on disk is the original, the copy is for loading only
        proof["converted"] = context.found["converted"]
        if not chain.parts:
            proof["checkpoint_bytes"] = weights_on_disk(original)
    lines = [f"{name}: {step['summary']}" if len(steps) > 1 else step["summary"] for name, step in steps.items()]
    lines = lines or ["the base model, unchanged"]
    if context.found["converted"]:
        lines.append(how_converted(context.found["converted"]))
    if before is not None:
        now = probe_logits(variant.model, variant.tokenizer, variant.new_cache)
        if not bool(now.isfinite().all()):
            variant.notes.append("the model returns NaN or infinite logits on probe prompts")
            lines.append("logits on probe prompts are not finite")
            proof["largest_logit_change"] = None
        else:
            change = (now - before).abs()
            proof["largest_logit_change"] = float(change.max())
            proof["mean_logit_change"] = float(change.mean())
            if proof["largest_logit_change"] == 0.0:
                raise DidNothing(f"{chain.canonical} changed no logit on the probe prompts")
            _compare_with_saved(now, chain, context, proof)
            lines.append(f"largest logit change on probe prompts {proof['largest_logit_change']:.2g}")
    variant.proof = {"summary": "; ".join(lines), **proof}


def _compare_with_saved(now: Tensor, chain: Chain, context: Context, proof: dict[str, Any]) -> None:
    """A reloaded artifact must answer as the model did when it was saved. Raises LoadFailed when it does not."""
    from safetensors.torch import load_file

    others = [part for part in chain.parts if not part.makes_checkpoint and part.role not in ("control", "dtype")]
    if context.expected_probe is None or others:
        return  # the model in memory is more than the checkpoint that was saved
    proof["reload_difference"] = float((now - load_file(context.expected_probe)["logits"]).abs().max())
    if proof["reload_difference"] > 1e-3:
        raise LoadFailed(
            f"{chain.canonical}: the cached artifact answers otherwise than when it was made "
            f"(logits differ by {proof['reload_difference']:.2g}); clear it with: tiltmeter cache clear"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:300]
