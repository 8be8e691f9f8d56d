"""A model name and a strategy chain -> a LoadedVariant, with proof of what the strategy did.

dtype       "auto" is float32 on a CPU and the checkpoint's own type on a GPU; base and variants of a run
            get the same, unless the chain says ``dtype:…``. What ran is in ``LoadedVariant.dtype``.
Safety      remote code stays off, pickled weights are refused (`tiltmeter.models.folders`).
Memory      one copy of the model at a time: the base's probe logits come from disk or are made, and the base
            released, before the variant is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, join, say
from tiltmeter.models import linear
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.check import check_checkpoint
from tiltmeter.models.folders import fingerprint_folder, weights_on_disk
from tiltmeter.models.formats.awq_gptq import loadable
from tiltmeter.models.probes import TAIL, TEXTS, probe_logits
from tiltmeter.models.reading import (
    NO_LIMIT,
    _eos_ids,
    _first_line,
    load_config,
    load_model,
    load_tokenizer,
    out_of_memory,
    own_decoding,
    pick_device,
    pick_dtype,
)
from tiltmeter.models.resolve import resolve
from tiltmeter.models.sanity import nothing_but_zeros
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.strategies.base import Context, DidNothing, LoadFailed, figures
from tiltmeter.strategies.chain import Chain

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


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
    context = context_for(model, chain, device, dtype, calibration, Artifacts(cache_dir), say, seed, base)
    original = context.checkpoint
    device, base_dtype = context.device, context.base_dtype
    acts = any(part.changes_logits for part in chain.parts)
    try:
        for part in chain.parts:
            part.check(context)
        context.checkpoint, context.converted = loadable(
            context.checkpoint, model, context.lineage[0], base_dtype, context.artifacts, say
        )
        for part in chain.parts:
            part.before_loading(context)
        probe = base_probe(model, device, base_dtype, context.artifacts, say) if acts else None
        options: dict[str, object] = {}
        for part in chain.parts:
            options |= part.loading_options(context)
        variant = _variant(context, model, chain, options)
        if not chain.parts and base is None:  # its strategies will ask; now it is in memory
            base_probe(model, device, base_dtype, context.artifacts, say, variant.model)
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
    context = context_for(model, chain, device, dtype, calibration, Artifacts(), progress, seed)
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
    context = context_for(model, Chain(()), device, dtype, calibration, Artifacts(), lambda line: None, 0)
    found = {}
    for chain in chains:
        try:
            for part in chain.parts:
                part.check(replace(context, dtype=_dtype_of(chain, context.base_dtype)))
        except UserError as error:
            found[chain.canonical] = error
    return found


def _dtype_of(chain: Chain, base: str) -> str:
    return next((part.runs_in for part in chain.parts if part.runs_in), base)


def context_for(
    model: str,
    chain: Chain,
    device: str = "auto",
    dtype: str = "auto",
    calibration: str | None = None,
    artifacts: Artifacts | None = None,
    say: Callable[[str], None] = lambda line: None,
    seed: int = 0,
    base: str | None = None,
) -> Context:
    """What the strategies of `chain` get to see of `model`; no weight is read. Arguments as of `load`."""
    device = pick_device(device)
    folder = resolve(model, base)
    config = load_config(folder, model)
    tokenizer = load_tokenizer(folder, model)
    check_checkpoint(folder, model, config, tokenizer)
    base_dtype = pick_dtype(dtype, device, config)
    return Context(
        model=model,
        checkpoint=folder,
        config=config,
        tokenizer=tokenizer,
        device=device,
        dtype=_dtype_of(chain, base_dtype),
        base_dtype=base_dtype,
        calibration=calibration,
        artifacts=artifacts or Artifacts(),
        lineage=(fingerprint_folder(folder),),
        progress=say,
        seed=seed,
    )


def fingerprint(model: str, base: str | None = None) -> str:
    """SHA-256 of the checkpoint's weights, config and tokenizer; remembered, so cheap to ask again."""
    return fingerprint_folder(resolve(model, base))


def _variant(context: Context, model: str, chain: Chain, options: Mapping[str, object]) -> LoadedVariant:
    loaded = load_model(context.checkpoint, context.dtype, context.device, **options)
    text_config = context.config.get_text_config(decoder=True)
    eos_ids = _eos_ids(loaded, context.tokenizer)
    asked = own_decoding(loaded, eos_ids)
    if asked and not chain.parts:
        settings = ", ".join(f"{name}={value}" for name, value in sorted(asked.items()))
        context.notes.append(say("note.generation_config", settings=settings))
    if not chain.parts and (zeros := nothing_but_zeros(loaded)):
        context.notes.append(say("note.zeros", names=linear.kinds_of(zeros), n=len(zeros)))
    return LoadedVariant(
        model_name=model,
        strategy=chain.canonical,
        model=loaded,
        tokenizer=context.tokenizer,
        device=context.device,
        dtype=context.dtype,
        eos_ids=eos_ids,
        max_length=int(getattr(text_config, "max_position_embeddings", None) or NO_LIMIT),
        weight_hash=context.lineage[0],
        settings=chain.settings,
        converted=context.converted,
    )


def base_probe(
    model: str,
    device: str,
    dtype: str,
    artifacts: Artifacts,
    say: Callable[[str], None] = lambda line: None,
    loaded: PreTrainedModel | None = None,
) -> Tensor:
    """Probe logits of the unchanged model, from the cache when they were ever computed; see `strategies._probes`.

    loaded: the model, where it is in memory; else it is read for them alone.
    """
    from safetensors.torch import load_file, save_file

    folder = resolve(model)

    def make(place: Path) -> Mapping[str, object]:
        asked = loaded
        if asked is None:
            say(f"loading {model} for its probe answers")
            readable, _ = loadable(folder, model, fingerprint_folder(folder), dtype, artifacts, say)
            asked = load_model(readable, dtype, device)
        save_file({"logits": probe_logits(asked, load_tokenizer(folder, model))}, place / "probe.safetensors")
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
    steps = {part.name: figures(part.prove(variant, context)) for part in chain.parts}
    proof: dict[str, object] = {
        "dtype": variant.dtype,
        "device": variant.device,
        "steps": steps,
        "checkpoint_bytes": weights_on_disk(context.checkpoint),
    }
    if context.converted:  # what lies on disk is the original, the copy is for loading only
        proof["converted"] = context.converted.figures
        if not chain.parts:
            proof["checkpoint_bytes"] = weights_on_disk(original)
    told = {name: cast(Text, step["summary"]) for name, step in steps.items()}
    lines: list[Text] = [
        say("proof.step", name=name, clause=clause) if len(told) > 1 else clause for name, clause in told.items()
    ] or [say("proof.base")]
    if context.converted:
        lines.append(context.converted.how)
    if any(part.acts_on == "weights" for part in chain.parts):
        share, rest = linear.changed_share(variant.model, context.config, _pruned(context, chain))
        proof["changed_share_of_block_weights"], proof["block_weights_left_alone"] = share, rest
        key = "proof.share_beside" if rest else "proof.share"
        lines.append(say(key, x=f"{100 * share:.4g}", names=linear.kinds_of(rest)))
    if before is not None:
        now = probe_logits(variant.model, variant.tokenizer, variant.new_cache)
        if not bool(now.isfinite().all()):
            variant.notes.append(say("note.not_finite_probe"))
            lines.append(say("proof.logits_not_finite"))
            proof["largest_logit_change"] = None
        else:
            change = (now - before).abs()
            largest = float(change.max())
            proof["largest_logit_change"], proof["mean_logit_change"] = largest, float(change.mean())
            if largest == 0.0:
                raise DidNothing(f"{chain.canonical} changed no logit on the probe prompts")
            reloaded = _reload_difference(now, chain, context)
            if reloaded is not None:
                proof["reload_difference"] = reloaded
            lines.append(say("proof.logits", x=f"{largest:.2g}"))
    variant.proof = {"summary": lines[0] if len(lines) == 1 else join("join.clauses", lines), **proof}


def _pruned(context: Context, chain: Chain) -> list[str]:
    """Names of the matrices in which the chain's pruning left zeros, from what it recorded."""
    found = [context.made[part.name].facts["sparsity_per_layer"] for part in chain.parts if part.prunes]
    return [name for each in found for name, zeros in each.items() if zeros > 0]


def _reload_difference(now: Tensor, chain: Chain, context: Context) -> float | None:
    """Largest logit change of a reloaded artifact, which must answer as the model did when it was saved; None where
    nothing was saved. Raises LoadFailed when it does not."""
    from safetensors.torch import load_file

    others = [part for part in chain.parts if not (part.makes_checkpoint or part.redraws or part.runs_in)]
    if context.expected_probe is None or others:
        return None  # the model in memory is more than the checkpoint that was saved
    difference = float((now - load_file(context.expected_probe)["logits"]).abs().max())
    if difference > 1e-3:
        raise LoadFailed(
            f"{chain.canonical}: the cached artifact answers otherwise than when it was made "
            f"(logits differ by {difference:.2g}); clear it with: tiltmeter cache clear"
        )
    return difference
