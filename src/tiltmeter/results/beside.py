"""Arms as they are printed: what stands beside a score and decides with it."""

from __future__ import annotations

from tiltmeter.messages import Text, say
from tiltmeter.printed import digits, interval, number, signed
from tiltmeter.schema.change import Arm


def label_of(arm: Arm) -> Text:
    """Its name, and whether it is judged, a control, or neither."""
    return say(f"arm.as_{arm.role}", name=arm.name)


def moved_of(arm: Arm) -> str:
    """ "0.62 -> 0.60, -0.02 [-0.05, +0.01]", in the arm's unit."""
    places = digits(arm.unit)
    change = " ".join([signed(arm.delta, places), *([interval(arm.ci, places)] if arm.ci else [])])
    return f"{number(arm.base, places)} → {number(arm.variant, places)}, {change}"
