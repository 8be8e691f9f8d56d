"""Options answered from a list of the likeliest next tokens: what lies beyond it is bounded, and said."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiltmeter.messages import Text, say
from tiltmeter.scoring.requests import Answer, OptionAnswer, OptionProbs, failed

LEFT_OUT = "served.left_out"


def of_listed(
    request: OptionProbs,
    values: Sequence[Sequence[float | None]],
    unknown: Sequence[Sequence[bool]],
    n_tokens: int,
    listed: int,
    bound: float,
) -> tuple[Answer, Text | None]:
    """(answer, what the run must say).

    Forms beyond the list are left out, and their probability is bounded; an option whose first form lies beyond it has
    no answer: what lies within would not be the published measure.

    Args:
        values: nats, per option and form; None where there is none.
        unknown: whether that is because the form lies beyond the `listed` likeliest tokens.
        bound: probability that such a form has at most.
    """
    beyond = {"n": listed, "p": decade(bound)}
    if any(option[0] for option in unknown):
        return failed(request, say("unscored.beyond_listed", **beyond), n_tokens), None
    missing = sum(map(sum, unknown))
    answer = OptionAnswer(tuple(map(tuple, values)), n_tokens, left_out=missing * bound)
    return answer, say(LEFT_OUT, **beyond) if missing else None


def decade(probability: float) -> str:
    """The power of ten that a probability lies below, so that a run has few such sentences."""
    return f"1e{math.floor(math.log10(probability)) + 1}" if 0 < probability < 1 else f"{probability:g}"
