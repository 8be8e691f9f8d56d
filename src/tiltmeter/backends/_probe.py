"""Is a variant whose weights cannot be seen another model than its base? Asked by log-probabilities of probe texts.

The texts are those of `strategies._probes`; of each, the last TAIL tokens are scored one by one after what stands
before them. Two backends never compute the same bits, so "the same answers" means within TOLERANCE, which is
the engine's own promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiltmeter.messages import Message, Text, join, say
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.models.probes import TAIL, TEXTS
from tiltmeter.scoring.prompts import encode
from tiltmeter.strategies.base import DidNothing
from tiltmeter.variants.apply import base_probe

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

TOLERANCE = 1e-4  # nats
UNKNOWN = Message("served.probe_unknown")
LONGEST = 64  # tokens of a probe text


def questions(tokenizer: Any) -> list[tuple[list[int], int]]:
    """(ids before, next id) of every scored probe token."""
    texts = [encode(tokenizer, text)[:LONGEST] for text in TEXTS]
    return [(ids[:place], ids[place]) for ids in texts for place in range(len(ids) - TAIL, len(ids))]


def of_checkpoint(base: str, tokenizer: Any, device: str, dtype: str) -> list[float] | None:
    """The same of a checkpoint that transformers loads, from its probe logits, which are kept on disk."""
    texts = [tokenizer(text).input_ids[:LONGEST] for text in TEXTS]
    if texts != [encode(tokenizer, text)[:LONGEST] for text in TEXTS]:
        return None  # logits were taken after other ids
    logits = base_probe(base, device, dtype, Artifacts()).double()  # (texts x (1 + TAIL), vocabulary)
    logprobs = logits - logits.logsumexp(-1, keepdim=True)
    return [
        float(logprobs[text * (1 + TAIL) + place, ids[place - TAIL]])
        for text, ids in enumerate(texts)
        for place in range(TAIL)
    ]


def compare(
    variant: LoadedVariant, found: Sequence[float], base: Sequence[float] | None, control: Text | None = None
) -> None:
    """Completes the variant's proof.

    control: what a variant is that answers as its base does; it is named so, and what its rows show is the engine.
    Raises DidNothing for such a variant where there is no name for it.
    """
    variant.proof["probe_logprobs"] = list(found)
    line = say("served.not_compared", clause=UNKNOWN)
    if base is not None and len(base) == len(found) and all(map(math.isfinite, (*found, *base))):
        change = max(abs(ours - theirs) for ours, theirs in zip(found, base))
        if change <= TOLERANCE and control:
            variant.proof["control"] = control
            variant.notes.append(say("served.control_note", name=variant.model_name, control=control))
            tell(variant, say("served.control", control=control))
        elif change <= TOLERANCE:
            raise DidNothing(
                f"{variant.model_name} answers the probe texts as the base does: no log-probability "
                f"differs by more than {TOLERANCE:g} nats"
            )
        variant.proof["largest_logprob_change"] = change
        line = say("served.logprob_change", x=f"{change:.2g}")
    tell(variant, line)


def tell(variant: LoadedVariant, line: Text) -> None:
    """Adds a line to the summary of the variant's proof."""
    before = variant.proof.get("summary")
    variant.proof["summary"] = join("join.clauses", (before, line)) if before else line
