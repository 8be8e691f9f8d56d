"""The page of `tiltmeter trend`: per variant and benchmark a picture and a table over releases. It computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import altair as alt
from jinja2 import Environment
from markupsafe import Markup

from tiltmeter.evidence.history import History, Line, Step
from tiltmeter.models.address import is_address
from tiltmeter.printed import NONE, defined, digits, interval, number, signed
from tiltmeter.report.figures import to_page
from tiltmeter.report.ink import INK, NAME_LIMIT, SHAPES, data, styled
from tiltmeter.report.page import environment, page_file, policy
from tiltmeter.report.words import Words
from tiltmeter.schema import Change, Row, Verdict
from tiltmeter.schema.place import source_of

WIDTH, NARROW = 560, 230  # pixels between the axes


@dataclass(frozen=True)
class Printed:
    """One release of one line, as it is printed."""

    release: str
    score: str
    base: str
    against: str  # change against the base, with its interval
    verdict: Verdict | None
    since: str
    step: Verdict | None
    partial: bool


def build(history: History, words: Words) -> str:
    """The whole page as text; it loads nothing and runs no script."""
    css = Markup(page_file("report.css"))
    rendering: Environment = environment(w=words, words_of=lambda verdict: words(f"verdict.{verdict or 'none'}"))
    return rendering.get_template("trend.html.j2").render(
        css=css,
        policy=policy(css, ""),
        lang_code="zh-Hans" if words.lang == "zh" else "en",
        title=title(history),
        releases=", ".join(release.name for release in history.releases),
        n_releases=len(history.releases),
        lines=[_drawn(line, words) for line in history.lines],
        notes=[words.told(note) for note in history.notes],
    )


def title(history: History) -> str:
    """The variants that are followed."""
    return ", ".join(dict.fromkeys(names(line) for line in history.lines))


def names(line: Line) -> str:
    """The line's variant; each name it had where releases call it otherwise."""
    return " → ".join(dict.fromkeys(variant_name(row.strategy) for row in line.rows))


def label(line: Line, words: Words) -> str:
    """strategy · benchmark · how asked."""
    place = line.place
    asked = f"{words.name('format', place.format)} · {words.name('decoding', place.decoding)}"
    return f"{names(line)} · {place.benchmark} · {asked}"


def variant_name(strategy: str) -> str:
    """A strategy as it is; a ready-made checkpoint by the last part of its path."""
    source = source_of(strategy)
    return (
        source if source == strategy or is_address(source) else source.rstrip("/\\").replace("\\", "/").split("/")[-1]
    )


def printed(line: Line, words: Words) -> Iterator[Printed]:
    """The line's releases in words and numbers; what is absent or undefined is said."""
    for place, step in enumerate(line.steps):
        row = step.row
        if row is None:
            yield Printed(step.release.name, words("trend.absent"), "", "", None, "", None, False)
            continue
        since = _change(step.since, row) if step.since else words("trend.first") if place == 0 else NONE
        yield Printed(
            step.release.name,
            number(row.score, digits(row.unit)) if defined(row.score) else str(words.told(row.reason)) or NONE,
            number(step.base.score, digits(row.unit)) if step.base else NONE,
            _change(row.change, row) if row.change else NONE,
            row.verdict,
            since,
            step.since.verdict if step.since else None,
            row.partial,
        )


def _change(change: Change, row: Row) -> str:
    places = digits(row.unit)
    ends = interval(change.ci, places)
    return signed(change.delta, places) + ("" if ends == NONE else f" {ends}")


def _drawn(line: Line, words: Words) -> dict[str, object]:
    wide, narrow = (chart(line, words, width) for width in (WIDTH, NARROW))
    row = line.rows[-1]
    unit = words("unit.points") if row.unit == "percent" else words.name("unit", row.unit)
    return {
        "label": label(line, words),
        "wide": Markup(to_page(wide)) if wide is not None else None,
        "narrow": Markup(to_page(narrow)) if narrow is not None else None,
        "caption": words("trend.caption" if _has_band(line) else "trend.caption_spread", unit=unit),
        "steps": list(printed(line, words)),
    }


def chart(line: Line, words: Words, width: int = WIDTH) -> Any | None:
    """Change against the base over releases, with intervals and the band of what does not matter; None without one."""
    steps = [(step, step.row, step.row.change) for step in line.steps if step.row and step.row.change]
    values = [_mark(step, row, change, words) for step, row, change in steps if defined(change.delta)]
    if not values:
        return None
    order = [step.release.name[:NAME_LIMIT] for step in line.steps]
    x = alt.X(
        "release:N", sort=order, scale=alt.Scale(domain=order), title=None, axis=alt.Axis(labelAngle=0, labelLimit=120)
    )
    y = alt.Y("delta:Q", title=words("trend.against_base"), scale=alt.Scale(padding=8))
    present = [verdict for verdict in Verdict if any(value["verdict"] == str(verdict) for value in values)]
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=[str(v) for v in present], range=[INK[v.colour] for v in present]),
        legend=None,
    )
    shape = alt.Shape(
        "verdict:N",
        scale=alt.Scale(domain=[str(v) for v in present], range=[SHAPES[v] for v in present]),
        legend=None,
    )
    base = alt.Chart(data(values)).encode(x=x)
    layers: list[Any] = []
    change = steps[-1][2]
    if _has_band(line):
        band = alt.Chart(data([{"a": -change.margin, "b": change.margin}]))
        layers.append(band.mark_rect(color=INK["margin"], aria=False).encode(y="a:Q", y2="b:Q"))
    layers.append(alt.Chart(data([{"zero": 0}])).mark_rule(color=INK["muted"], aria=False).encode(y="zero:Q"))
    layers.append(base.mark_line(color=INK["muted"], strokeDash=[2, 3], aria=False).encode(y=y))
    layers.append(base.mark_rule(strokeWidth=2, aria=False).encode(y="low:Q", y2="high:Q", color=colour))
    layers.append(
        base.mark_point(filled=True, size=110, opacity=1).encode(y=y, color=colour, shape=shape, description="said:N")
    )
    return styled(alt.layer(*layers).properties(width=width, height=170), narrow=width == NARROW)


def _has_band(line: Line) -> bool:
    """Whether the verdicts rest on the score that is drawn, and what of it matters is known."""
    change = line.rows[-1].change
    return change is not None and change.rests_on == "score" and defined(change.margin)


def _mark(step: Step, row: Row, change: Change, words: Words) -> dict[str, object]:
    low, high = change.ci if change.ci and all(map(defined, change.ci)) else (None, None)
    return {
        "release": step.release.name,
        "delta": change.delta,
        "low": low,
        "high": high,
        "verdict": str(change.verdict),
        "said": f"{step.release.name}: {_change(change, row)}, {words(f'verdict.{change.verdict}')}",
    }
