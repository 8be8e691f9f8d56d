"""The configuration that a GGUF file runs under: what it says itself, and for the rest what its base says.

A GGUF file holds sizes, but neither activation nor soft caps nor, for Llama 3.1 and later, how its rotary positions are
scaled (only the factors, as a tensor). transformers fills such gaps with the defaults of the architecture's class and
leaves unknown tensors out: wrong numbers without a word. Here the gaps come from the base, the positions are held to
what the file does say, and a tensor that would be left out is an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.models.formats.gguf.header import BROKEN, FACTORS, FREQUENCIES, Header

UNSCALED = "none"  # what a file says of rotary positions as they were trained
STANDS_FOR = {"llama": {"llama", "mistral"}}  # llama.cpp keeps Mistral under Llama's name: same weights, same names
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "head_dim",
)
THE_BASES = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "unk_token_id",
    "model_type",
    "transformers_version",
    "_commit_hash",
    "_name_or_path",
)  # what a file says of these is compared elsewhere, or is no setting
NOT_ITS_OWN = (
    "architectures",
    "auto_map",
    "dtype",
    "model_type",
    "quantization_config",
    "transformers_version",
    "_name_or_path",
)  # of the base's configuration
SEEN_ELSEWHERE = ("max_position_embeddings", "tie_word_embeddings", "vocab_size")
OTHER_WAYS = (
    "give the checkpoint as safetensors (AWQ, GPTQ, compressed-tensors …), or let tiltmeter quantize the "
    "base: tiltmeter run BASE -s int4"
)


def configuration(file: Path, header: Header, base: Any, names: tuple[str, str]) -> tuple[Any, str, list[str]]:
    """(transformers configuration that the file runs under, the model type as which transformers reads the file,
    settings in which it differs from its base, in words).

    base: the base's text configuration; names: file and base as the user typed them.
    Raises UserError for an architecture that cannot be read, and for a file that was not made from the base.
    """
    from transformers import AutoConfig

    stated = _stated(file, header, names[0])
    kind = stated["model_type"]
    if base.model_type not in STANDS_FOR.get(kind, {kind}):
        raise _not_made_from(names, f"it is a {kind} model, the base is {base.model_type}")
    sizes = {key: (stated.get(key), getattr(base, key, None)) for key in SIZES}
    other = [
        f"{key} {new!r} instead of {old!r}"
        for key, (new, old) in sizes.items()
        if None not in (new, old) and new != old
    ]
    if other:
        raise _not_made_from(names, ", ".join(other))
    settings = {key: value for key, value in base.to_dict().items() if key not in NOT_ITS_OWN}
    changed = []
    rope = dict(settings.get("rope_parameters") or {})
    said = {**stated.pop("rope_parameters", {}), **{key: stated.pop(key) for key in ("rope_theta",) if key in stated}}
    for key, value in said.items():
        if key in rope and not _same(value, rope[key]):
            changed.append(f"{key} {value!r} instead of {rope[key]!r}")
            settings["rope_parameters"] = rope = {**rope, key: value}
    for key, value in stated.items():
        if key in THE_BASES or _same(value, settings.get(key)):
            continue
        if key in settings and key not in SEEN_ELSEWHERE:
            changed.append(f"{key} {value!r} instead of {settings[key]!r}")
        settings[key] = value
    config = AutoConfig.for_model(base.model_type, **settings)
    _check_positions(header, config, names)
    return config, kind, changed


def as_type(config: Any, kind: str) -> Any:
    """`config` as a model of type `kind`, whose weights have the same names: transformers finds tensors by type."""
    from transformers import AutoConfig

    if config.model_type == kind:
        return config
    known = AutoConfig.for_model(kind).to_dict()
    settings = {key: value for key, value in config.to_dict().items() if key in known and key not in NOT_ITS_OWN}
    return AutoConfig.for_model(kind, **settings)


def linear_layers(config: Any, header: Header, model: str) -> dict[str, str]:
    """Linear layer of the model under `config` -> type in which the file holds it.

    Raises UserError where the file lacks a weight of the model or holds one that would be left out.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    try:
        with torch.device("meta"):  # names and shapes only
            skeleton = AutoModelForCausalLM.from_config(config)
        processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config=config.to_dict())
        names = get_gguf_hf_weights_map(skeleton, processor, model_type=header.architecture)
    except (NotImplementedError, *BROKEN):
        raise unreadable(model, header.architecture) from None
    parameters = [name for name, _ in skeleton.named_parameters()]  # tied ones are named once
    names |= {f"blk.{name.split('.')[2]}.ssm_dt.bias": name for name in parameters if name.endswith(".dt_bias")}
    drafts = f"blk.{config.num_hidden_layers}."  # a block that guesses tokens ahead, no part of the model's answers
    unread = sorted(
        name
        for name in set(header.types) - {*names, FREQUENCIES, *FACTORS.values()}
        if not (header.setting("nextn_predict_layers") and name.startswith(drafts))
    )
    if unread:
        raise UserError(
            f"{model} holds {len(unread)} tensors that would be left out, {unread[0][:80]!r} first", fix=OTHER_WAYS
        )
    held = {names[name]: header.types[name] for name in header.types if name in names}
    missing = [name for name in parameters if name not in held]
    if missing:
        raise UserError(
            f"{model} lacks weights of its model: {missing[0]} and {len(missing) - 1} more",
            fix="name the file of the whole model, no adapter or projector, or fetch it again",
        )
    if config.tie_word_embeddings and (head := skeleton.get_output_embeddings()) is not None:
        for name, module in skeleton.named_modules():
            if module is head and (source := held.get(_embedding_name(skeleton))):
                held[f"{name}.weight"] = source
    linear = [name for name, module in skeleton.named_modules() if "Linear" in type(module).__name__]
    return {name: held[f"{name}.weight"] for name in linear if f"{name}.weight" in held}


def unreadable(model: str, architecture: str) -> UserError:
    return UserError(
        f"{model} has the architecture {architecture[:40]!r}, which transformers cannot read from a GGUF file",
        fix=OTHER_WAYS,
    )


def _stated(file: Path, header: Header, model: str) -> dict[str, Any]:
    """The settings that transformers reads from the file, without any default."""
    from transformers import PretrainedConfig

    try:
        settings, _ = PretrainedConfig.get_config_dict(str(file.parent), gguf_file=file.name, local_files_only=True)
    except (NotImplementedError, *BROKEN):
        raise unreadable(model, header.architecture) from None
    return {key: value for key, value in settings.items() if value is not None}


def _same(ours: Any, theirs: Any) -> bool:
    """Equal, for numbers in float32: a GGUF file holds no other, and 1e-5 comes back as 9.99999974e-06."""
    import numpy as np

    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return bool(np.float32(ours) == np.float32(theirs))
    return bool(ours == theirs)


def _not_made_from(names: tuple[str, str], why: str) -> UserError:
    return UserError(
        f"{names[0]} was not made from {names[1]}: {why}",
        fix="name the model that the file was converted from as the base",
    )


def _embedding_name(model: Any) -> str:
    embedding = model.get_input_embeddings()
    return next((f"{name}.weight" for name, module in model.named_modules() if module is embedding), "")


def _check_positions(header: Header, config: Any, names: tuple[str, str]) -> None:
    """Raises UserError where the file scales rotary positions otherwise than the base."""
    import numpy as np

    rope = getattr(config, "rope_parameters", None) or {}
    if any(isinstance(value, dict) for value in rope.values()):
        return  # by kind of layer (Gemma 3): a file cannot say it
    kind = rope.get("rope_type", "default")
    kind = "default" if kind == "dynamic" else kind  # scales only beyond the trained length; no GGUF file says it
    factor = header.setting("rope.scaling.factor") or 1.0
    said = header.setting("rope.scaling.type")
    said = UNSCALED if said == "linear" and factor == 1.0 else said
    scaled = kind if kind in ("linear", "yarn") else UNSCALED
    if said not in (None, scaled) and not (said == "longrope" == kind):
        raise _other_positions(names, f"{said!r} in the file, {kind!r} in the base")
    if scaled != UNSCALED and not _same(float(factor), rope.get("factor")):
        raise _other_positions(names, f"a factor of {factor} in the file, {rope.get('factor')} in the base")
    expected = {}
    if kind == "llama3" or FREQUENCIES in header.types:
        expected[FREQUENCIES] = _llama3_factors(config) if kind == "llama3" else 1.0
    if kind == "longrope":
        expected |= {tensor: rope[key] for key, tensor in FACTORS.items()}
    for tensor, factors in expected.items():
        held = header.rotary.get(tensor)
        if held is None:
            raise _other_positions(names, f"the base's are of the kind {kind!r}, of which the file has no {tensor}")
        if np.shape(factors) not in ((), held.shape) or not np.allclose(held, factors, rtol=1e-3, atol=0):
            raise _other_positions(names, f"the factors in {tensor} are not the base's ({kind!r})")


def _other_positions(names: tuple[str, str], why: str) -> UserError:
    return UserError(
        f"{names[0]} scales its rotary positions otherwise than {names[1]}: {why}",
        fix="convert it anew from this base with a present llama.cpp, or name the base it was made from",
    )


def _llama3_factors(config: Any) -> Any:
    """Unscaled over scaled frequency, shape (rotated dimensions / 2): what llama.cpp stores as rope_freqs."""
    import numpy as np
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")[0].numpy()
    plain = config.rope_parameters["rope_theta"] ** (-np.arange(len(scaled)) / len(scaled))
    return plain / scaled
