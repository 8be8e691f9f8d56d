"""The report's pictures as Vega-Altair charts: a function per kind, document rows in, chart out.

Charts hold printed values and sentences only as data, never as expressions, so nothing a model, a data set or a
folder name says is evaluated. Colours are the fixed INK table below: files show them as they are, the page swaps
them for its own custom properties (light and dark). Verdicts differ in colour and in shape.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from tiltmeter.report.safe import clean
from tiltmeter.report.view import VERDICTS, Row, View
from tiltmeter.report.words import defined

INK = {"ink": "#1c2127", "muted": "#5a6470", "grid": "#dfe3e8", "paper": "#fffffe", "margin": "#e4eee9",
       "noise": "#b9a06a", "worse": "#b23c06", "better": "#0a5ca6", "equivalent": "#2c6a55",
       "inconclusive": "#7a6100", "unusable": "#5f3896", "idle": "#757d87", "accent": "#0b5f6b"}
VERDICT_INK = dict(zip(VERDICTS, ("worse", "better", "equivalent", "inconclusive", "idle", "unusable")))
SHAPES = dict(zip(VERDICTS, ("triangle-up", "triangle-down", "square", "circle", "stroke", "cross")))
GROUPS_SHOWN = 18  # rows of a group picture; the groups that move most are kept, the table holds all
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, Noto Sans CJK SC, PingFang SC, sans-serif"


def _data(values: list[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=[{key: clean(value, 400) if isinstance(value, str) else value
                             for key, value in row.items()} for row in values])


def _styled(chart: Any) -> Any:
    axis = {"labelColor": INK["muted"], "titleColor": INK["ink"], "gridColor": INK["grid"],
            "domainColor": INK["grid"], "tickColor": INK["grid"], "labelFontSize": 12, "titleFontSize": 12,
            "titleFontWeight": "normal", "titlePadding": 8}
    legend = {"labelColor": INK["ink"], "titleColor": INK["muted"], "labelFontSize": 12, "titleFontSize": 12,
              "titleFontWeight": "normal", "orient": "top", "symbolSize": 90, "labelLimit": 0}
    return chart.configure(font=FONT, background=INK["paper"], padding=4).configure_axis(**axis).configure_legend(
        **legend).configure_view(stroke=None).configure_header(
        labelColor=INK["ink"], titleColor=INK["muted"], labelFontSize=12, titleFontSize=12, labelLimit=150)


def _verdict_scale(view: View, present: list[str], channel: type, values: dict[str, str], **more: Any) -> Any:
    names = [view.words(f"verdict.{verdict}") for verdict in present]
    scale = alt.Scale(domain=names, range=[values[verdict] for verdict in present])
    return channel("verdict:N", title=None, scale=scale, **more)


def forest(view: View, rows: list[Row], *, companion: bool = False, narrow: bool = False) -> Any | None:
    """Changes with 95 % intervals, margin band and noise floor: one line a variant. None when nothing is defined.

    companion: draw the change of the noise-corrected spread (squared units) instead of the score's.
    """
    many_models = len({row["model"] for row in rows}) > 1
    values = []
    for row in rows:
        change = row["change"]
        delta, ends = ((change.get("companion_delta"), change.get("companion_ci")) if companion
                       else (change.get("delta"), change.get("ci")))
        low, high = ends if ends and all(map(defined, ends)) else (None, None)
        noise = change.get("noise") if not companion and not view.rests_on_companion(row) else None
        verdict = view.verdict(row) or "inconclusive"
        label = f"{view.short(row['model'])} · {row['strategy']}" if many_models else row["strategy"]
        values.append({"name": label, "delta": delta, "low": low, "high": high, "inside": verdict,
                       "verdict": view.words(f"verdict.{verdict}"), "said": view.sentence(row),
                       "href": f"#{view.row_id(row)}", "noise": noise,
                       "minus_noise": -noise if defined(noise) else None,
                       "missing": None if defined(delta) else view.words("chart.undefined")})
    if not any(defined(value["delta"]) for value in values):
        return None
    order = list(dict.fromkeys(clean(value["name"], 400) for value in values))
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=128 if narrow else 260, domain=False,
                                                              ticks=False, grid=True, gridDash=[1, 3]))
    unit = view.words("chart.squared") if companion else view.unit(rows[0])
    x = alt.X("delta:Q", title=view.words("chart.companion" if companion else "chart.change", unit=unit),
              axis=alt.Axis(tickCount=4 if narrow else 7))
    base = alt.Chart(_data(values)).encode(y=y)
    present = [verdict for verdict in VERDICTS if verdict in {value["inside"] for value in values}]
    layers = []
    margin = rows[0]["change"].get("margin")
    if defined(margin) and not companion and not view.rests_on_companion(rows[0]):
        band = alt.Chart(_data([{"a": -margin, "b": margin}]))
        layers.append(band.mark_rect(color=INK["margin"], aria=False).encode(x="a:Q", x2="b:Q"))
    layers.append(alt.Chart(_data([{"zero": 0}])).mark_rule(color=INK["muted"], aria=False).encode(x="zero:Q"))
    if any(defined(value["noise"]) for value in values):
        for name in ("noise", "minus_noise"):
            layers.append(base.mark_tick(color=INK["noise"], thickness=2.5, size=16, aria=False).encode(x=f"{name}:Q"))
    colour = _verdict_scale(view, present, alt.Color, {v: INK[VERDICT_INK[v]] for v in present}, legend=None)
    layers.append(base.mark_rule(strokeWidth=2, aria=False).encode(x=alt.X("low:Q"), x2="high:Q", color=colour))
    points = base.mark_point(filled=True, size=110, opacity=1, strokeWidth=2).encode(
        x=x, color=colour, shape=_verdict_scale(view, present, alt.Shape, SHAPES), description="said:N", href="href:N")
    layers.append(points)
    layers.append(base.mark_text(color=INK["muted"], fontSize=11, align="left", dx=6).transform_filter(
        "datum.missing != null").encode(x=alt.datum(0), text="missing:N"))
    return _styled(alt.layer(*layers).properties(width=196 if narrow else 520, height=alt.Step(26)))


def groups(view: View, rows: list[Row], *, narrow: bool = False) -> Any | None:
    """Change of every demographic group with its interval: one column a strategy. None when no group has a change."""
    found = [(row, group) for row in rows for group in row["groups"] if defined(group.get("delta"))]
    if not found:
        return None
    reach: dict[tuple[str, str], float] = {}
    for _, group in found:
        key = (group["attribute"], group["group"])
        reach[key] = max(reach.get(key, 0.0), abs(group["delta"]))
    kept = set(sorted(reach, key=lambda key: -reach[key])[:GROUPS_SHOWN])
    many_attributes = len({attribute for attribute, _ in kept}) > 1
    values = []
    for row, group in found:
        if (group["attribute"], group["group"]) not in kept:
            continue
        low, high = group["ci"] if group.get("ci") and all(map(defined, group["ci"])) else (None, None)
        sure = "open" if low is None or low <= 0 <= high else "up" if low > 0 else "down"
        name = view.words.name("group", group["group"])
        values.append({"name": f"{view.words.name('attribute', group['attribute'])}: {name}" if many_attributes else name,
                       "strategy": row["strategy"], "delta": group["delta"], "low": low, "high": high,
                       "sure": view.words(f"groups.{sure}"), "said": group_sentence(view, row, group)})
    order = list(dict.fromkeys(clean(value["name"], 400) for value in values))
    names = {view.words(f"groups.{key}"): (INK[ink], shape) for key, ink, shape in (
        ("up", "better", "triangle-right"), ("down", "worse", "triangle-left"), ("open", "idle", "circle"))}
    present = [name for name in names if name in {value["sure"] for value in values}]
    base = alt.Chart().encode(y=alt.Y("name:N", sort=order, title=None,
                                      axis=alt.Axis(labelLimit=120 if narrow else 190, domain=False, ticks=False,
                                                    grid=True, gridDash=[1, 3])))
    colour = alt.Color("sure:N", title=None, legend=None,
                       scale=alt.Scale(domain=present, range=[names[name][0] for name in present]))
    shape = alt.Shape("sure:N", title=None, scale=alt.Scale(domain=present, range=[names[n][1] for n in present]))
    unit = view.words.name("groups.unit", rows[0]["benchmark"])
    title = unit if unit != rows[0]["benchmark"] else view.words("chart.change", unit=view.unit(rows[0]))
    x = alt.X("delta:Q", title=None, axis=alt.Axis(tickCount=3))
    layered = alt.layer(
        base.mark_rule(color=INK["muted"], aria=False).encode(x=alt.datum(0)),
        base.mark_rule(strokeWidth=1.5, aria=False).encode(x=alt.X("low:Q"), x2="high:Q", color=colour),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x, color=colour, shape=shape, description="said:N"),
        data=_data(values)).properties(width=176 if narrow else 132, height=alt.Step(17))
    strategies = list(dict.fromkeys(clean(value["strategy"], 400) for value in values))
    chart = layered.facet(facet=alt.Facet("strategy:N", sort=strategies, title=title,
                                          header=alt.Header(titleOrient="bottom")),
                          columns=1 if narrow else min(4, len(strategies)), spacing=14)
    return _styled(chart)


def group_sentence(view: View, row: Row, group: dict[str, Any]) -> str:
    from tiltmeter.report.words import digits, interval, signed

    places = max(digits(row["unit"]), 1) if row["unit"] == "percent" else 3
    return view.words("groups.sentence", label=view.label(row), group=view.words.name("group", group["group"]),
                      delta=signed(group["delta"], places), ci=interval(group.get("ci"), places), n=f"{group['n']:,}")


def published(view: View, rows: list[Row], *, narrow: bool = False) -> Any | None:
    """The published change beside the measured one. None when no row has both a published and a measured change."""
    rows = [row for row in rows if defined(row.get("published_change")) and defined(row["change"].get("delta"))]
    if not rows:
        return None
    values = []
    for row in rows:
        ends = row["change"].get("ci") or (None, None)
        common = {"name": row["strategy"], "said": view.sentence(row)}
        values.append({**common, "which": view.words("published.measured"), "x": row["change"]["delta"],
                       "low": ends[0], "high": ends[1]})
        values.append({**common, "which": view.words("published.paper"), "x": row["published_change"],
                       "low": None, "high": None})
    which = [view.words("published.measured"), view.words("published.paper")]
    base = alt.Chart(_data(values)).encode(y=alt.Y("name:N", sort=None, title=None))
    colour = alt.Color("which:N", title=None, legend=None,
                       scale=alt.Scale(domain=which, range=[INK["accent"], INK["worse"]]))
    shape = alt.Shape("which:N", title=None, scale=alt.Scale(domain=which, range=["circle", "diamond"]))
    x = alt.X("x:Q", title=view.words("chart.change", unit=view.unit(rows[0])), axis=alt.Axis(tickCount=4))
    return _styled(alt.layer(
        alt.Chart(_data([{"zero": 0}])).mark_rule(color=INK["muted"], aria=False).encode(x="zero:Q"),
        base.mark_rule(strokeWidth=2, aria=False).encode(x=alt.X("low:Q"), x2="high:Q", color=colour),
        base.mark_point(filled=True, size=110, opacity=1).encode(x=x, color=colour, shape=shape, description="said:N"),
    ).properties(width=196 if narrow else 520, height=alt.Step(26)))


def heatmap(view: View, rows: list[Row]) -> Any | None:
    """Strategies x benchmarks coloured by verdict, the change and the verdict's sign in each cell (files only: the
    page has a real table). None when there is no comparison."""
    from tiltmeter.report.view import SIGNS

    if not rows:
        return None
    values = [{"strategy": row["strategy"], "benchmark": row["benchmark"],
               "text": f"{SIGNS[view.verdict(row)]} {view.delta(row)}", "inside": view.verdict(row) or "inconclusive",
               "verdict": view.words(f"verdict.{view.verdict(row) or 'inconclusive'}")} for row in rows]
    present = [verdict for verdict in VERDICTS if verdict in {value["inside"] for value in values}]
    base = alt.Chart(_data(values)).encode(
        x=alt.X("benchmark:N", sort=None, title=None, axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False,
                                                                   labelLimit=130)),
        y=alt.Y("strategy:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=240)))
    colour = _verdict_scale(view, present, alt.Color, {v: INK[VERDICT_INK[v]] for v in present})
    return _styled(alt.layer(base.mark_rect(opacity=0.92, cornerRadius=3, stroke=INK["paper"], strokeWidth=3).encode(color=colour),
                             base.mark_text(color=INK["paper"], fontSize=12).encode(text="text:N"))
                   .properties(width=alt.Step(136), height=alt.Step(34)))
