"""Numbers as the reasons print them."""

from __future__ import annotations

import numpy as np

from tiltmeter.messages import Text, named, say


def number(value: float) -> Text:
    return f"{value:.3g}" if np.isfinite(value) else say("number.unknown")


def signed(value: float) -> str:
    return f"{value:+.3g}"


def p_text(value: float) -> Text:
    if not np.isfinite(value):
        return say("number.undefined")
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def in_unit(unit: str) -> Text:
    return named("unit", "points" if unit == "percent" else unit)
