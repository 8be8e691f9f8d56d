"""How what a variant is asked differs from what its base is asked, and which requests that makes incomparable.

What follows for a benchmark follows from its kind of request, so it holds for a benchmark of any package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tiltmeter.messages import Text, as_json, from_json

READS_TOKENS = ("sequence", "options")  # requests that are answered with log-probabilities of tokens
WRITES = ("generation",)  # requests that are answered with text


@dataclass(frozen=True)
class Difference:
    """One way in which a checkpoint asks or is asked something else than its base.

    Attributes:
        about: "tokenizer", "chat template", "end tokens", "context length", "architecture" or "dtype".
        text: the sentence for the run.
        incomparable: kinds of requests whose paired change does not show the compression alone.
        chat_only: it concerns prompts in chat format only.
    """

    about: str
    text: Text
    incomparable: tuple[str, ...] = ()
    chat_only: bool = False

    def as_json(self) -> dict[str, Any]:
        """JSON-ready, as proofs hold it: the sentence in English too, for versions that do not know its key."""
        return {**vars(self), "text": as_json(self.text), "incomparable": list(self.incomparable)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `as_json` wrote."""
        text, kinds = from_json(data["text"]), tuple(data["incomparable"])
        return cls(data["about"], text, kinds, data["chat_only"])


def incomparable(proof: Mapping[str, Any], benchmark: str, request_kind: str, text_format: str) -> Text | None:
    """Why a ready-made checkpoint's row shows more than the compression, from its proof; None when it does not."""
    asked = {request_kind, benchmark}  # proofs of version 0.1 name benchmarks
    for each in proof.get("differences", ()):
        if asked.intersection(each["incomparable"]) and (text_format == "chat" or not each["chat_only"]):
            return from_json(each["text"])
    return None


def same_tokens(proof: Mapping[str, Any]) -> bool:
    """Whether a variant cuts texts into the base's tokens, so that numbers per token compare; from its stored proof."""
    return not any(each["about"] == "tokenizer" and each["incomparable"] for each in proof.get("differences", ()))
