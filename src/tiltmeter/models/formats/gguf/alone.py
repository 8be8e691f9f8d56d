"""A folder that stands for the base that a GGUF file is alone: what the file says of itself, where that is enough.

A file holds sizes, vocabulary, template and end tokens. It holds neither activation nor soft caps, and of scaled rotary
positions only the factors. So only architectures are read whose models all have the same (ENOUGH), with plain
positions; the rest is refused with what is missing, and runs beside its folder, or in llama.cpp.

The folder holds configuration, tokenizer and generation settings, no weights: `beside` then reads the file beside it,
as it reads a variant beside a base.

Departure   transformers' reader of tokenizers takes a file's BOS for its EOS, and GPT-2's words for those of every
            byte-level vocabulary; here both are what the file says.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from shlex import quote
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.formats.gguf.header import BROKEN, FACTORS, FREQUENCIES, Header, read_header
from tiltmeter.models.formats.gguf.settings import unreadable
from tiltmeter.models.formats.gguf.source import locate
from tiltmeter.models.quiet import held_back

READER = 1  # counts up when what is made of a file changes
ENOUGH = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}  # SiLU, no soft caps
WORDS = (  # how Llama 3 and Qwen 2 cut texts into words; they differ in the length of numbers
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBER| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE = {  # tokenizer.ggml.pre -> pattern of words; "": GPT-2's own, after single digits where it is "digits"
    "default": "",
    "gpt-2": "",
    "smollm": "digits",
    "llama-bpe": WORDS.replace("NUMBER", r"\p{N}{1,3}"),
    "qwen2": WORDS.replace("NUMBER", r"\p{N}"),
}
SAMPLE = "The capital of France is Paris, isn't it? 1 2 3"


def alone(model: str) -> Path:
    """The folder that stands for GGUF file `model` as its own base, made when it is not there yet.

    Raises UserError for a file that cannot be read, or does not say enough, with what is missing.
    """
    from importlib.metadata import version

    file = locate(model)
    stamp = [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns]
    key = json.dumps([READER, version("gguf"), version("transformers"), *stamp])
    place = Artifacts().root / "gguf" / f"base-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    if not (place / "config.json").is_file():
        _make(place, file, read_header(file, model), model)
    return place


def lacking(header: Header) -> list[str]:
    """What a file does not say that its weights cannot be run without, in words; empty where it says enough."""
    missing = []
    if header.architecture not in ENOUGH:
        missing.append(f"how the architecture {header.architecture[:40]!r} computes (activation, soft caps, attention)")
    scaled = header.setting("rope.scaling.type") not in (None, "none")
    if scaled or any(name in header.types for name in (FREQUENCIES, *FACTORS.values())):
        missing.append("how its rotary positions are scaled")
    if not header.metadata.get("tokenizer.ggml.tokens"):
        missing.append("its vocabulary")
    elif _kind(header) is None:
        said = [str(header.metadata.get(f"tokenizer.ggml.{key}"))[:40] for key in ("model", "pre")]
        missing.append(f"how texts are cut into words (its tokenizer is of the kind {said[0]!r}, {said[1]!r})")
    if header.metadata.get("tokenizer.ggml.eos_token_id") is None:
        missing.append("its end token")
    return missing


def _kind(header: Header) -> str | None:
    """ "sentencepiece", or the key in PRE of a byte-level vocabulary; None for one that is not known here."""
    model, pre = (header.metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if model == "llama":
        return "sentencepiece"
    return str(pre) if model == "gpt2" and pre in PRE else None


def _make(place: Path, file: Path, header: Header, model: str) -> None:
    missing = lacking(header)
    if missing:
        raise _too_little(model, missing)
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        _write(partial, file, header, model)
        if not place.exists():  # another process may have been quicker
            partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _too_little(model: str, missing: list[str]) -> UserError:
    return UserError(
        f"{model} alone does not say enough to run in transformers: it lacks {'; '.join(missing)}",
        fix=f"name the model it was made from: tiltmeter compare BASE {quote(model)} --out RUN; "
        "or run it in llama.cpp, with its own strategies (q8_0, q4_k_m …)",
    )


def _write(folder: Path, file: Path, header: Header, model: str) -> None:
    from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

    try:
        with held_back():
            settings, _ = PretrainedConfig.get_config_dict(str(file.parent), gguf_file=file.name, local_files_only=True)
    except (NotImplementedError, *BROKEN):
        raise unreadable(model, header.architecture) from None
    try:
        with held_back():
            tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True)
    except (NotImplementedError, AttributeError, *BROKEN) as error:
        raise _too_little(model, [f"a vocabulary that transformers reads ({type(error).__name__})"]) from None
    tokens = header.metadata["tokenizer.ggml.tokens"]
    end = int(header.metadata["tokenizer.ggml.eos_token_id"])
    if not 0 <= end < len(tokens):
        raise UserError(f"{model} names token {end} as its end, of {len(tokens):,}", fix="fetch the file again")
    tokenizer.eos_token = tokens[end]
    tokenizer.chat_template = header.metadata.get("tokenizer.chat_template")
    kind = _kind(header)
    _cut_as(tokenizer, kind)
    _begin_as(tokenizer, kind, header)
    ids = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids).strip() != SAMPLE:
        raise UserError(
            f"{model}: transformers reads its tokenizer wrongly (a sentence becomes {len(ids)} tokens)",
            fix=f"name the model it was made from: tiltmeter compare BASE {quote(model)} --out RUN",
        )
    known = {key: value for key, value in settings.items() if value is not None and not key.startswith("_")}
    model_type = known.pop("model_type")
    known |= {"eos_token_id": end, "architectures": [ENOUGH[header.architecture]]}
    known["tie_word_embeddings"] = "output.weight" not in header.types
    config = AutoConfig.for_model(model_type, **known)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _only_the_first(len(tokens), folder / "tokenizer.json")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": end}), encoding="utf-8")


def _only_the_first(n_tokens: int, file: Path) -> None:
    """transformers 5.24 adds GPT-2's end token to every byte-level vocabulary: the model has no row for it."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["id"] < n_tokens]
    file.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def _cut_as(tokenizer: Any, kind: str | None) -> None:
    """A byte-level tokenizer cuts texts into the words of its kind."""
    from tokenizers import Regex, decoders, pre_tokenizers

    if kind is None or kind == "sentencepiece":
        return
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    steps: list[Any] = [pre_tokenizers.Split(Regex(PRE[kind]), "isolated"), bytes_alone]
    if PRE[kind] in ("", "digits"):
        steps = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    if PRE[kind] == "digits":
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()


def _begin_as(tokenizer: Any, kind: str | None, header: Header) -> None:
    """Texts begin with the BOS where the file says so; where it says nothing, as llama.cpp has it for the kind."""
    from tokenizers import processors

    said, begin = (header.metadata.get(f"tokenizer.ggml.{key}") for key in ("add_bos_token", "bos_token_id"))
    wanted = kind in ("sentencepiece", "llama-bpe") if said is None else bool(said)
    if begin is not None:
        tokenizer.bos_token = header.metadata["tokenizer.ggml.tokens"][begin]
    if wanted and begin is not None:
        text = str(tokenizer.bos_token)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=[text, "$A"], pair=[text, "$A", text, "$B:1"], special_tokens=[(text, int(begin))]
        )
    else:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
