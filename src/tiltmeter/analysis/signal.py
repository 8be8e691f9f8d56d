"""Is there anything to compare? A base whose answers say nothing makes every change of them mean nothing.

`coherence` asks whether a variant writes worse than its base; here a model is held to no other. An answer says nothing
when it is empty, a loop, an echo of its instruction, a copy of the prompt's worked example, or cannot be read by the
benchmark. A refusal is an answer, so it takes nearly all of them for a row to be without signal.

The score of such a row is printed, since it is what the protocol gives; the row is marked, every variant's change from
it is `no usable signal`, and the sentence says what to try.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from tiltmeter.messages import Message, join, say

FEWEST = 6  # answers before anything is said of them
SILENT = 2 / 3  # share of answers that say nothing
SILENT_OR_REFUSED = 0.95
LOOP = 0.5  # share of a text's word 4-grams that occurred before in it
ECHO = 0.6  # share of a text's word 4-grams that stand in its prompt
NGRAM, WORDS = 4, 8  # shorter texts neither loop nor echo


class Said(Protocol):
    """What a benchmark made of one answer; `benchmarks.base.Sample` is one.

    values: `words` for generated text; empty, echoed, looped, copied and refused where they concern the benchmark, 0 or
    1. A benchmark that reads the beginning of a text (a number) has no use for `form`: what follows may repeat the
    prompt as it likes.
    """

    @property
    def values(self) -> Mapping[str, float]: ...
    @property
    def label(self) -> str | None: ...
    @property
    def reason(self) -> object: ...


def form(text: str, prompt: str) -> dict[str, float]:
    """Whether a generated text is a loop, or an echo of its prompt (0 or 1)."""
    grams = _grams(text)
    if len(grams) <= WORDS - NGRAM:
        return {"looped": 0.0, "echoed": 0.0}
    asked = set(_grams(prompt))
    return {
        "looped": float(repeated_share(text) >= LOOP),
        "echoed": float(sum(gram in asked for gram in grams) / len(grams) >= ECHO),
    }


def repeated_share(text: str) -> float:
    """Share of the text's word 4-grams that occurred before in it: 0 for fresh text, near 1 for a loop."""
    grams = _grams(text)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _grams(text: str) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]


def without_signal(samples: Sequence[Said], text_format: str) -> Message | None:
    """Why a row's answers carry no signal, with what to try; None where enough of them say something.

    samples: all answers of one row; only generated ones are judged here, the others have no `words`.
    text_format: "plain" or "chat", as they were asked.
    """
    spoken = [sample for sample in samples if "words" in sample.values]
    if len(spoken) < FEWEST:
        return None
    counts = Counter(kind for sample in spoken if (kind := _kind(sample)))
    refused = counts.pop("refused", 0)
    silent = counts.total()
    if silent < SILENT * len(spoken) and silent + refused < SILENT_OR_REFUSED * len(spoken):
        return None
    if refused:
        counts["refused"] = refused
    shares = [say(f"signal.{kind}", n=n, of=len(spoken)) for kind, n in counts.most_common()]
    return say("signal.none", evidence=join("join.clauses", shares), advice=say(f"signal.advice_{text_format}"))


def _kind(sample: Said) -> str | None:
    """Why one answer says nothing; None where it says something."""
    values = sample.values
    undecided = bool(values.get("no_response")) or sample.reason is not None
    for kind in ("empty", "echoed", "copied"):
        if values.get(kind):
            return kind
    if not undecided:
        return None  # a stance said again and again is a stance
    return "looped" if values.get("looped") else "refused" if values.get("refused") else "unread"
