"""All pictures of a report: which there are, their titles and captions, and how they become SVG, PNG or page markup.

Pictures are drawn once, by Vega (vl-convert), when the report is built: the page then needs no plotting script, no
expression evaluator (so its content-security policy allows none), shows them at once, prints them and reads them
aloud. Marks carry their sentence (tooltip, screen reader) and a link to the numbers behind them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tiltmeter import printed
from tiltmeter.messages import join
from tiltmeter.printed import defined
from tiltmeter.report import charts
from tiltmeter.report.ink import FONT, INK
from tiltmeter.report.view import View
from tiltmeter.schema import Row

PNG_SCALE = 2.0
# What Vega writes beside a mark and nobody sees: empty outlines, and English names of containers for screen readers.
_NOTHING = re.compile(
    r'<path class="(?:foreground|background)" aria-hidden="true" d="(?:M0,0h0v0h0Z)?"[^>]*/>'
    r'|(?<=") role="graphics-(?:object|symbol)" aria-roledescription="(?!point)[^"]*"'
    r'(?: aria-label="Title text [^"]*")?'
)
_LINK_BASE = "https://vega.github.io/vega-datasets/"  # the renderer resolves #fragments against this


@dataclass(frozen=True)
class Figure:
    """One picture. `draw(file=…)` gives its chart, or None: then `empty` says why there is nothing to see."""

    section: str  # heatmap, forest, groups, published, pareto
    key: str  # file name and element id
    title: str
    caption: str
    empty: str
    draw: Callable[..., Any | None]
    filters: dict[str, str]  # model, benchmark, asked: what the page's filter looks at
    on_page: bool = True
    full_width: bool = False
    for_phones: bool = False  # `draw(narrow=True)` gives a second drawing


def figures(view: View) -> list[Figure]:
    """Every figure of the run, in page order."""
    return [*_heatmaps(view), *_forests(view), *_groups(view), *_published(view), *_pareto(view)]


def _by(rows: list[Row], *names: str) -> Iterator[tuple[dict[str, str], list[Row]]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
    for key, members in found.items():
        yield dict(zip(names, key)), members


def _filters(view: View, rows: list[Row], model: str = "") -> dict[str, str]:
    return {"model": model, "benchmark": rows[0].benchmark, "asked": view.asked(rows[0])}


def _parts(view: View, key: dict[str, str]) -> list[str]:
    """A key's values; a model by its short name, or by its place in the run where that has no plain letters."""
    return [
        (_slug(view.short(value)) or f"model-{view.models.index(value) + 1}") if name == "model" else value
        for name, value in key.items()
    ]


def _slug(*parts: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")[:100].lower()


def _titled(view: View, rows: list[Row], *more: str) -> str:
    return " · ".join([*more, *([] if view.asked_one_way else [view.asked(rows[0])])])


def _heatmaps(view: View) -> Iterator[Figure]:
    for key, rows in _by(view.compared, "model", "format", "decoding"):
        yield Figure(
            "heatmap",
            _slug("heatmap", *_parts(view, key)),
            _titled(view, rows, view.short(key["model"])),
            view.words("heatmap.caption"),
            view.words("empty.compared"),
            partial(charts.heatmap, view, rows),
            {},
            on_page=False,
        )


def _forests(view: View) -> Iterator[Figure]:
    words = view.words
    for key, rows in _by(view.compared, "benchmark", "format", "decoding"):
        companions = [row for row in rows if view.rests_on_companion(row)]
        yield Figure(
            "forest",
            _slug("forest", *_parts(view, key)),
            _titled(view, rows, key["benchmark"]),
            words("forest.caption_companion" if companions else "forest.caption"),
            _why_empty(view, rows),
            partial(charts.forest, view, rows),
            _filters(view, rows),
            full_width=False,
        )
        if companions:
            name = str(view.told(companions[0].change.companion if companions[0].change else ""))
            yield Figure(
                "forest",
                _slug("forest", *_parts(view, key), "companion"),
                _titled(view, rows, key["benchmark"], name),
                words("forest.companion", name=name),
                _why_empty(view, rows),
                partial(charts.forest, view, companions, companion=True),
                _filters(view, rows),
            )


def _groups(view: View) -> Iterator[Figure]:
    for key, rows in _by([row for row in view.compared if row.groups], "benchmark", "model", "format", "decoding"):
        meaning = view.told(view.group_words(key["benchmark"]).meaning)
        n_groups = len({(g.attribute, g.group) for row in rows for g in row.groups if defined(g.delta)})
        attributes = dict.fromkeys(view.attribute(key["benchmark"], g.attribute) for row in rows for g in row.groups)
        caption = f"{view.words('groups.by', attributes=join('join.names', attributes))} {meaning}"
        if n_groups > charts.GROUPS_SHOWN:
            caption += " " + view.words("groups.cut", shown=charts.GROUPS_SHOWN, n=n_groups)
        yield Figure(
            "groups",
            _slug("groups", *_parts(view, key)),
            _titled(view, rows, key["benchmark"], view.short(key["model"])),
            caption,
            _why_empty(view, rows),
            partial(charts.groups, view, rows),
            _filters(view, rows, view.short(key["model"])),
            full_width=True,
            for_phones=True,
        )


def _published(view: View) -> Iterator[Figure]:
    rows = [row for row in view.compared if defined(row.published_change)]
    for key, members in _by(rows, "benchmark", "model", "format", "decoding"):
        yield Figure(
            "published",
            _slug("published", *_parts(view, key)),
            _titled(view, members, key["benchmark"], view.short(key["model"])),
            view.words("published.caption"),
            view.words("empty.published"),
            partial(charts.published, view, members),
            _filters(view, members, view.short(key["model"])),
        )


def _pareto(view: View) -> Iterator[Figure]:
    choice = view.document.choice
    for model in view.models:
        mine = [c for c in choice.candidates if c.model == model] if choice else []
        if choice and mine:
            yield Figure(
                "pareto",
                _slug("pareto", *_parts(view, {"model": model})),
                view.short(model),
                view.words("pareto.caption"),
                view.words("pareto.absent"),
                partial(charts.pareto, view, mine, choice.by),
                {},
                full_width=True,
            )


def _why_empty(view: View, rows: list[Row]) -> str:
    """Why a benchmark's panel shows nothing: the rows' own reasons, each once."""
    reasons = dict.fromkeys(str(view.reason(row) or view.told(row.reason)) for row in rows)
    return " ".join([view.words("empty.changes"), *list(filter(None, reasons))[:1]])


def to_svg(chart: Any) -> str:
    """The chart as an SVG document."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(printed.figure(chart.to_dict(validate=False)))
    return str(svg).replace(f'xlink:href="{_LINK_BASE}#', 'href="#')


def to_page(chart: Any) -> str:
    """The chart as an inline <svg>: colours become the page's custom properties, the canvas and font the page's."""
    svg = _NOTHING.sub("", to_svg(chart).replace(f' font-family="{FONT}"', ""))
    for name, colour in INK.items():
        svg = svg.replace(f'"{colour}"', f'"var(--{name})"')
    return re.sub(r'<rect width="[\d.]+" height="[\d.]+" fill="var\(--paper\)"/>', "", svg, count=1)


def write_all(view: View, folder: Path) -> list[Path]:
    """Every figure as SVG, PNG and Vega-Lite JSON (opens in any Vega editor, interactive). Returns the paths; a
    figure with nothing to draw leaves a .txt with its reason."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for figure in figures(view):
        chart = figure.draw(file=True)
        if chart is None:
            path = folder / f"{figure.key}.txt"
            path.write_text(printed.clean(figure.empty) + "\n", encoding="utf-8")
            written.append(path)
            continue
        chart = chart.properties(title=figure.title)
        spec = printed.figure(chart.to_dict(validate=False))
        outputs: dict[str, bytes] = {
            "svg": to_svg(chart).encode(),
            "png": vl_convert.vegalite_to_png(spec, scale=PNG_SCALE),
            "vl.json": json.dumps(spec, ensure_ascii=False, indent=1).encode(),
        }
        for ending, content in outputs.items():
            path = folder / f"{figure.key}.{ending}"
            path.write_bytes(content)
            written.append(path)
    return written
