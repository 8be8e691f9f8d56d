"""Calibration text -> token windows: what awq, gptq, wanda, sparsegpt, w8a8 and kv read=quantized look at.

Source      a text file (.txt; .json: a list of texts; .jsonl: objects with "text") or a hub data set
            (``name`` or ``name@config``, split train, column text); default: the built-in demo text, which is
            too small and too plain for a real model and says so in the run.
Draw        `samples` windows of `length` tokens at uniformly random places of the whole text, seeded by what
            they are for. A tokenizer that puts BOS before a prompt gets it before every window: attention
            sinks sit there, and scales that never saw them would clip real prompts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import say
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.base import Context, Part, Strategy

BUILT_IN = Path(__file__).resolve().parent.parent / "demo" / "data" / "text" / "calibration.txt"
MAX_CHARACTERS = 20_000_000  # of a data set or file; far more than any setting here can use


@dataclass(frozen=True)
class Calibrated(Strategy):
    """A strategy that looks at text: `samples` windows of `length` tokens, drawn with `seed` from `calibration`
    (file or data set; "" is the run's text). Lengths beyond the model's context are cut to it."""

    samples: int = 128  # windows
    length: int = 512  # tokens of each
    seed: int = 0  # of their places in the text
    calibration: str = ""  # file or data set; "" is the run's text

    seeded = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("samples", "length"):
            if getattr(self, key) < 1:
                raise UserError(
                    f"{self.name}: {key} is at least 1, got {getattr(self, key)}",
                    fix=f"leave {key} out for its default",
                )

    @property
    def calibrates(self) -> bool:
        return True

    def windows(self, context: Context) -> Windows:
        """The windows of these settings under `context`."""
        return draw(context, source=self.calibration, samples=self.samples, length=self.length, seed=self.seed)

    def check_text(self, context: Context) -> None:
        """Raises UserError where `windows` will."""
        check_text(context, source=self.calibration, length=self.length)


@dataclass(frozen=True)
class Drawn(Part):
    """Where windows come from; part of the proof and of the cache key."""

    source: str  # file or data set; "built-in"
    text_tokens: int  # of the whole text
    samples: int
    length: int  # tokens of each
    seed: int
    digest: str  # of the ids

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Drawn | None:
        """From what a cache keeps; None where no text was looked at."""
        return cls(**{field.name: stored[field.name] for field in fields(cls)}) if stored else None


@dataclass(frozen=True)
class Windows:
    """Drawn token windows.

    Attributes:
        ids: `samples` lists of exactly `length` token ids, BOS included where the tokenizer adds it.
        record: where they come from.
    """

    ids: tuple[tuple[int, ...], ...]
    record: Drawn


def draw(context: Context, *, source: str, samples: int, length: int, seed: int) -> Windows:
    """Windows for one strategy. `source` "" means the run's calibration text, else the built-in one.

    Raises UserError for a text that is missing, unreadable, or shorter than two windows.
    """
    import numpy as np

    chosen, length = _chosen(context, source), _fitting(context, length)
    built_in = chosen == str(BUILT_IN)
    text = "\n\n".join(read_texts(chosen))[:MAX_CHARACTERS]
    tokens = context.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    if len(tokens) < 2 * length:
        raise _too_short(chosen, len(tokens), length)
    start = tuple(_start_tokens(context.tokenizer))
    body = length - len(start)
    rng = np.random.default_rng(seed_for(context.seed, "calibration", seed))
    places = rng.integers(0, len(tokens) - body + 1, size=samples)
    ids = tuple(start + tuple(tokens[place : place + body]) for place in places)
    digest = hashlib.sha256(np.asarray(ids, dtype=np.int64).tobytes()).hexdigest()[:16]
    if built_in:
        note = say("note.built_in_text")
        if note not in context.notes:
            context.notes.append(note)
    return Windows(ids, Drawn("built-in" if built_in else chosen, len(tokens), samples, length, seed, digest))


def check_text(context: Context, *, source: str, length: int) -> None:
    """Raises UserError where `draw` will, from as much of the text as that takes; a hub data set is not fetched."""
    chosen, length = _chosen(context, source), _fitting(context, length)
    if not _is_file(chosen):
        return
    text = "\n\n".join(read_texts(chosen))[:MAX_CHARACTERS]
    for part in (text[: 100 * length], text):
        tokens = len(context.tokenizer(part, add_special_tokens=False, verbose=False).input_ids)
        if tokens >= 2 * length:
            return
    raise _too_short(chosen, tokens, length)


def _chosen(context: Context, source: str) -> str:
    return source or context.calibration or str(BUILT_IN)


def _fitting(context: Context, length: int) -> int:
    """`length`, or the model's context where that is shorter."""
    longest = getattr(context.config.get_text_config(decoder=True), "max_position_embeddings", None) or length
    return min(length, int(longest))


def _too_short(chosen: str, tokens: int, length: int) -> UserError:
    return UserError(
        f"the calibration text {chosen} has {tokens} tokens; windows of {length} need at least {2 * length}",
        fix="give a longer text with --calibration, or a smaller length setting",
    )


def _is_file(source: str) -> bool:
    """Whether `source` is a file, or can be meant as nothing else."""
    named = Path(source).suffix in (".txt", ".json", ".jsonl") or source.startswith((".", "/", "~"))
    return named or Path(source).expanduser().is_file()


def read_texts(source: str) -> list[str]:
    """The passages of a file or hub data set, in order. Raises UserError when there is none."""
    path = Path(source).expanduser()
    if not path.is_file():
        if _is_file(source):
            raise UserError(f"there is no calibration file {source}", fix="check the path given with --calibration")
        return _from_data_set(source)
    try:
        raw = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return _texts(json.loads(raw), source)
        if path.suffix == ".jsonl":
            return _texts([json.loads(line) for line in raw.splitlines() if line.strip()], source)
        return [passage for passage in raw.split("\n\n") if passage.strip()]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(
            f"the calibration file {source} cannot be read: {error}",
            fix="give UTF-8 text, a JSON list of texts, or JSON lines with a text field",
        ) from None


def _texts(rows: Any, source: str) -> list[str]:
    if isinstance(rows, list):
        found = [row.get("text") if isinstance(row, dict) else row for row in rows]
        texts = [text for text in found if isinstance(text, str)]
        if texts and len(texts) == len(found):
            return texts
    raise UserError(f"the calibration file {source} is no list of texts", fix='write ["text", …] or [{"text": "…"}, …]')


def _from_data_set(source: str) -> list[str]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise missing_extra("datasets", "compress", f"calibration on the data set {source}") from None

    name, _, config = source.partition("@")
    texts: list[str] = []
    n_characters = 0
    try:
        for row in load_dataset(name, config or None, split="train", streaming=True):
            texts.append(str(row["text"]))
            n_characters += len(texts[-1])
            if n_characters > MAX_CHARACTERS // 4:
                break
    except KeyError:
        raise UserError(f"the data set {source} has no column 'text'", fix="give a text file instead") from None
    except Exception as error:  # the client raises many kinds; all mean that the text is not to be had
        raise UserError(
            f"there is neither a file nor a reachable data set called {source!r}: {type(error).__name__}",
            fix="give a text file: --calibration FILE",
        ) from None
    return texts


def _start_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text (BOS or nothing)."""
    with_special = tokenizer("a").input_ids
    bare = tokenizer("a", add_special_tokens=False).input_ids
    extra = len(with_special) - len(bare)
    return list(with_special[:extra]) if extra > 0 and with_special[extra:] == bare else []
