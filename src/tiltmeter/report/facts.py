"""Every number of one result row with its name, for the page's "All numbers"."""

from __future__ import annotations

from tiltmeter.printed import NONE, compact, defined, digits, interval, number, p_value, signed
from tiltmeter.report.view import View
from tiltmeter.results.beside import label_of, moved_of
from tiltmeter.schema import Change, Row

Pairs = list[tuple[str, str]]
ALPHA = 0.05
CARRIERS = 4  # groups named as those that moved most


def row_facts(view: View, row: Row) -> Pairs:
    """Every number of a row with its name."""
    words, places, unit = view.words, digits(row.unit), words_unit(view, row)
    facts: Pairs = [
        (words("facts.score"), f"{view.score(row)} {unit}"),
        (words("facts.ideal"), number(row.ideal, 0 if row.ideal.is_integer() else places)),
        (words("facts.scored"), f"{row.n_scored:,} / {row.n_items:,}"),
    ]
    if row.ci:
        facts.append((words("facts.ci"), interval(row.ci, places).replace("+", "")))
    if row.n_samples > 1:
        facts.append((words("facts.samples"), str(row.n_samples)))
    facts += [(words("facts.unscored", reason=view.told(reason)), f"{count:,}") for reason, count in row.reasons]
    change = row.change
    if change:
        base = view.base_of(row)
        facts += [
            (words("facts.base"), f"{view.score(base)} {unit}" if base else NONE),
            (words("facts.change"), f"{view.delta(row)} {view.unit(row)}"),
            (words("facts.change_ci"), view.ci(row)),
        ]
        if row.ideal and defined(change.distance_delta):
            facts.append(
                (
                    words("facts.distance"),
                    f"{signed(change.distance_delta, places)} {interval(change.distance_ci, places)}",
                )
            )
        facts += _spread_facts(view, change)
        facts += [(str(view.told(label_of(arm))), moved_of(arm)) for arm in change.arms]
        facts += [
            (words("facts.p"), p_value(change.p)),
            (words("facts.p_adjusted"), p_value(change.p_adjusted)),
            (words("facts.margin"), f"±{number(change.margin, 2)}"),
            (words("facts.mde"), number(change.mde, places)),
            (
                words("facts.noise"),
                number(change.noise, places) if defined(change.noise) else words("facts.not_measured"),
            ),
            *(
                [(words("facts.engine_noise"), number(change.engine_noise, places))]
                if defined(change.engine_noise)
                else []
            ),
            (words("facts.paired"), f"{change.n_paired:,}"),
        ]
        flips = change.flips
        if flips:
            facts.append(
                (
                    words("facts.flips"),
                    words(
                        "facts.flips_value",
                        n=flips.n,
                        of=flips.of,
                        toward=flips.toward_bias,
                        away=flips.away_from_bias,
                    ),
                )
            )
        unanswered = change.unanswered
        if unanswered:
            facts.append((words("facts.unanswered"), f"{number(unanswered.base)} → {number(unanswered.variant)}"))
    facts += [(words.name("extra", name), compact(value)) for name, value in row.extra.items()]
    if row.seconds:
        facts.append(
            (
                words("facts.cost"),
                words("facts.cost_value", seconds=compact(row.seconds), tokens=f"{row.tokens:,}"),
            )
        )
    return facts


def _spread_facts(view: View, change: Change) -> Pairs:
    """Every attribute's differences between groups: sizes, their change, how far they moved, and who moved."""
    facts: Pairs = []
    for spread in change.spreads:
        name, unit = str(view.told(spread.name)), view.words.name("unit", spread.unit)
        if defined(spread.base):
            facts.append((name, f"{number(spread.base)} → {number(spread.variant)} {unit}"))
        facts.append((view.words("facts.companion", name=name), f"{signed(spread.delta, 4)} {interval(spread.ci, 4)}"))
        if defined(spread.movement):
            moved = {"moved": number(spread.movement), "high": number(spread.movement_high), "unit": unit}
            facts.append((view.words("facts.movement", name=name), view.words("facts.movement_value", **moved)))
        carriers = sorted((g for g in spread.groups if g.p_adjusted < ALPHA), key=lambda g: -abs(g.delta))[:CARRIERS]
        if carriers:
            told = [f"{view.words.name('group', g.group)} {signed(g.delta)} {interval(g.ci)}" for g in carriers]
            facts.append((view.words("facts.carriers", name=name), "; ".join(told)))
    if defined(change.slope):
        facts.append((view.words("facts.slope"), f"{number(change.slope)} {_plain(change.slope_ci)}"))
    return facts


def _plain(ends: tuple[float, float] | None) -> str:
    return f"[{number(ends[0])}, {number(ends[1])}]" if ends else ""


def words_unit(view: View, row: Row) -> str:
    return "%" if row.unit == "percent" else view.words.name("unit", row.unit)


def group_meaning(view: View, row: Row) -> str:
    """Unit of a group's change in a benchmark, in a few words."""
    unit = view.group_words(row.benchmark).unit
    return str(view.told(unit)) if unit else view.unit(row)
