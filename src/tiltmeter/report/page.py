"""The self-contained HTML page: sections filled from the results document, one style, one script, a strict policy.

The page's content-security policy allows exactly its own style and its own script (by hash) and nothing else: no
request, no inline handler, no evaluated string can run even if escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from tiltmeter.printed import clean, json_for_html, signed
from tiltmeter.report import facts, measured, sections, summary
from tiltmeter.report.examples import BUDGET, EACH, Sample
from tiltmeter.report.figures import Figure, figures, to_page
from tiltmeter.report.ink import SHAPE_SIGNS
from tiltmeter.report.view import View, is_toy
from tiltmeter.schema import Verdict

TEMPLATES = ("report.html.j2", "parts.html.j2", "trend.html.j2")
CONTENTS = (
    "answer",
    "matrix",
    "variants",
    "changes",
    "groups",
    "flips",
    "quality",
    "speed",
    "proof",
    "published",
    "gaps",
    "benchmarks",
    "methods",
    "provenance",
)


def build(view: View, examples: Sample, *, progress: Callable[[str], None] = lambda _: None) -> str:
    """The whole page as text."""
    environment = _environment(view)
    css, script = (Markup(page_file(name)) for name in ("report.css", "report.js"))
    drawn = _drawn(view, progress)
    kind, headline = summary.headline(view)
    lines = summary.variant_lines(view)
    context = {
        "css": css,
        "script": script,
        "policy": policy(css, script),
        "sections": CONTENTS,
        "run": view.run,
        "version": view.run.versions.get("tiltmeter", ""),
        "lang_code": "zh-Hans" if view.words.lang == "zh" else "en",
        "title": ", ".join(map(view.short, view.models)) or view.words("answer.no_model"),
        "kind": view.colour(kind) if kind else "none",
        "headline": headline,
        "headline_sign": view.sign(kind),
        "warnings": [line for line in (sections.incomplete(view), sections.earlier(view)) if line],
        "toy": any(map(is_toy, view.models)),
        "moved": summary.moved(view),
        "unusable": summary.unusable(view),
        "whom": summary.for_whom(view),
        "listed": summary.LISTED,
        "counts": view.counts(),
        "sure": sections.sure(view),
        "choice": sections.choice(view),
        "findings": sections.findings(view),
        "notes": [view.told(note) for note in view.run.notes],
        "lines": lines,
        "advice": summary.advice(view, lines),
        "name_of": lambda line: summary.name_of(view, line),
        "tiers": summary.TIERS,
        "by_tier": {tier: [line for line in lines if line.tier == tier] for tier in summary.TIERS},
        "many_models": len(view.models) > 1,
        "panels": list(view.panels()) if view.compared else [],
        "figures": drawn,
        "numbers": sections.by_benchmark(view),
        "numbers_printed": len(view.rows) <= sections.PRINTED,
        "row_facts": lambda row: facts.row_facts(view, row),
        "group_meaning": lambda row: facts.group_meaning(view, row),
        "spreads_used": any(view.rests_on_companion(row) for row in view.compared),
        "first_row": lambda name: next(row for row in view.rows if row.benchmark == name),
        "flip_benchmarks": lambda panel: sections.flip_benchmarks(view, panel),
        "flip_cells": lambda panel: sections.flip_cells(view, panel),
        "started": sections.started(view),
        "examples": Markup(examples.payload) if examples.shown else "",
        "n_examples": examples.shown,
        "sampling": view.words(
            "flips.sampling",
            shown=f"{examples.shown:,}",
            flipped=f"{examples.flipped:,}",
            each=EACH,
            megabytes=BUDGET // 1_000_000,
        ),
        "quality": measured.quality(view),
        "answers": measured.answer_quality(view),
        "acceptance": measured.acceptance(view),
        "fidelity": measured.fidelity(view),
        "speeds": measured.speeds(view),
        "proofs": sections.proofs(view),
        "published": sections.published_rows(view),
        "gaps": sections.gaps(view),
        "benchmarks": sections.about_benchmarks(view),
        "methods": sections.METHODS,
        "method_values": sections.method_values(view),
        "provenance": sections.provenance(view),
        "script_words": Markup(
            json_for_html(
                {
                    "base": view.words("strategy.none"),
                    "count": view.words("flips.count", n="{n}", of="{of}"),
                    "directions": {
                        view.words("flips.toward"): "worse",
                        view.words("flips.away"): "better",
                        view.words("flips.neither"): "idle",
                    },
                }
            )
        ),
    }
    return environment.get_template("report.html.j2").render(context)


def _environment(view: View) -> Environment:
    return environment(
        w=view.words,
        view=view,
        verdicts=tuple(Verdict),
        shapes=SHAPE_SIGNS,
        unusable_verdict=Verdict.NO_USABLE_SIGNAL,
        signed=signed,
    )


def environment(**known: Any) -> Environment:
    """Autoescaping, and every printed string cleaned of invisible characters first; `known`: names in all templates."""
    loader = DictLoader({name: page_file(name) for name in TEMPLATES})
    made = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    made.filters.update(breakable=breakable, coded=coded)
    made.globals.update(known)
    return made


def _drawn(view: View, progress: Callable[[str], None]) -> dict[str, list[dict[str, object]]]:
    """section -> figures as markup, or the reason there is none."""
    result: dict[str, list[dict[str, object]]] = {name: [] for name in ("forest", "groups", "published", "pareto")}
    shown = [figure for figure in figures(view) if figure.on_page]
    for place, figure in enumerate(shown, 1):
        progress(f"drawing picture {place} of {len(shown)}")
        result[figure.section].append(_draw(figure))
    return result


def _draw(figure: Figure) -> dict[str, object]:
    chart = figure.draw(file=False)
    narrow = figure.draw(file=False, narrow=True) if figure.for_phones else None
    empty = {"benchmark": "", "model": "", "asked": ""}
    return {
        "key": figure.key,
        "title": figure.title,
        "caption": figure.caption,
        "empty": figure.empty,
        "full_width": figure.full_width,
        "filters": {**empty, **figure.filters},
        "svg": Markup(to_page(chart)) if chart is not None else None,
        "narrow": Markup(to_page(narrow)) if narrow is not None else None,
    }


def breakable(name: str) -> Markup:
    """A strategy's name that may wrap after its separators."""
    return Markup(re.sub(r"([:+,=])", r"\1<wbr>", str(escape(clean(name)))))


def coded(text: str) -> Markup:
    """Text whose `commands` are set as code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(clean(text)))))


def page_file(name: str) -> str:
    """A file of the templates' folder."""
    return files("tiltmeter.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def policy(css: str, script: str) -> str:
    """The content-security policy of a page with this style and this script."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
