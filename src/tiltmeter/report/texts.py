"""The run as text for other places: a pull request, a paper. (A model card: `exports.hub`.)

Everything stored is escaped for where it goes; numbers are printed as the page prints them.
"""

from __future__ import annotations

from tiltmeter.printed import NONE, digits, latex, markdown, number, signed
from tiltmeter.report import sections, summary
from tiltmeter.report.view import View
from tiltmeter.schema import Row, Verdict
from tiltmeter.schema.place import NONE as NO_STRATEGY
from tiltmeter.schema.place import is_base

TOLD = 8  # moved rows a pull request names; the table holds all


def markdown_summary(view: View) -> str:
    """Headline, what moved, the table of changes, what is missing. GitHub-flavoured Markdown."""
    words = view.words
    _, headline = summary.headline(view)
    lines = [f"### tiltmeter: {headline}", ""]
    lines += [line for text in (sections.incomplete(view), sections.earlier(view)) if text for line in (text, "")]
    for row in summary.moved(view)[:TOLD]:
        lines.append(
            f"- {view.sign(row.verdict)} **{view.verdict_words(row.verdict)}** {markdown(view.label(row))}: "
            f"{view.delta(row)} {view.unit(row)} {view.ci_or_none(row)}"
        )
    tiers = {tier: [line for line in summary.variant_lines(view) if line.tier == tier] for tier in summary.TIERS}
    lines += [""] if lines[-1] else []
    lines += [markdown(summary.advice(view, summary.variant_lines(view))), ""]
    lines += [
        f"- **{words(f'tier.{tier}')}**: " + ", ".join(markdown(summary.name_of(view, line)) for line in members)
        for tier, members in tiers.items()
        if members and tier != "control"
    ]
    for panel in view.panels():
        lines += [
            "",
            f"**{markdown(view.short(panel.model))}** · {view.asked(panel)}",
            "",
            "| " + " | ".join([words("word.strategy"), *map(markdown, panel.benchmarks)]) + " |",
            "|---" * (len(panel.benchmarks) + 1) + "|",
        ]
        for strategy in (NO_STRATEGY, *panel.strategies):
            cells = [_cell(view, view.cell(panel, strategy, name)) for name in panel.benchmarks]
            lines.append("| " + " | ".join([markdown(view.strategy(strategy)), *cells]) + " |")
    lines += _displaced(view)
    lines += ["", words("markdown.key"), ""]
    return "\n".join(lines)


def _displaced(view: View) -> list[str]:
    """How far each variant lies from its base, on the given text."""
    parts = [
        f"{markdown(view.variant_name(v))} {v.fidelity.text.mean:.3g}"
        for v in view.variants
        if v.fidelity and v.fidelity.text and v.fidelity.text.n
    ]
    return ["", view.words("fidelity.markdown", parts=", ".join(parts))] if parts else []


def _cell(view: View, row: Row | None) -> str:
    if row is None:
        return view.words("matrix.not_run")
    if not row.change:
        return view.score(row)
    partial = f" ({view.words('word.partial')})" if row.partial else ""
    return f"{view.sign(row.verdict)} {view.delta(row)} {view.verdict_words(row.verdict)}{partial}"


def latex_table(view: View) -> str:
    r"""The study's layout: benchmarks across, the base's score, then every strategy's change below it.

    Verdicts stand as type: \textbf for worse, \underline for shifted, \textit for better, $\approx$ for equivalent;
    no package is needed.
    """
    parts = []
    for panel in view.panels():
        header = " & ".join(["strategy", *map(latex, panel.benchmarks)])
        title = latex(f"{view.short(panel.model)}, {view.asked(panel)}")
        lines = [
            r"\begin{tabular}{l" + "r" * len(panel.benchmarks) + "}",
            r"\hline",
            rf"\multicolumn{{{len(panel.benchmarks) + 1}}}{{l}}{{{title}}} \\",
            header + r" \\",
            r"\hline",
        ]
        for strategy in (NO_STRATEGY, *panel.strategies):
            cells = [_latex_cell(view, view.cell(panel, strategy, name)) for name in panel.benchmarks]
            lines.append(" & ".join([latex(view.strategy(strategy)), *cells]) + r" \\")
            if is_base(strategy):
                lines.append(r"\hline")
        parts.append("\n".join([*lines, r"\hline", r"\end{tabular}"]))
    key = (
        "% bold: worse, underlined: shifted, italic: better, $\\approx$: equivalent, plain: inconclusive, "
        "n.e.: not exercised, n.s.: no usable signal, --: undefined or not run"
    )
    return "\n\n".join([key, *parts]) + "\n"


def _latex_cell(view: View, row: Row | None) -> str:
    if row is None:
        return "--"
    places = digits(row.unit)
    if not row.change:
        return number(row.score, places).replace("−", "$-$").replace(NONE, "--")
    text = signed(row.change.delta, places).replace("−", "$-$").replace("±", "$\\pm$").replace(NONE, "--")
    forms = {
        Verdict.WORSE: rf"\textbf{{{text}}}",
        Verdict.SHIFTED: rf"\underline{{{text}}}",
        Verdict.BETTER: rf"\textit{{{text}}}",
        Verdict.EQUIVALENT: rf"{text} $\approx$",
        Verdict.NOT_EXERCISED: "n.e.",
        Verdict.NO_USABLE_SIGNAL: "n.s.",
    }
    return forms.get(row.change.verdict, text)
