"""The report's first screen: the answer in words. Did it change, for whom, how sure, which variant to ship.

Words are chosen from stored verdicts, intervals and choices; nothing is estimated here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tiltmeter.decisions.controls import is_control
from tiltmeter.printed import NONE, compact, defined, digits, interval, number, signed, size
from tiltmeter.report.view import Counts, View
from tiltmeter.schema import Group, Row, Speed, Verdict

LISTED = 6  # lines a card shows before it points to the table below
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
    counts: Counts
    speed: str
    memory: str
    perplexity: str


def headline(view: View) -> tuple[Verdict | None, str]:
    """(verdict, sentence): the verdict picks sign and colour; None where nothing is compared yet."""
    words, rows = view.words, view.accelerated
    counts = view.counts(rows)
    k = {verdict: counts.get(verdict, 0) for verdict in Verdict}
    if not rows:
        return None, words("answer.none")

    def answer(verdict: Verdict, key: str) -> tuple[Verdict, str]:
        found = {"open": k[Verdict.INCONCLUSIVE], "unusable": k[Verdict.NO_USABLE_SIGNAL], "n": len(rows)}
        return verdict, words(key, of=share(view, k[verdict], len(rows)), **found)

    broken = bool(k[Verdict.NO_USABLE_SIGNAL])
    settled = k[Verdict.EQUIVALENT] + k[Verdict.BETTER]
    if k[Verdict.WORSE]:
        return answer(Verdict.WORSE, "answer.worse_unusable" if broken else "answer.worse")
    if k[Verdict.SHIFTED]:
        return answer(Verdict.SHIFTED, "answer.shifted_unusable" if broken else "answer.shifted")
    if broken:
        return answer(Verdict.NO_USABLE_SIGNAL, "answer.unusable" if settled else "answer.unusable_alone")
    if k[Verdict.BETTER]:
        return answer(Verdict.BETTER, "answer.better")
    if k[Verdict.EQUIVALENT] and not k[Verdict.INCONCLUSIVE]:
        return answer(Verdict.EQUIVALENT, "answer.same")
    if k[Verdict.INCONCLUSIVE]:
        return answer(Verdict.INCONCLUSIVE, "answer.open" if settled else "answer.open_alone")
    return answer(Verdict.NOT_EXERCISED, "answer.idle" if k[Verdict.NOT_EXERCISED] else "answer.unjudged")


def share(view: View, k: int, n: int) -> str:
    """So many of all comparisons, in words that fit one, too."""
    return view.words("share.only") if k == n == 1 else view.words("share.some", k=k, n=n)


def moved(view: View) -> list[Row]:
    """Rows judged worse, then shifted, then better; the smallest adjusted p first. Controls are left out."""

    def key(row: Row) -> tuple[int, float]:
        p = row.change.p_adjusted if row.change else math.nan
        return row.verdict.order if row.verdict else len(Verdict), p if defined(p) else 1.0

    return sorted((row for row in view.accelerated if row.verdict and row.verdict.moved), key=key)


def unusable(view: View) -> list[tuple[str, str]]:
    """(variant, how many of its comparisons have no usable signal) of every variant that has any."""
    found: dict[str, list[Row]] = {}
    for row in view.accelerated:
        found.setdefault(view.variant_name(row), []).append(row)
    counted = [(name, view.counts(rows).get(Verdict.NO_USABLE_SIGNAL, 0), len(rows)) for name, rows in found.items()]
    return [(name, share(view, k, n)) for name, k, n in counted if k]


def for_whom(view: View) -> list[GroupMove]:
    """Per benchmark and direction, the group of people whose interval lies farthest from 0 (its nearer end).

    Only cells that can be judged, and only changes that stand when the number of groups is taken into account.
    """
    best: dict[tuple[str, bool], tuple[float, Row, Group]] = {}
    for row in view.accelerated:
        if row.verdict is None or not row.verdict.judged:
            continue
        not_people = view.group_words(row.benchmark).not_people
        for group in (g for g in row.groups if g.attribute not in not_people and _stands_out(g)):
            key = (row.benchmark, group.delta > 0)
            nearer = min(map(abs, group.ci or ()))
            if key not in best or nearer > best[key][0]:
                best[key] = (nearer, row, group)
    order = {name: place for place, name in enumerate(view.benchmarks)}
    return [
        _group_move(view, row, group)
        for _, (_, row, group) in sorted(best.items(), key=lambda entry: (order[entry[0][0]], not entry[0][1]))
    ]


def _stands_out(group: Group) -> bool:
    if not defined(group.delta) or not group.ci or not all(map(defined, group.ci)):
        return False
    return not group.ci[0] <= 0 <= group.ci[1] and (not defined(group.p_adjusted) or group.p_adjusted < ALPHA)


def _group_move(view: View, row: Row, group: Group) -> GroupMove:
    places, up = digits(row.unit), group.delta > 0
    name, attribute = view.group(row.benchmark, group.group), view.attribute(row.benchmark, group.attribute)
    meaning = view.group_words(row.benchmark)
    return GroupMove(
        row,
        f"{attribute} {name}" if name.isdigit() else name,  # age 20, not 20
        "" if name.isdigit() else attribute,
        view.told(meaning.rises if up else meaning.falls),
        signed(group.delta, places),
        interval(group.ci, places),
        up,
    )


def advice(view: View, lines: list[VariantLine]) -> str:
    """What to ship, from the verdicts alone."""
    words = view.words
    clear = [line for line in lines if line.tier == "candidate"]
    if clear:
        return words("ship.clear", names=", ".join(name_of(view, line) for line in clear))
    undecided = sorted(
        (line for line in lines if line.tier == "open"), key=lambda line: line.counts.get(Verdict.INCONCLUSIVE, 0)
    )
    if undecided:
        first = undecided[0]
        settled = sum(n for verdict, n in first.counts.items() if verdict in (Verdict.EQUIVALENT, Verdict.BETTER))
        return words("ship.open", name=name_of(view, first), k=settled, n=sum(first.counts.values()))
    return words("ship.none" if any(line.tier == "avoid" for line in lines) else "ship.nothing")


def name_of(view: View, line: VariantLine) -> str:
    """A variant's name; the model's too where the run has several."""
    return f"{view.short(line.model)} · {line.strategy}" if len(view.models) > 1 else line.strategy


def variant_lines(view: View) -> list[VariantLine]:
    """Every variant with its verdicts, cost and tier; best tier first, the run's order inside a tier."""
    lines = []
    for model in view.models:
        for strategy in view.strategies:
            rows = [row for row in view.compared if row.model == model and row.strategy == strategy]
            if not rows:
                continue
            facts = view.document.variant(model, strategy)
            counts = view.counts(rows)
            quality, speed = (facts.text_quality, facts.speed) if facts else (None, None)
            lines.append(
                VariantLine(
                    model,
                    strategy,
                    _tier(strategy, counts, view),
                    counts,
                    speed_words(view, speed),
                    size(speed.memory_bytes if speed else None),
                    compact(quality.perplexity if quality else None),
                )
            )
    return sorted(lines, key=lambda line: TIERS.index(line.tier))


def _tier(strategy: str, counts: Counts, view: View) -> str:
    if is_control(strategy, view.controls):
        return "control"
    if counts.keys() & {Verdict.WORSE, Verdict.SHIFTED, Verdict.NO_USABLE_SIGNAL}:
        return "avoid"
    if counts.keys() & {Verdict.INCONCLUSIVE, None}:
        return "open"
    return "candidate" if counts.keys() & {Verdict.EQUIVALENT, Verdict.BETTER} else "idle"


def speed_words(view: View, speed: Speed | None) -> str:
    """Tokens per second, and the stored ratio to the base of the same rounds."""
    if speed is None or not defined(speed.decode_tokens_per_s):
        return NONE
    rate = view.words("speed.rate", rate=compact(speed.decode_tokens_per_s))
    ratio = speed.decode_speedup.median if speed.decode_speedup else math.nan
    return f"{rate} ({number(ratio, 2)}×)" if defined(ratio) else rate
