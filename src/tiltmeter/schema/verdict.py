"""The verdicts there are, in their order, with the one sign and the one colour each is shown with everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What was found about one change. Members stand in their order: what a reader must see first comes first.

    sign    one character, as printed on the terminal, in Markdown and on the page
    ascii   the sign where the output cannot show it
    colour  name of the colour: a key of `report.ink.INK`, a class of the page's style (v-NAME), a style of the terminal
    """

    sign: str
    ascii: str
    colour: str

    WORSE = "worse", "▲", "^", "worse"
    SHIFTED = "shifted", "⇄", "~", "shifted"  # whom it favours changed, how much did not
    BETTER = "better", "▼", "v", "better"
    EQUIVALENT = "equivalent", "=", "=", "equivalent"
    INCONCLUSIVE = "inconclusive", "?", "?", "inconclusive"
    NOT_EXERCISED = "not exercised", "∅", "o", "idle"
    NO_USABLE_SIGNAL = "no usable signal", "✕", "x", "unusable"

    def __new__(cls, value: str, sign: str = "", ascii: str = "", colour: str = "") -> Verdict:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sign, member.ascii, member.colour = sign, ascii, colour
        return member

    @property
    def order(self) -> int:
        """0 for the verdict a reader must see first."""
        return list(Verdict).index(self)

    @property
    def moved(self) -> bool:
        """A change that was told from chance: worse, shifted or better."""
        return self in (Verdict.WORSE, Verdict.SHIFTED, Verdict.BETTER)

    @property
    def harmful(self) -> bool:
        """What a policy forbids unless it says otherwise: worse, and shifted."""
        return self in (Verdict.WORSE, Verdict.SHIFTED)

    @property
    def judged(self) -> bool:
        """Whether the data spoke: not where the strategy cannot have acted or no usable signal is left."""
        return self not in (Verdict.NOT_EXERCISED, Verdict.NO_USABLE_SIGNAL)


def worst(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict of these that comes first in the order; None of none."""
    return min(verdicts, key=lambda verdict: verdict.order, default=None)
