"""A line of answers.jsonl, checked where it is read: half a copy, another version or a flipped bit is named by file and
line, and never reaches a score."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from tiltmeter.errors import UserError
from tiltmeter.scoring.requests import (
    GUESSES,
    Answer,
    Generation,
    GenerationAnswer,
    OptionAnswer,
    OptionProbs,
    Request,
    SequenceAnswer,
    SequenceLogprob,
)

FIELDS = {
    "sequence": {"logprob", "n_tokens"},
    "options": {"logprobs", "n_tokens"},
    "generation": {"text", "clean", "n_tokens", "stopped"},
}
ANSWERS = {SequenceLogprob: SequenceAnswer, OptionProbs: OptionAnswer, Generation: GenerationAnswer}


class Unfinished(UserError, ValueError):
    """A cell that is called finished and is not."""


def damaged(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is damaged: {why}",
        fix=f"delete the folder {path.parent} and run the same command with the same --out again: "
        "only what is missing is computed",
    )


class Batch(TypedDict):
    """One line of answers.jsonl: what was committed together."""

    rows: list[tuple[int, dict[str, Any]]]  # number of the request -> its answer (`scoring.requests.answer_to_dict`)
    seconds: float
    tokens: int
    notes: list[Any]  # messages as JSON


def read_batch(line: bytes, path: Path, number: int) -> Batch:
    """The batch that a line holds. Raises UserError."""
    try:
        batch = json.loads(line)
        fits = (
            all(_count(index) and _answer(data) for index, data in batch["rows"])
            and _number(batch["seconds"])
            and _count(batch["tokens"])
            and all(isinstance(note, (str, dict)) for note in batch["notes"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"line {number} is no batch of answers ({type(error).__name__})") from None
    if not fits:
        raise damaged(path, f"line {number} holds something else than answers")
    return batch  # type: ignore[no-any-return]


def check_answers(path: Path, requests: Sequence[Request], answers: Sequence[Answer]) -> None:
    """Raises UserError for answers of another kind or shape than their requests."""
    for request, answer in zip(requests, answers, strict=True):
        wrong = not isinstance(answer, ANSWERS[type(request)])
        if isinstance(request, OptionProbs) and isinstance(answer, OptionAnswer) and answer.logprobs is not None:
            wrong = list(map(len, request.options)) != list(map(len, answer.logprobs))
        if wrong:
            raise damaged(path, "an answer does not belong to its request")


def _answer(data: Mapping[str, Any]) -> bool:
    given = {key: value for key, value in data.items() if key not in ("kind", "error")}
    guesses = {key: given.pop(key) for key in GUESSES if data["kind"] == "generation" and key in given}
    left_out = given.pop("left_out", 0.0) if data["kind"] == "options" else 0.0  # written where it is not 0
    if not (_number(left_out) and left_out >= 0):
        return False
    if given.keys() != FIELDS[data["kind"]] or not _count(given["n_tokens"]):
        return False
    if guesses and not (guesses.keys() == set(GUESSES) and all(map(_count, guesses.values()))):
        return False
    if not (data.get("error") is None or isinstance(data["error"], (str, dict))):
        return False
    if data["kind"] == "generation":
        return all(given[name] is None or isinstance(given[name], str) for name in ("text", "clean", "stopped"))
    if data["kind"] == "sequence":
        return given["logprob"] is None or _number(given["logprob"])
    return given["logprobs"] is None or all(
        value is None or _number(value) for forms in given["logprobs"] for value in forms
    )


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
