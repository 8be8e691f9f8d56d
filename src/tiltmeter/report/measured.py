"""What was measured of the variants beside bias: text quality, speed, memory. Tables of printed cells."""

from __future__ import annotations

from typing import Any

from tiltmeter.printed import NONE, compact, defined, number, size
from tiltmeter.report.view import View
from tiltmeter.schema import Speed, TextQuality
from tiltmeter.schema.variant import Timing

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
RANKS = ("rank_of_size", "rank_of_change")
Table = dict[str, object]  # {"names": columns, "rows": [(variant, printed cells)]}


def quality(view: View) -> Table:
    """Perplexity of the given text, and what it is over, per variant."""
    facts = [(variant, variant.text_quality or TextQuality()) for variant in view.variants]
    names = [
        name for name in ("perplexity", "n_tokens", "n_passages") if any(_given(getattr(f, name)) for _, f in facts)
    ]
    rows = [(view.variant_name(v), [printed(name, _given(getattr(f, name))) for name in names]) for v, f in facts]
    return {"names": names, "rows": rows}


def speeds(view: View) -> Table:
    """Measured speed and memory per variant; a ratio is printed with its range of rounds. "notes": why some are
    missing."""
    facts = [(variant, variant.speed or Speed()) for variant in view.variants]
    names = [name for name in SPEED_COLUMNS if any(_given(getattr(speed, name)) is not None for _, speed in facts)]
    rows = [(view.variant_name(v), [_speed_cell(name, getattr(speed, name)) for name in names]) for v, speed in facts]
    notes = [(view.variant_name(variant), view.told(speed.note)) for variant, speed in facts if speed.note]
    return {"names": names, "rows": rows, "notes": notes}


def fidelity(view: View) -> Table:
    """How far each variant lies from its base, on the text and on each cell's prompts, with the rank correlations."""
    columns = ("mean", "median", "p99", "largest", "same_top", "perplexity_ratio", "n")
    ranks = {
        (row.model, row.strategy, f"{row.benchmark} {row.format}"): row.change.extra for row in view.rows if row.change
    }
    rows, notes = [], []
    for variant in view.variants:
        found = variant.fidelity
        if found is None:
            continue
        if found.reason:
            notes.append((view.variant_name(variant), view.told(found.reason)))
        parts = [(found.text_name, found.text)] if found.text and found.text.n else []
        for name, of in (*parts, *found.prompts.items()):
            cell = name.rpartition(" ")[0]
            extra = ranks.get((variant.model, variant.strategy, cell), {})
            cells = [_fidelity_cell(column, getattr(of, column)) for column in columns]
            cells += [number(extra.get(f"divergence:{column}"), 2) for column in RANKS]
            label = f"{view.variant_name(variant)} · {(cell or name).removesuffix(' plain')}"
            rows.append((label, cells))
    return {"names": [*columns, *RANKS] if rows else [], "rows": rows, "notes": notes}


def _fidelity_cell(column: str, value: float) -> str:
    if column == "same_top" and defined(value):
        return f"{100 * value:.1f} %"
    return number(value, 3) if column == "perplexity_ratio" else compact(value)


def _given(value: Any) -> Any:
    """None for what was not measured: an undefined number, or a count of nothing."""
    return None if value is None or value == 0 or value != value else value


def _speed_cell(name: str, value: Timing | float | int | None) -> str:
    if isinstance(value, Timing):
        spread = f" ({value.low:.2f}–{value.high:.2f})" if defined(value.low) and defined(value.high) else ""
        return f"{number(value.median, 2)}×{spread}"
    return printed(name, float(value) if isinstance(value, int) and not name.endswith("bytes") else value)


def answer_quality(view: View) -> Table:
    """Per variant and generating cell: how its own answers read."""
    found = [
        (f"{view.variant_name(variant)} · {cell.split(' ')[0] if view.asked_one_way else cell}", answers)
        for variant in view.variants
        for cell, answers in (variant.text_quality.answers if variant.text_quality else {}).items()
        if answers.n
    ]
    columns = ("n", "words", *SHARES, "base_logprob", "base_logprob_n")
    names = [name for name in columns if any(defined(getattr(answers, name)) for _, answers in found)]
    rows = [(label, [_quality_cell(name, getattr(answers, name)) for name in names]) for label, answers in found]
    return {"names": names, "rows": rows}


def acceptance(view: View) -> Table:
    """Assisted decoding: guesses accepted, overall and per group, per variant and generating cell."""
    rows = [
        (
            f"{view.variant_name(variant)} · {cell.split(' ')[0] if view.asked_one_way else cell}"
            + (f" · {each.attribute}: {each.group}" if each.attribute else ""),
            [
                printed("answers", each.answers),
                printed("guessed", each.guessed),
                f"{100 * each.rate:.1f} %",
                f"{100 * each.low:.1f}–{100 * each.high:.1f} %" if defined(each.low) else NONE,
                number(each.tokens_per_forward, 2),
            ],
        )
        for variant in view.variants
        for cell, answers in (variant.text_quality.answers if variant.text_quality else {}).items()
        for each in answers.acceptance
    ]
    return {"names": ["answers", "guessed", "rate", "interval", "per_forward"], "rows": rows}


def _quality_cell(name: str, value: Any) -> str:
    return f"{100 * value:.1f} %" if name in SHARES and defined(value) else printed(name, value)


def printed(name: str, value: Any) -> str:
    return size(value) if name.endswith("bytes") else compact(value)
