"""OWASP AISVS 1.0, C3.2.2, point by point: what a run shows of it, and what it does not.

The control asks that a model which was quantized, pruned or distilled is evaluated again, on the compressed artifact
and with the same suite, before it is deployed, and that the results are kept as a record of that artifact.
Source      https://github.com/OWASP/AISVS (1.0, chapter 3, model lifecycle management). In our words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tiltmeter.schema import Row, Variant, Verdict

CONTROL = "OWASP AISVS 1.0 C3.2.2"
UNJUDGED = (Verdict.NO_USABLE_SIGNAL, Verdict.NOT_EXERCISED, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Point:
    """One thing that the control asks.

    Attributes:
        asks: in our words.
        shown: "yes", "partly" or "no"; never "yes" on what is missing.
        why: what the run holds.
    """

    asks: str
    shown: Literal["yes", "partly", "no"]
    why: str


def checklist(rows: Sequence[Row], variant: Variant) -> list[Point]:
    """What the rows of one variant show of the control."""
    judged = [row for row in rows if row.change and row.change.verdict not in UNJUDGED]
    whole = [row for row in judged if row.complete and not row.partial]
    simulated = "simulated" in (variant.proof.summary or "")
    return [
        Point(
            "the compressed artifact itself was evaluated",
            "no" if not rows else "partly" if simulated else "yes",
            "its arithmetic was simulated on dense weights, not run in the engine that serves it"
            if simulated
            else f"{len(rows)} rows of answers of {variant.strategy}",
        ),
        Point(
            "with the suite that the original was evaluated with",
            "yes"
            if rows and all(row.change for row in rows)
            else "partly"
            if any(row.change for row in rows)
            else "no",
            f"{sum(row.change is not None for row in rows)} of {len(rows)} rows are paired with the base, item by item",
        ),
        Point(
            "and a result was reached",
            "yes" if rows and len(whole) == len(rows) else "partly" if judged else "no",
            f"{len(whole)} of {len(rows)} rows are complete and have a verdict; the others are not judged",
        ),
        Point(
            "the record names the artifact by digest",
            "yes" if variant.weight_hash else "no",
            "SHA-256 among the subjects of this statement"
            if variant.weight_hash
            else "no digest of the weights is known",
        ),
        Point(
            "safety and alignment as a whole",
            "no",
            "bias benchmarks are a part of such a suite; refusals, jailbreaks and accuracy are not covered here",
        ),
    ]
