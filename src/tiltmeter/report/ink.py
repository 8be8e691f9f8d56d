"""Colours, shapes and the common look of the report's pictures."""

from __future__ import annotations

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
        chart.configure(font=FONT, background=INK["paper"], padding=padding)
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
