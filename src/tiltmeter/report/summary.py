"""The report's first screen: the answer in words. Did it change, for whom, how sure, which variant to ship.

Words are chosen from stored verdicts, intervals and choices; nothing is estimated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tiltmeter.printed import NONE, compact, defined, digits, interval, number, signed, size
from tiltmeter.report.view import Row, View

LISTED = 6  # lines a card shows before it points to the table below
NOT_PEOPLE = ("topic",)  # attributes whose groups are no people
ALPHA = 0.05
TIERS = ("candidate", "open", "avoid", "idle", "control")


@dataclass(frozen=True)
class GroupMove:
    """The group that moved most in one row, and by how much."""

    row: Row
    group: str
    attribute: str  # "" where the name has it
    meaning: str  # what a change in this direction means for the group
    delta: str
    ci: str
    up: bool


@dataclass(frozen=True)
class VariantLine:
    """One variant over all its rows."""

    model: str
    strategy: str
    tier: str  # one of TIERS
    counts: dict[str, int]
    speed: str
    memory: str
    perplexity: str


def headline(view: View) -> tuple[str, str]:
    """(kind, sentence): kind picks the sign and colour; it is worse, better, equivalent, inconclusive, unusable,
    idle or none."""
    words = view.words
    rows = [row for row in view.compared if not view.is_control(row["strategy"])]
    counts = view.counts(rows)
    n = len(rows)
    worse, better, same = counts.get("worse", 0), counts.get("better", 0), counts.get("equivalent", 0)
    open_, unusable, idle = (counts.get(name, 0) for name in ("inconclusive", "no usable signal", "not exercised"))
    if not n:
        return "none", words("answer.none")
    told = {"n": n, "same": same, "better": better, "open": open_, "unusable": unusable}
    if worse:
        return "worse", words("answer.worse_unusable" if unusable else "answer.worse", k=worse, **told)
    if unusable:
        return "unusable", words("answer.unusable", **told)
    if better:
        return "better", words("answer.better", **told)
    if same and not open_:
        return "equivalent", words("answer.same", **told)
    if open_:
        return "inconclusive", words("answer.open", **told)
    return "idle", words("answer.idle" if idle else "answer.unjudged", **told)


def moved(view: View) -> list[Row]:
    """Rows judged worse, then better; the smallest adjusted p first. Controls are left out."""

    def key(row: Row) -> tuple[bool, float]:
        p = row["change"].get("p_adjusted")
        return view.verdict(row) == "better", p if defined(p) else 1.0

    return sorted((row for row in _candidates(view) if view.verdict(row) in ("worse", "better")), key=key)


def unusable(view: View) -> list[tuple[str, int, int]]:
    """(variant, cells without a usable signal, its cells) of every variant that has any."""
    found: dict[str, list[Row]] = {}
    for row in _candidates(view):
        name = f"{view.short(row['model'])} · {row['strategy']}" if len(view.models) > 1 else row["strategy"]
        found.setdefault(name, []).append(row)
    counted = [(name, view.counts(rows).get("no usable signal", 0), len(rows)) for name, rows in found.items()]
    return [entry for entry in counted if entry[1]]


def _candidates(view: View) -> list[Row]:
    return [row for row in view.compared if not view.is_control(row["strategy"])]


def for_whom(view: View) -> list[GroupMove]:
    """Per benchmark and direction, the group of people whose interval lies farthest from 0 (its nearer end).

    Only cells that can be judged, and only changes that stand when the number of groups is taken into account.
    """
    best: dict[tuple[str, bool], tuple[float, Row, dict[str, Any]]] = {}
    for row in _candidates(view):
        if view.verdict(row) in ("not exercised", "no usable signal"):
            continue
        for group in filter(_stands_out, row["groups"]):
            key = (row["benchmark"], group["delta"] > 0)
            nearer = min(map(abs, group["ci"]))
            if key not in best or nearer > best[key][0]:
                best[key] = (nearer, row, group)
    order = {name: place for place, name in enumerate(view.benchmarks)}
    return [
        _group_move(view, row, group)
        for _, (_, row, group) in sorted(best.items(), key=lambda entry: (order[entry[0][0]], not entry[0][1]))
    ]


def _stands_out(group: dict[str, Any]) -> bool:
    ends, p = group.get("ci"), group.get("p_adjusted")
    if group["attribute"] in NOT_PEOPLE or not defined(group.get("delta")) or not ends or not all(map(defined, ends)):
        return False
    return not ends[0] <= 0 <= ends[1] and (not defined(p) or p < ALPHA)


def _group_move(view: View, row: Row, group: dict[str, Any]) -> GroupMove:
    places, up = digits(row["unit"]), group["delta"] > 0
    name, attribute = view.words.name("group", group["group"]), view.words.name("attribute", group["attribute"])
    known = row["benchmark"] if view.words.has(f"groups.rises.{row['benchmark']}") else "other"
    return GroupMove(
        row,
        f"{attribute} {name}" if name.isdigit() else name,  # age 20, not 20
        "" if name.isdigit() else attribute,
        view.words(f"groups.{'rises' if up else 'falls'}.{known}"),
        signed(group["delta"], places),
        interval(group["ci"], places),
        up,
    )


def advice(view: View, lines: list[VariantLine]) -> str:
    """What to ship, from the verdicts alone."""
    words = view.words
    clear = [line for line in lines if line.tier == "candidate"]
    if clear:
        return words("ship.clear", names=", ".join(name_of(view, line) for line in clear))
    undecided = sorted(
        (line for line in lines if line.tier == "open"), key=lambda line: line.counts.get("inconclusive", 0)
    )
    if undecided:
        first = undecided[0]
        settled = sum(n for verdict, n in first.counts.items() if verdict in ("equivalent", "better"))
        return words("ship.open", name=name_of(view, first), k=settled, n=sum(first.counts.values()))
    return words("ship.none" if any(line.tier == "avoid" for line in lines) else "ship.nothing")


def name_of(view: View, line: VariantLine) -> str:
    """A variant's name; the model's too where the run has several."""
    return f"{view.short(line.model)} · {line.strategy}" if len(view.models) > 1 else line.strategy


def variant_lines(view: View) -> list[VariantLine]:
    """Every variant with its verdicts, cost and tier; best tier first, the run's order inside a tier."""
    facts = {(variant["model"], variant["strategy"]): variant for variant in view.variants}
    lines = []
    for model in view.models:
        for strategy in view.strategies:
            rows = [row for row in view.compared if row["model"] == model and row["strategy"] == strategy]
            if not rows:
                continue
            mine = facts.get((model, strategy), {})
            counts = view.counts(rows)
            lines.append(
                VariantLine(
                    model,
                    strategy,
                    _tier(view, strategy, counts),
                    counts,
                    speed_words(view, mine),
                    memory_words(mine),
                    compact((mine.get("text_quality") or {}).get("perplexity")),
                )
            )
    return sorted(lines, key=lambda line: TIERS.index(line.tier))


def _tier(view: View, strategy: str, counts: dict[str, int]) -> str:
    if view.is_control(strategy):
        return "control"
    if counts.get("worse") or counts.get("no usable signal"):
        return "avoid"
    if counts.get("inconclusive") or counts.get(""):
        return "open"
    return "candidate" if counts.get("equivalent") or counts.get("better") else "idle"


def speed_of(variant: dict[str, Any]) -> float | None:
    """Measured decode tokens per second, None where none was measured."""
    speed = variant.get("speed") or {}
    found = next((speed[name] for name in ("decode_tokens_per_s", "decode_tokens_per_second") if name in speed), None)
    return found if defined(found) else None


def speed_words(view: View, variant: dict[str, Any]) -> str:
    """Tokens per second, and the stored ratio to the base of the same rounds."""
    mine = speed_of(variant)
    if mine is None:
        return NONE
    ratio = ((variant.get("speed") or {}).get("decode_speedup") or {}).get("median")
    rate = view.words("speed.rate", rate=compact(float(mine)))
    return f"{rate} ({number(ratio, 2)}×)" if defined(ratio) else rate


def memory_words(variant: dict[str, Any]) -> str:
    speed = variant.get("speed") or {}
    return size(next((speed[name] for name in ("weight_bytes", "memory_bytes", "bytes") if name in speed), None))
