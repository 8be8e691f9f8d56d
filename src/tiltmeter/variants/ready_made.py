"""Ready-made checkpoints as variants: is this the base, compressed, and which benchmarks can compare the two?

A paired comparison asks both models the same thing. Another tokenizer, chat template, end token or context length asks
them different things; each is named with the benchmarks that it makes incomparable. The paired change is still
computed and shown, but it mixes the compression with the difference: such a row's verdict is "no usable signal" with
the difference as its reason, so that a gate cannot pass it.

What could be a difference and is removed instead: both models run in the base's floating-point type. Weights that this
rounds are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.messages import Text, join, say
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.check import end_ids, is_packed, quantization_settings
from tiltmeter.models.difference import READS_TOKENS, WRITES, Difference, same_tokens
from tiltmeter.models.formats.gguf.beside import facts_of
from tiltmeter.models.probes import probe_logits
from tiltmeter.models.reading import load_config, load_tokenizer
from tiltmeter.models.resolve import resolve
from tiltmeter.models.weight_files import read_headers, weight_files
from tiltmeter.strategies.base import SIMULATED, DidNothing
from tiltmeter.variants.apply import base_probe

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

SHAPE = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
)
SAMPLES = (
    "Once upon a time, 3 small dogs ran home.",
    "yes",
    " no",
    "(A) strongly agree\n\nThe answer is: 5,000,000",
    "São Tomé and Côte d'Ivoire — naïve Überraschung",
)
HOLDS = {"float32": {"float32", "float16", "bfloat16"}, "bfloat16": {"bfloat16"}, "float16": {"float16"}}  # exactly
STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # names in a safetensors header
CAST = ("weight", "bias", "scales", "weight_scale")  # tensors that loading casts to the run's type


def differences(base: str, variant: str) -> list[Difference]:
    """What differs between two checkpoints (folders or hub ids) besides their weights; no weights are loaded.

    A GGUF file is asked with its base's tokenizer, template and end tokens; what it says itself of these is named.
    """
    folders = resolve(base), resolve(variant, base)
    tokenizers = load_tokenizer(folders[0], base), load_tokenizer(folders[1], variant)
    configs = load_config(folders[0], base), load_config(folders[1], variant)
    found = [*other_tokenizer(*tokenizers), *_end_tokens(folders, configs)]
    templates = [getattr(tokenizer, "chat_template", None) for tokenizer in tokenizers]
    if templates[0] != templates[1]:
        which = say("differs.template_one" if None in templates else "differs.template_differ")
        text = say("differs.template", which=which)
        found.append(Difference("chat template", text, (*READS_TOKENS, *WRITES), chat_only=True))
    shapes = [config.get_text_config(decoder=True) for config in configs]
    lengths = [getattr(shape, "max_position_embeddings", None) for shape in shapes]
    if lengths[0] != lengths[1]:
        text = say("differs.context_length", new=lengths[1], old=lengths[0])
        found.append(Difference("context length", text))
    changed = [
        f"{key} {getattr(shapes[1], key, None)} instead of {getattr(shapes[0], key, None)}"
        for key in SHAPE
        if getattr(shapes[0], key, None) != getattr(shapes[1], key, None)
    ]
    gguf = facts_of(folders[1])
    if gguf:  # its sizes were held to the base's when it was read
        found += gguf.differences
    elif changed:
        found.append(Difference("architecture", say("differs.architecture", changed=", ".join(changed))))
    return found


def describe(variant: LoadedVariant, base: str, *, cache_dir: str | None = None) -> list[Difference]:
    """Fills proof and notes of a loaded ready-made checkpoint, measured against `base`; returns the differences.

    Raises DidNothing when it answers every probe exactly as the base does.
    """
    folders = resolve(base), resolve(variant.model_name, base)
    found = [*differences(base, variant.model_name), *_rounded(*folders, variant.dtype)]
    settings = quantization_settings(variant.model_name, load_config(folders[1], variant.model_name))
    quantized, total, method = _quantized_layers(variant, folders[1], settings)
    lines: list[Text] = [say("proof.ready_made", method=method, n=quantized, all=total)]
    scheme = settings.get("kv_cache_scheme")
    if scheme:
        lines.append(say("proof.kv_scheme", type=scheme.get("type", "int"), bits=scheme.get("num_bits", 8)))
    if quantized and not variant.converted and _plain_now(variant):
        lines += [say("proof.dense_now"), SIMULATED]
    computes = settings.get("bnb_4bit_compute_dtype")
    if settings.get("load_in_4bit") and computes != variant.dtype:
        lines.append(say("proof.computes_in", type=computes))
    proof: dict[str, object] = {
        "quantized_layers": quantized,
        "linear_layers": total,
        "method": method,
        "kv_cache_scheme": scheme,
        "differences": [each.as_json() for each in found],
    }
    if variant.converted:
        lines.append(variant.converted.how)
        if variant.converted.method == "gguf":
            lines.append(SIMULATED)
    if same_tokens(proof):
        now = probe_logits(variant.model, variant.tokenizer)
        before = base_probe(base, variant.device, variant.dtype, Artifacts(cache_dir))
        if now.shape == before.shape:
            largest = proof["largest_logit_change"] = float((now - before).abs().max())
            if largest == 0.0:
                raise DidNothing(f"{variant.model_name} answers the probe prompts exactly as {base} does")
            lines.append(say("proof.logits", x=f"{largest:.2g}"))
    variant.proof = {**variant.proof, "summary": join("join.clauses", lines), **proof}
    variant.notes += [each.text for each in found]
    return found


def _rounded(base: Path, variant: Path, dtype: str) -> list[Difference]:
    """Types that only the variant is stored in and the run's type cannot hold exactly."""
    lost = sorted(_stored_dtypes(variant) - _stored_dtypes(base) - HOLDS[dtype])
    if not lost:
        return []
    return [Difference("dtype", say("differs.rounded", types=join("join.and", lost), type=dtype))]


def _stored_dtypes(folder: Path) -> set[str]:
    """The 16 and 32 bit floating-point types of a folder's weights and scales, from the headers of its files."""
    gguf = facts_of(folder)
    if gguf:
        return set(gguf.stored)
    headers = read_headers(weight_files(folder, str(folder)), str(folder))
    kinds = {tensor.dtype for name, tensor in headers.items() if name.rpartition(".")[2] in CAST}
    return {STORED[kind] for kind in kinds if kind in STORED}


def other_tokenizer(base: Any, variant: Any) -> list[Difference]:
    """How the second of two tokenizers cuts texts otherwise than the first; [] when it does not."""
    ours, theirs = base.get_vocab(), variant.get_vocab()
    same_ids = [base(text).input_ids == variant(text).input_ids for text in SAMPLES]
    if ours == theirs and all(same_ids):
        return []
    only_one = dict(ours.items() ^ theirs.items())
    special = {*base.all_special_tokens, *variant.all_special_tokens}
    if all(same_ids) and special.issuperset(only_one) and not any(t in ours and t in theirs for t in only_one):
        return [Difference("tokenizer", say("differs.special_tokens", names=", ".join(sorted(only_one))))]
    if ours != theirs:
        why = (
            say("differs.vocabulary", new=len(theirs), old=len(ours))
            if len(ours) != len(theirs)
            else say("differs.other_ids", n=sum(ours.get(token) != index for token, index in theirs.items()))
        )
    else:
        why = say("differs.other_cuts")
    return [
        Difference(
            "tokenizer",
            say("differs.tokenizer", why=why),
            READS_TOKENS,
        )
    ]


def _end_tokens(folders: Any, configs: Any) -> list[Difference]:
    ends = [end_ids(folder, config) for folder, config in zip(folders, configs)]
    if ends[0] == ends[1]:
        return []
    return [
        Difference(
            "end tokens",
            say("differs.end_tokens", new=sorted(ends[1]), old=sorted(ends[0])),
            WRITES,
        )
    ]


def _quantized_layers(variant: LoadedVariant, folder: Path, settings: Mapping[str, Any]) -> tuple[int, int, Text]:
    """(quantized linear layers, all linear layers, method) of a checkpoint: as it is stored, where loading turned its
    weights dense (FP8 in blocks, say)."""
    from torch import nn

    method: Text = settings.get("quant_method") or say("proof.not_quantized")
    linear = {
        name: m for name, m in variant.model.named_modules() if isinstance(m, nn.Linear) or "Linear" in type(m).__name__
    }
    quantized = {
        name
        for name, m in linear.items()
        if type(m) is not nn.Linear or getattr(getattr(m, "quantization_scheme", None), "weights", None) is not None
    }
    converted = variant.converted
    if converted:  # the original's own format and count, not the loaded copy's
        return converted.quantized_layers, len(linear), converted.summary
    return len(quantized | (_stored_quantized(folder) & set(linear))), len(linear), method


def _plain_now(variant: LoadedVariant) -> bool:
    """Whether loading turned quantized weights into plain ones: no layer rounds anything any more."""
    return not any(
        "Linear" in type(m).__name__ and (type(m).__name__ != "Linear" or getattr(m, "quantization_scheme", None))
        for m in variant.model.modules()
    )


def _stored_quantized(folder: Path) -> set[str]:
    """Layers whose weights a folder holds as integers or narrow floats, from the headers of its files."""
    if facts_of(folder):
        return set()
    headers = read_headers(weight_files(folder, str(folder)), str(folder))
    return {name.rpartition(".")[0] for name, tensor in headers.items() if is_packed(tensor)}
