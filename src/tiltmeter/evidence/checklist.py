"""OWASP AISVS 1.0, C3.2.2, point by point: what a run shows of it, and what it does not.

The control asks that a model which was quantized, pruned or distilled is evaluated again, on the compressed artifact
and with the same suite, before it is deployed, and that the results are kept as a record of that artifact.
Source      https://github.com/OWASP/AISVS (1.0, chapter 3, model lifecycle management). In our words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tiltmeter.messages import Message
from tiltmeter.schema import Row, Variant, Verdict
from tiltmeter.schema.place import kind_of
from tiltmeter.strategies.base import SIMULATED
from tiltmeter.strategies.chain import parse

Shown = Literal["yes", "partly", "no"]

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
    shown: Shown
    why: str


def checklist(rows: Sequence[Row], variant: Variant, *, n_missing: int, digest_of: str) -> list[Point]:
    """What the rows of one variant show of the control.

    n_missing: cells that the study asked for and the run does not hold. digest_of: what the artifact's digest is of.
    """
    n_cells = len(rows) + n_missing
    paired = [row for row in rows if row.change]
    judged = [row for row in rows if row.change and row.change.verdict not in UNJUDGED]
    whole = [row for row in judged if row.complete and not row.partial]
    simulated = _simulated(variant)
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
            _share(len(paired), n_cells),
            f"{len(paired)} of {n_cells} cells that were asked for are paired with the base, item by item",
        ),
        Point(
            "and a result was reached",
            _share(len(whole), n_cells),
            f"{len(whole)} of {n_cells} cells are complete and have a verdict; the others are not judged",
        ),
        Point(
            "the record names the artifact by digest",
            "yes" if digest_of == "checkpoint files" else "partly" if digest_of == "recipe" else "no",
            f"the SHA-256 among the subjects of this statement is of its {digest_of}"
            if digest_of in ("checkpoint files", "recipe")
            else "nobody here has seen the files of a served model",
        ),
        Point(
            "safety and alignment as a whole",
            "no",
            "bias benchmarks are a part of such a suite; refusals, jailbreaks and accuracy are not covered here",
        ),
    ]


def _share(n: int, of: int) -> Shown:
    return "yes" if of and n == of else "partly" if n else "no"


def _simulated(variant: Variant) -> bool:
    """Whether what answered is not what an engine would run: dense weights in the artifact's place."""
    if kind_of(variant.strategy) == "checkpoint":
        return isinstance(variant.proof.summary, Message) and SIMULATED in variant.proof.summary.parts
    return parse(variant.strategy).speed_is_real is not True
