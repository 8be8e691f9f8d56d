"""The report's pictures as Vega-Altair charts: a function per kind, document rows in, chart out.

Charts hold printed values and sentences only as data, never as expressions, so nothing a model, a data set or a
folder name says is evaluated. Each function gives None where there is nothing to draw.

`file`: the picture stands alone, with its own legend; on the page one legend serves all of a section.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from tiltmeter.printed import clean, defined, digits, interval, signed
from tiltmeter.report.ink import INK, NAME_LIMIT, SHAPES, beside, data, labels, step, styled, verdict_scale
from tiltmeter.report.view import View
from tiltmeter.schema import Change, Group, Row, Verdict
from tiltmeter.schema.place import is_base
from tiltmeter.schema.results import Candidate

NARROW = 215  # pixels between the axes: with its labels a picture then fits a phone, and two stand side by side
GROUPS_SHOWN = 18  # rows of a group picture; the groups that move most are kept, the table holds all


def changed(rows: list[Row]) -> Iterator[tuple[Row, Change]]:
    """The rows with their changes; rows without one are left out."""
    return ((row, row.change) for row in rows if row.change)


def known(value: float) -> float | None:
    """A number as chart data: None where it is undefined, for charts know no NaN."""
    return value if defined(value) else None


def forest(view: View, rows: list[Row], *, companion: bool = False, file: bool = False) -> Any | None:
    """Changes with 95 % intervals, margin band and noise floor: one line a variant. None when nothing is defined.

    companion: draw the change of the noise-corrected spread (squared units) instead of the score's.
    """
    many_models = len({row.model for row in rows}) > 1

    def named(row: Row) -> str:
        return f"{view.short(row.model)} · {row.strategy}" if many_models else row.strategy

    values: list[dict[str, Any]] = []
    labelled = labels(map(named, rows), 44 if file else 30 if many_models else 18)
    for row, change in changed(rows):
        moved, ends = (change.companion_delta, change.companion_ci) if companion else (change.delta, change.ci)
        delta = known(moved)
        low, high = ends if ends and all(map(defined, ends)) else (None, None)
        noise = known(change.noise) if not companion and not view.rests_on_companion(row) else None
        values.append(
            {
                "name": labelled[named(row)],
                "delta": delta,
                "low": low,
                "high": high,
                "inside": change.verdict,
                "verdict": view.verdict_words(change.verdict),
                "said": view.sentence(row),
                "href": f"#{view.row_id(row)}",
                "noise": noise,
                "minus_noise": None if noise is None else -noise,
                "missing": None if delta is not None else view.words("chart.undefined"),
            }
        )
    if not any(defined(value["delta"]) for value in values):
        return None
    y = alt.Y(
        "name:N",
        sort=list(dict.fromkeys(value["name"] for value in values)),
        title=None,
        axis=beside(labelled, domain=False, ticks=False, grid=True, gridDash=[1, 3]),
    )
    unit = _spread_unit(view, rows[0]) if companion else view.unit(rows[0])
    x = alt.X(
        "delta:Q",
        title=view.words("chart.companion" if companion else "chart.change", unit=unit),
        axis=alt.Axis(tickCount=4),
        scale=alt.Scale(padding=12),
    )
    base = alt.Chart(data(values)).encode(y=y)
    present = [verdict for verdict in Verdict if verdict in {value["inside"] for value in values}]
    layers = []
    margin = rows[0].change.margin if rows[0].change else None
    if defined(margin) and not companion and not view.rests_on_companion(rows[0]):
        band = alt.Chart(data([{"a": -margin, "b": margin}]))
        layers.append(band.mark_rect(color=INK["margin"], aria=False).encode(x="a:Q", x2="b:Q"))
    layers.append(alt.Chart(data([{"zero": 0}])).mark_rule(color=INK["muted"], aria=False).encode(x="zero:Q"))
    if any(defined(value["noise"]) for value in values):
        for name in ("noise", "minus_noise"):
            layers.append(base.mark_tick(color=INK["noise"], thickness=2.5, size=16, aria=False).encode(x=f"{name}:Q"))
    keyed: dict[str, Any] = {} if file else {"legend": None}  # the page has one legend for all
    colour = verdict_scale(view, present, alt.Color, {v: INK[v.colour] for v in present}, **keyed)
    layers.append(base.mark_rule(strokeWidth=2, aria=False).encode(x=alt.X("low:Q"), x2="high:Q", color=colour))
    points = base.mark_point(filled=True, size=110, opacity=1, strokeWidth=2).encode(
        x=x,
        color=colour,
        shape=verdict_scale(view, present, alt.Shape, SHAPES, **keyed),
        description="said:N",
        href="href:N",
    )
    layers.append(points)
    layers.append(
        base.mark_text(color=INK["muted"], fontSize=11, align="left", dx=6)
        .transform_filter("datum.missing != null")
        .encode(x=alt.datum(0), text="missing:N")
    )
    return styled(alt.layer(*layers).properties(width=NARROW, height=step(labelled, 26)))


def _spread_unit(view: View, row: Row) -> str:
    spread = row.change.spread if row.change else None
    return view.words.name("unit", spread.unit if spread and spread.unit else row.unit)


def groups(view: View, rows: list[Row], *, file: bool = False, narrow: bool = False) -> Any | None:
    """Change of every demographic group with its interval: one column a strategy. None when no group has a change.

    narrow: two columns, drawn for a phone.
    """
    found = [(row, group) for row in rows for group in row.groups if defined(group.delta)]
    if not found:
        return None
    reach: dict[tuple[str, str], float] = {}
    for _, group in found:
        key = (group.attribute, group.group)
        reach[key] = max(reach.get(key, 0.0), abs(group.delta))
    # whole attributes before intersections (their names join two with " x "), then what moves most
    kept = set(sorted(reach, key=lambda key: (" x " in key[0], -reach[key]))[:GROUPS_SHOWN])
    many_attributes = len({attribute for attribute, _ in kept if " x " not in attribute}) > 1
    values: list[dict[str, Any]] = []
    labelled = labels((row.strategy for row, _ in found), 13 if narrow else 21)
    for row, group in found:
        if (group.attribute, group.group) not in kept:
            continue
        low, high = group.ci if group.ci and all(map(defined, group.ci)) else (None, None)
        sure = "open" if low is None or high is None or low <= 0 <= high else "up" if low > 0 else "down"
        attribute, name = view.attribute(row.benchmark, group.attribute), view.group(row.benchmark, group.group)
        values.append(
            {
                "name": f"{attribute}: {name}" if many_attributes and " x " not in group.attribute else name,
                "strategy": labelled[row.strategy],
                "zero": 0,
                "delta": group.delta,
                "low": low,
                "high": high,
                "sure": view.words(f"groups.{sure}"),
                "said": group_sentence(view, row, group),
            }
        )
    order = list(dict.fromkeys(clean(value["name"], NAME_LIMIT) for value in values))
    names = {
        view.words(f"groups.{key}"): (INK[ink], shape)
        for key, ink, shape in (
            ("up", "up", "triangle-right"),
            ("down", "down", "triangle-left"),
            ("open", "idle", "circle"),
        )
    }
    present = [name for name in names if name in {value["sure"] for value in values}]
    base = alt.Chart().encode(
        y=alt.Y(
            "name:N",
            sort=order,
            title=None,
            axis=alt.Axis(labelLimit=128 if narrow else 180, domain=False, ticks=False, grid=True, gridDash=[1, 3]),
        )
    )
    keyed: dict[str, Any] = {} if file else {"legend": None}
    colour = alt.Color(
        "sure:N", title=None, **keyed, scale=alt.Scale(domain=present, range=[names[name][0] for name in present])
    )
    shape = alt.Shape(
        "sure:N", title=None, **keyed, scale=alt.Scale(domain=present, range=[names[n][1] for n in present])
    )
    unit = view.group_words(rows[0].benchmark).unit
    title = str(view.told(unit)) if unit else view.words("chart.change", unit=view.unit(rows[0]))
    x = alt.X("delta:Q", title=None, axis=alt.Axis(tickCount=2 if narrow else 3))
    layered = alt.layer(
        alt.Chart().mark_rule(color=INK["muted"], aria=False).encode(x="min(zero):Q"),
        base.mark_rule(strokeWidth=1.5, aria=False).encode(x=alt.X("low:Q"), x2="high:Q", color=colour),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x, color=colour, shape=shape, description="said:N"),
        data=data(values),
    ).properties(width=84 if narrow else 150, height=alt.Step(17))
    strategies = list(dict.fromkeys(value["strategy"] for value in values))
    chart = layered.facet(
        facet=alt.Facet(
            "strategy:N", sort=strategies, title=title, header=alt.Header(titleOrient="bottom", labelLimit=0)
        ),
        columns=min(2 if narrow else 4, len(strategies)),
        spacing=8 if narrow else 14,
    )
    return styled(chart, narrow=narrow)


def group_sentence(view: View, row: Row, group: Group) -> str:
    places = digits(row.unit)
    return view.words(
        "groups.sentence",
        label=view.label(row),
        group=view.group(row.benchmark, group.group),
        delta=signed(group.delta, places),
        ci=interval(group.ci, places),
        n=f"{group.n:,}",
    )


def published(view: View, rows: list[Row], *, file: bool = False) -> Any | None:
    """The published change beside the measured one. None when no row has both a published and a measured change."""
    rows = [row for row in rows if defined(row.published_change) and view.has_change(row)]
    if not rows:
        return None
    values = []
    labelled = labels((row.strategy for row in rows), 44 if file else 18)
    for row, change in changed(rows):
        ends = change.ci or (None, None)
        common = {"name": labelled[row.strategy], "said": view.sentence(row)}
        values.append(
            {
                **common,
                "which": view.words("published.measured"),
                "x": change.delta,
                "low": ends[0],
                "high": ends[1],
            }
        )
        values.append(
            {**common, "which": view.words("published.paper"), "x": row.published_change, "low": None, "high": None}
        )
    keyed: dict[str, Any] = {} if file else {"legend": None}
    which = [view.words("published.measured"), view.words("published.paper")]
    base = alt.Chart(data(values)).encode(y=alt.Y("name:N", sort=None, title=None, axis=beside(labelled)))
    colour = alt.Color(
        "which:N", title=None, **keyed, scale=alt.Scale(domain=which, range=[INK["accent"], INK["worse"]])
    )
    shape = alt.Shape("which:N", title=None, **keyed, scale=alt.Scale(domain=which, range=["circle", "diamond"]))
    x = alt.X("x:Q", title=view.words("chart.change", unit=view.unit(rows[0])), axis=alt.Axis(tickCount=4))
    return styled(
        alt.layer(
            alt.Chart(data([{"zero": 0}])).mark_rule(color=INK["muted"], aria=False).encode(x="zero:Q"),
            base.mark_rule(strokeWidth=2, aria=False).encode(x=alt.X("low:Q"), x2="high:Q", color=colour),
            base.mark_point(filled=True, size=110, opacity=1).encode(
                x=x, color=colour, shape=shape, description="said:N"
            ),
        ).properties(width=NARROW, height=step(labelled, 26))
    )


def pareto(view: View, candidates: list[Candidate], by: str, *, file: bool = False) -> Any | None:
    """What a variant buys (tokens/s or bytes) against its largest change in margins; None when nothing was measured."""
    scale, unit = (1.0, "speed") if by == "speed" else (1e6, "size")
    measured = [
        (c, x / scale)
        for c in candidates
        if defined(x := c.speed if by == "speed" else c.size) and defined(c.largest_change)
    ]
    if not any(not is_base(c.strategy) for c, _ in measured):
        return None
    values = [
        {
            "x": x,
            "y": c.largest_change,
            "name": view.strategy(c.strategy),
            "front": view.words("pareto.on" if c.pareto else "pareto.off"),
            "said": view.words(
                "pareto.sentence",
                name=view.strategy(c.strategy),
                x=f"{x:,.3g}",
                unit=view.words(f"pareto.{unit}"),
                y=f"{c.largest_change:.2f}",
            ),
        }
        for c, x in measured
    ]
    fronts = [view.words("pareto.on"), view.words("pareto.off")]
    base = alt.Chart(data(values)).encode(
        x=alt.X(
            "x:Q",
            title=view.words(f"pareto.{unit}"),
            scale=alt.Scale(zero=False, padding=30),
            axis=alt.Axis(tickCount=5),
        ),
        y=alt.Y("y:Q", title=view.words("pareto.y"), axis=alt.Axis(tickCount=5)),
    )
    keyed: dict[str, Any] = {} if file else {"legend": None}
    points = base.mark_point(filled=True, size=120, opacity=1).encode(
        color=alt.Color(
            "front:N", title=None, **keyed, scale=alt.Scale(domain=fronts, range=[INK["accent"], INK["idle"]])
        ),
        shape=alt.Shape("front:N", title=None, **keyed, scale=alt.Scale(domain=fronts, range=["diamond", "circle"])),
        description="said:N",
    )
    line = alt.Chart(data([{"one": 1}])).mark_rule(color=INK["muted"], strokeDash=[4, 3], aria=False).encode(y="one:Q")
    names = base.mark_text(align="left", dx=9, dy=-7, fontSize=11, color=INK["ink"]).encode(text="name:N")
    return styled(alt.layer(line, points, names).properties(width=300, height=230))


def heatmap(view: View, rows: list[Row], *, file: bool = True) -> Any | None:
    """Strategies x benchmarks coloured by verdict, the change and the verdict's sign in each cell (files only: the
    page has a real table). None when there is no comparison."""
    if not rows:
        return None
    strategies, benchmarks = labels((r.strategy for r in rows), 36), labels((r.benchmark for r in rows), 18)
    values = [
        {
            "strategy": strategies[row.strategy],
            "benchmark": benchmarks[row.benchmark],
            "text": f"{view.sign(change.verdict)} {view.delta(row)}",
            "inside": change.verdict,
            "verdict": view.verdict_words(change.verdict),
        }
        for row, change in changed(rows)
    ]
    present = [verdict for verdict in Verdict if verdict in {value["inside"] for value in values}]
    base = alt.Chart(data(values)).encode(
        x=alt.X(
            "benchmark:N",
            sort=None,
            title=None,
            axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False, labelLimit=0),
        ),
        y=alt.Y("strategy:N", sort=None, title=None, axis=beside(strategies, domain=False, ticks=False)),
    )
    colour = verdict_scale(view, present, alt.Color, {v: INK[v.colour] for v in present})
    return styled(
        alt.layer(
            base.mark_rect(opacity=0.92, cornerRadius=3, stroke=INK["paper"], strokeWidth=3).encode(color=colour),
            base.mark_text(color=INK["paper"], fontSize=12).encode(text="text:N"),
        ).properties(width=alt.Step(136), height=step(strategies, 34))
    )
