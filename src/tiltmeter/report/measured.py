"""What was measured of the variants beside bias: text quality, speed, memory. Tables of printed cells."""

from __future__ import annotations

from typing import Any

from tiltmeter.messages import sentence
from tiltmeter.printed import compact, defined, number, size
from tiltmeter.report.view import View


def measured(view: View, field: str) -> dict[str, Any]:
    """A table of what was measured per variant: {"names": columns, "rows": [(variant, cells)]}."""
    facts = [
        (
            variant,
            {
                name: value
                for name, value in (variant.get(field) or {}).items()
                if isinstance(value, (int, float)) or value is None
            },
        )
        for variant in view.variants
    ]
    names = list(dict.fromkeys(name for _, values in facts for name, value in values.items() if value is not None))
    rows = [
        (variant_label(view, variant), [printed(name, values.get(name)) for name in names]) for variant, values in facts
    ]
    return {"names": names, "rows": rows}


SHARES = ("eos_rate", "repeated", "empty", "unparsed", "contradictory", "other_script")
SPEED_COLUMNS = (
    "prefill_tokens_per_s",
    "prefill_speedup",
    "decode_tokens_per_s",
    "decode_speedup",
    "memory_bytes",
    "disk_bytes",
    "peak_bytes",
)


def speeds(view: View) -> dict[str, Any]:
    """Measured speed and memory per variant, in the form of `measured`; a ratio is printed with its range of rounds."""
    facts = [(variant, variant.get("speed") or {}) for variant in view.variants]
    names = [name for name in SPEED_COLUMNS if any(values.get(name) is not None for _, values in facts)]
    rows = [
        (variant_label(view, variant), [_speed_cell(name, values.get(name)) for name in names])
        for variant, values in facts
    ]
    notes = [
        (variant_label(view, variant), view.told(sentence(speed, "note")))
        for variant, speed in facts
        if speed.get("note")
    ]
    return {"names": names, "rows": rows, "notes": notes}


def _speed_cell(name: str, value: Any) -> str:
    if isinstance(value, dict):
        low, high = value.get("low", value.get("smallest")), value.get("high", value.get("largest"))
        spread = f" ({low:.2f}–{high:.2f})" if defined(low) and defined(high) else ""
        return f"{number(value.get('median'), 2)}×{spread}"
    return printed(name, float(value) if isinstance(value, int) and not name.endswith("bytes") else value)


def answer_quality(view: View) -> dict[str, Any]:
    """Per variant and generating cell: how its own answers read. The same form as `measured`."""
    found = [
        (f"{variant_label(view, variant)} · {cell.split(' ')[0] if view.asked_one_way else cell}", facts)
        for variant in view.variants
        for cell, facts in ((variant.get("text_quality") or {}).get("answers") or {}).items()
        if facts.get("n", 1)
    ]
    names = list(dict.fromkeys(name for _, facts in found for name, value in facts.items() if defined(value)))
    return {
        "names": names,
        "rows": [(label, [_quality_cell(name, facts.get(name)) for name in names]) for label, facts in found],
    }


def _quality_cell(name: str, value: Any) -> str:
    return f"{100 * value:.1f} %" if name in SHARES and defined(value) else printed(name, value)


def printed(name: str, value: Any) -> str:
    return size(value) if name.endswith("bytes") else compact(value)


def variant_label(view: View, variant: dict[str, Any]) -> str:
    name = view.strategy(variant["strategy"])
    return f"{view.short(variant['model'])} · {name}" if len(view.models) > 1 else name
