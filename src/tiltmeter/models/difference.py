"""How what a variant is asked differs from what its base is asked, and which benchmarks that makes incomparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiltmeter.messages import Text, from_json

READS_TOKENS = ("crows-pairs", "global-opinion-qa", "discrim-eval")  # score log-probabilities of single tokens


WRITES = ("worldbench", "dt-stereotyping", "discrim-eval-gen")  # read the text that a model writes


@dataclass(frozen=True)
class Difference:
    """One way in which a checkpoint asks or is asked something else than its base.

    Attributes:
        about: "tokenizer", "chat template", "end tokens", "context length", "architecture" or "dtype".
        text: the sentence for the run.
        incomparable: benchmarks whose paired change does not show the compression alone.
        chat_only: it concerns prompts in chat format only.
    """

    about: str
    text: Text
    incomparable: tuple[str, ...] = ()
    chat_only: bool = False


def incomparable(proof: Mapping[str, Any], benchmark: str, text_format: str) -> Text | None:
    """Why a ready-made checkpoint's row shows more than the compression, from its proof; None when it does not."""
    for each in proof.get("differences", ()):
        if benchmark in each["incomparable"] and (text_format == "chat" or not each["chat_only"]):
            return from_json(each["text"])
    return None


def same_tokens(proof: Mapping[str, Any]) -> bool:
    """Whether a variant cuts texts into the base's tokens, so that numbers per token compare; from its stored proof."""
    return not any(each["about"] == "tokenizer" and each["incomparable"] for each in proof.get("differences", ()))
