"""What is known of one served model before it is asked: what its server reports, who makes its prompts, its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter.errors import UserError
from tiltmeter.messages import Text
from tiltmeter.models import reading
from tiltmeter.models.folders import WANTED
from tiltmeter.printed import whole
from tiltmeter.scoring import turns
from tiltmeter.scoring.requests import Format, Render
from tiltmeter.variants.ready_made import end_ids

if TYPE_CHECKING:
    from tiltmeter.backends._chat import Chat
    from tiltmeter.backends._completions import Completions

REPORTED = ("id", "root", "parent", "owned_by", "max_model_len", "meta")  # of /models: what does not change by itself
Reported = dict[str, Any]  # what a server's /models says of one model
LONGEST_REPORT = 200  # characters of one value that a server reports of its model


@dataclass(frozen=True)
class Served:
    """One served model, probed.

    Attributes:
        reported: what its server says of it.
        lm: what speaks to it.
        tokenizer, tokenizer_of: of the model that makes its prompts; None and "" for a chat endpoint of an unknown one.
        max_length: tokens of prompt and answer; one is kept back, because servers write one token even when they score.
        obstacles: request class -> why no such request can be answered.
    """

    address: str
    name: str
    reported: Reported
    lm: Completions | Chat
    tokenizer: Any
    tokenizer_of: str
    eos_ids: frozenset[int]
    max_length: int
    obstacles: dict[type, Text] = field(default_factory=dict)
    notes: list[Text] = field(default_factory=list)

    @property
    def is_chat(self) -> bool:
        return getattr(self.lm, "echo", None) is None


def rendered_turns(source: str, format: Format) -> tuple[Render, list[Text]]:
    """How prompts become text for a chat endpoint. Raises UserError for plain text, which it cannot be asked."""
    if format != "chat":
        raise UserError(
            f"{source} is a chat endpoint: it puts every prompt into its own chat template", fix="--format chat"
        )
    return turns.as_text, []


def also_named(reported: Reported) -> list[str]:
    """Names under which a served model may answer, too."""
    return [str(reported[key]) for key in ("root", "parent") if reported.get(key)]


def chosen(source: str, wanted: str, listed: list[Reported] | None) -> Reported:
    """What the server reports of the wanted model (of its only one, when none is named)."""
    if not listed:
        if not wanted:
            raise UserError(f"{source} does not say which models it serves", fix=f"name one: {source}#NAME")
        return {"id": wanted}
    names = [str(entry["id"]) for entry in listed]
    if wanted not in names if wanted else len(names) > 1:
        trouble = f"does not serve {wanted!r}" if wanted else f"serves {len(names)} models"
        raise UserError(
            f"{source.partition('#')[0]} {trouble}",
            fix="choose one: " + ", ".join(f"{source.partition('#')[0]}#{name}" for name in names[:5]),
        )
    entry = listed[names.index(wanted)] if wanted else listed[0]
    return _plain({key: entry[key] for key in REPORTED if entry.get(key) is not None})


def _plain(reported: Reported) -> Reported:
    """What a server says of a model, as far as it is short text or numbers; one level deep."""
    found: Reported = {}
    for key, value in reported.items():
        if isinstance(value, str):
            found[whole(key)[:LONGEST_REPORT]] = whole(value)[:LONGEST_REPORT]
        elif isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
            found[whole(key)[:LONGEST_REPORT]] = value
        elif isinstance(value, dict) and key in REPORTED:
            found[key] = _plain({f"{inner}": value[inner] for inner in list(value)[:50] if inner not in REPORTED})
    return found


def context_length(reported: Reported, otherwise: int) -> int:
    """The context length that a server reports. Raises UserError where it is none."""
    of_slot = (reported.get("meta") or {}).get("n_ctx")  # llama.cpp's
    found = reported.get("max_model_len", of_slot or otherwise)
    if isinstance(found, bool) or not isinstance(found, int) or not 2 <= found < 2**31:
        raise UserError(
            f"the server reports a context length of {str(found)[:40]!r} for {reported['id']}",
            fix="look into its settings",
        )
    return found


def prompt_maker(name: str) -> tuple[Any, frozenset[int], int]:
    """(tokenizer, ids that end a generation, context length) of a model; its weights are neither needed nor fetched."""
    try:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(name, allow_patterns=[p for p in WANTED if p != "*.safetensors"]))
    except Exception as error:  # absent, gated, no such name (a server may report anything), no network: all end here
        raise UserError(
            f"the tokenizer of {name!r} cannot be had: {type(error).__name__}",
            fix="name a folder or hub id that has it: --tokenizer MODEL",
        ) from None
    config = reading.load_config(folder, name)
    text_config = config.get_text_config(decoder=True)
    longest = getattr(text_config, "max_position_embeddings", None) or reading.NO_LIMIT
    return reading.load_tokenizer(folder, name), frozenset(end_ids(folder, config)), int(longest)


def hash_of(known: Served) -> str:
    """Stands where a weight hash would: address, name, what is reported, what was found, and the prompts' tokenizer."""
    vocabulary = sorted(known.tokenizer.get_vocab().items()) if known.tokenizer and not known.is_chat else ["chat"]
    obstacles = sorted((kind.__name__, str(reason)) for kind, reason in known.obstacles.items())
    told = json.dumps([known.address, known.name, known.reported, obstacles, vocabulary], sort_keys=True)
    return "endpoint-" + hashlib.sha256(told.encode()).hexdigest()
