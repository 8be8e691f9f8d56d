"""Colours, shapes and the common look of the report's pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt

from tiltmeter.printed import clean
from tiltmeter.report.view import View
from tiltmeter.schema import Verdict

# Files show these colours; the page swaps each for its custom property of that name (light and dark).
INK = {
    "ink": "#1c2127", "muted": "#5a6470", "grid": "#dfe3e8", "paper": "#fffffe", "margin": "#e4eee9",
    "noise": "#b9a06a", "worse": "#b23c06", "shifted": "#8a1f6d", "better": "#0a5ca6", "equivalent": "#2c6a55",
    "inconclusive": "#7a6100", "unusable": "#5f3896", "idle": "#757d87", "accent": "#0b5f6b",
    "up": "#0c5e6a", "down": "#945607",
}  # fmt: skip
SHAPES = {
    Verdict.WORSE: "triangle-up", Verdict.SHIFTED: "wedge", Verdict.BETTER: "triangle-down",
    Verdict.EQUIVALENT: "square", Verdict.INCONCLUSIVE: "circle", Verdict.NOT_EXERCISED: "diamond",
    Verdict.NO_USABLE_SIGNAL: "cross",
}  # fmt: skip
SHAPE_SIGNS = dict(zip(SHAPES, "▲◭▼■●◆✚"))  # the shapes as characters, for the page's legend
NAME_LIMIT, SAID_LIMIT = 80, 400  # characters of a label, and of a mark's sentence
LINE = 14  # pixels between the lines of a label
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, Noto Sans CJK SC, PingFang SC, sans-serif"


def data(values: list[dict[str, Any]]) -> alt.Data:
    """Rows as chart data, every text cleaned."""
    return alt.Data(
        values=[
            {
                key: clean(value, SAID_LIMIT if key == "said" else NAME_LIMIT) if isinstance(value, str) else value
                for key, value in row.items()
            }
            for row in values
        ]
    )


def labels(names: Iterable[str], width: int) -> dict[str, str]:
    """Name -> its label, cleaned, in lines of about `width` characters that end where a part of the name does.

    No two names share a label: what is too long loses its middle, and is numbered where that leaves two alike.
    """
    found: dict[str, str] = {}
    half = NAME_LIMIT // 2 - 7  # the rest is for the ends of lines and a number
    for name in dict.fromkeys(names):
        text = clean(name).replace("\n", " ")
        if len(text) > 2 * half + 1:
            text = f"{text[:half]}…{text[-half:]}"
        label, times = _lines(text, width), 1
        while label in found.values():
            times += 1
            label = _lines(f"{text} ({times})", width)
        found[name] = label
    return found


def _lines(text: str, width: int) -> str:
    lines = [""]
    for part in re.findall(rf"[^-+:,/· ]{{1,{width}}}[-+:,/· ]*|[-+:,/· ]+", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def beside(labelled: Mapping[str, str], **more: Any) -> alt.Axis:
    """A vertical axis with these labels whole, each in the middle of its row."""
    tallest = 1 + max((label.count("\n") for label in labelled.values()), default=0)
    raised = [
        {"test": f"length(split(datum.label, '\\n')) == {lines}", "value": -LINE * (lines - 1) / 2}
        for lines in range(2, tallest + 1)
    ]
    offset: dict[str, Any] = {"labelOffset": {"condition": raised, "value": 0}} if raised else {}
    return alt.Axis(labelLimit=0, **offset, **more)


def step(labelled: Mapping[str, str], least: int) -> alt.Step:
    """Height of a row that holds the tallest label."""
    return alt.Step(max(least, LINE * (1 + max(label.count("\n") for label in labelled.values())) + 4))


def styled(chart: Any, *, narrow: bool = False) -> Any:
    """The chart with the report's axes, legend and fonts; `narrow`: smaller letters and edges, for a phone."""
    size, edge, name_width = (11, 8, 105) if narrow else (12, 12, 150)
    padding = {"left": edge, "right": edge, "top": 4, "bottom": 4}
    small = {"labelFontSize": size, "titleFontSize": size}
    lines = {"gridColor": INK["grid"], "domainColor": INK["grid"], "tickColor": INK["grid"]}
    words = {"labelColor": INK["muted"], "titleColor": INK["ink"], "titleFontWeight": "normal", "titlePadding": 8}
    legend = {
        "labelColor": INK["ink"], "titleColor": INK["muted"], "orient": "top", "symbolSize": 90, "labelLimit": 0,
    }  # fmt: skip
    return (
        chart.configure(font=FONT, background=INK["paper"], padding=padding, lineBreak="\n")
        .configure_axis(**small, **lines, **words, labelFlush=False, labelOverlap=True, aria=False)  # marks speak
        .configure_legend(**small, **legend)
        .configure_view(stroke=None)
        .configure_header(
            **small, labelColor=INK["ink"], titleColor=INK["muted"], labelLimit=name_width, titleFontWeight="normal"
        )
        .configure_title(color=INK["ink"], anchor="start", fontSize=14, offset=12)
    )


def verdict_scale(view: View, present: list[Verdict], channel: type, values: dict[Verdict, str], **more: Any) -> Any:
    """A colour or shape channel over the verdicts that occur, in their own words."""
    names = [view.verdict_words(verdict) for verdict in present]
    scale = alt.Scale(domain=names, range=[values[verdict] for verdict in present])
    return channel("verdict:N", title=None, scale=scale, **more)
