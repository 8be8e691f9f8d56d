"""Items of no known task: a score per item, and whatever the file says about clusters and groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tiltmeter.analysis.arrays import described
from tiltmeter.analysis.types import Comparison
from tiltmeter.benchmarks.base import NAN, GroupScore, Outcome, Sample, Score, group_means, mean, unscored_counts
from tiltmeter.benchmarks.logged import Line
from tiltmeter.errors import UserError
from tiltmeter.messages import Message
from tiltmeter.results.logs.files import Log

NO_SCORE = Message("unscored.no_score")


@dataclass(frozen=True)
class Layout:
    """What a file's columns mean; None where nothing was said.

    metric: which score; cluster, groups: fields of an item (`.` leads into a field that holds fields); ideal, margin,
    gap_margin, span, unit: as `tiltmeter.analysis.judge` has them.
    """

    metric: str | None = None
    cluster: str | None = None
    groups: tuple[str, ...] = ()
    ideal: float | None = None
    margin: float | None = None
    gap_margin: float | None = None
    span: tuple[float, float] = (0.0, 1.0)
    unit: str = "fraction"


class Plain:
    """The items of a file as a benchmark: name, unit, ideal, score and comparison."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.name, self.layout = name, layout
        self.unit, self.ideal = layout.unit, 0.0 if layout.ideal is None else layout.ideal
        self.margin = NAN if layout.margin is None else layout.margin

    def score(self, outcomes: Sequence[Outcome]) -> Score:
        scored = [o.score for o in outcomes if not math.isnan(o.score)]
        scale = 100.0 if self.unit == "percent" else 1.0
        groups = tuple(
            GroupScore(g.attribute, g.group, scale * g.score, g.n)
            for attribute in self.layout.groups
            for g in group_means(outcomes, attribute)
        )
        reason = None if scored else NO_SCORE
        return Score(scale * mean(scored), len(outcomes), len(scored), reason, unscored_counts(outcomes), {}, groups)

    def comparison(self, base: Sequence[Outcome], variant: Sequence[Outcome], *, margin: float) -> Comparison:
        layout = self.layout
        return described(
            _scores(base),
            _scores(variant),
            ideal=layout.ideal,
            margin=layout.margin,
            gap_margin=layout.gap_margin,
            clusters=[o.cluster for o in base],
            groups={attribute: [o.groups.get(attribute) for o in base] for attribute in layout.groups},
            span=layout.span,
            unit=layout.unit,
            name=self.name,
            ids=[o.item for o in base],
        )


def _scores(outcomes: Sequence[Outcome]) -> np.ndarray:
    width = max((len(o.samples) for o in outcomes), default=1)
    table = np.full((len(outcomes), max(width, 1)), np.nan)
    for row, outcome in zip(table, outcomes):
        row[: len(outcome.samples)] = [s.score for s in outcome.samples]
    return table[:, 0] if width == 1 else table


def read_plain(log: Log, layout: Layout) -> tuple[Plain, list[Outcome]]:
    """The file's items as outcomes. Raises UserError that says which option to type, and what there is to choose."""
    metric = layout.metric or _only_score(log)
    if layout.margin is None and layout.gap_margin is None:
        raise UserError(
            f"{log.path}: what of {metric!r} would be a bias, and how much of it matters?",
            fix="--ideal X --margin M (the mean should be X; changes within M do not matter), or "
            "--group COLUMN --gap-margin M (groups should fare alike), or both",
        )
    places: dict[str, dict[int, Line]] = {}
    for line in log.lines:
        known = places.setdefault(line.item, {})
        if line.sample in known:
            raise UserError(
                f"{log.path}, item {line.item!r} occurs twice (entries {known[line.sample].number} and {line.number})",
                fix="items must be unique to be paired; number repeated answers in a column `sample`",
            )
        known[line.sample] = line
    outcomes = []
    for item, samples in places.items():
        first = samples[min(samples)]
        scores = [samples[place].scores.get(metric, NAN) for place in sorted(samples)]
        outside = [s for s in scores if math.isfinite(s) and not layout.span[0] <= s <= layout.span[1]]
        if outside:
            raise UserError(
                f"{log.path}, entry {first.number}: {metric} is {outside[0]:g}, outside of "
                f"{layout.span[0]:g} to {layout.span[1]:g}",
                fix="say the lowest and highest score an item can have: --span LOW,HIGH",
            )
        outcomes.append(
            Outcome(
                item,
                _field(log, first, layout.cluster) if layout.cluster else item,
                {name: _field(log, first, name) for name in layout.groups},
                tuple(
                    Sample(s if math.isfinite(s) else NAN, reason=None if math.isfinite(s) else NO_SCORE)
                    for s in scores
                ),
            )
        )
    if not any(math.isfinite(o.score) for o in outcomes):
        raise UserError(f"{log.path}: no item has a number as {metric!r}", fix=_choose(log))
    return Plain(log.task or metric, layout), outcomes


def _only_score(log: Log) -> str:
    """The score that the file has; `score` where there are several."""
    names = _names(log)
    if "score" in names or len(names) == 1:
        return "score" if "score" in names else names[0]
    raise UserError(f"{log.path} has {len(names)} scores: {', '.join(names[:12]) or 'none'}", fix=_choose(log))


def _names(log: Log) -> list[str]:
    """Names of scores that are a number for most of the first items."""
    first = log.lines[:50]
    names = dict.fromkeys(name for line in first for name in line.scores)
    return [n for n in names if sum(math.isfinite(line.scores.get(n, NAN)) for line in first) > len(first) / 2]


def _choose(log: Log) -> str:
    names = _names(log)
    return f"--metric {' or --metric '.join(names[:6])}" if names else "the file needs a column of numbers"


def _field(log: Log, line: Line, name: str) -> str:
    """A field of an item as text. Raises UserError that names what there is."""
    value: object = line.fields
    for part in (name,) if name in line.fields else name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None or isinstance(value, (dict, list)):
        there = ", ".join(sorted(map(str, line.fields))[:12])
        raise UserError(f"{log.path}, entry {line.number}: no field {name!r}", fix=f"choose from: {there or 'none'}")
    return str(value)
