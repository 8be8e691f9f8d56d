"""The results table on a terminal, and the same rows as CSV, Markdown and LaTeX.

Everything a model or a dataset wrote is escaped for where it goes: control characters on a terminal,
formulas in CSV, pipes in Markdown, commands in LaTeX.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import IO, Any

from tiltmeter.cli.rows import cells, show_model
from tiltmeter.printed import (
    NONE,
    csv_safe,
    defined,
    digits,
    json_text,
    latex,
    markdown,
    signed,
    without_controls,
)
from tiltmeter.results.changes import without_seed
from tiltmeter.results.document import null
from tiltmeter.schema import Document, Place, Row

COLUMNS = (
    "model",
    "strategy",
    "benchmark",
    "asked",
    "score",
    "change",
    "95 % interval",
    "verdict",
    "scored",
    "not scored",
)
PIPE = 150  # columns of sentences where standard output is no terminal


def row_cells(row: Row) -> list[str]:
    """One results row as text, in the order of COLUMNS."""
    found = cells(row)
    unscored = "; ".join(f"{count:,} {reason}" for reason, count in row.unscored.items())
    return [
        row.model,
        *(found[name] for name in ("strategy", "benchmark", "asked", "score", "change", "95 % interval")),
        str(row.verdict or ("base, no signal" if row.signal else "base")),
        found["scored"],
        unscored or str(row.reason or ""),
    ]


def show(document: Document, width: int | None = None) -> None:
    """Print the table, one block per benchmark, then reasons, proof of action and notes.

    width: columns there are; None: the terminal's, or as many as the table needs where there is none.
    """
    from rich.console import Console

    if width is None and sys.stdout.isatty():
        width = Console().width
    console = Console(width=width or PIPE, highlight=False)
    if not document.rows:
        console.print("No cell of this run is finished yet.")
    for model in dict.fromkeys(row.model for row in document.rows):
        show_model(console, [row for row in document.rows if row.model == model], width)
    console.print(
        "[dim]change: variant − base, paired item by item. detects: smallest change found with 80 % power. "
        "noise: how far mere repetition (-s rerun) moves it.\nAn interval that contains 0 cannot be told from "
        "chance; that is not the same as no change.[/dim]"
    )
    _show_missing(console, document)
    _show_reasons(console, document)
    _show_robust(console, document)
    _show_seeds(console, document)
    _show_variants(console, document)


def _show_missing(console: Any, document: Document) -> None:
    """What the study asked for and the run does not hold, and rows it did not ask for."""
    from rich.markup import escape

    run = document.run
    if run.missing:
        console.print(f"[bold yellow]This run is not complete: {len(run.missing)} cells are missing.[/bold yellow]")
        for each in run.missing:
            console.print("  " + escape(without_controls(f"{each.place}: {each.reason}")))
        console.print("  Complete it with: " + escape(without_controls(run.command)))
    earlier = dict.fromkeys(f"{row.strategy} · {row.benchmark}" for row in document.rows if row.earlier)
    if earlier:
        console.print(
            "[yellow]of an earlier study in this folder:[/yellow] " + escape(without_controls(", ".join(earlier)))
        )


def _show_reasons(console: Any, document: Document) -> None:
    """Each distinct reason once, with the strategies it holds for."""
    from rich.markup import escape

    silent = [row for row in document.rows if row.signal and not row.change]
    if silent:
        console.print("[bold]No signal[/bold]")
    for row in silent:
        where = f"{row.benchmark} · {row.strategy}, {row.format} {row.decoding}"
        console.print(f"  [bold]{escape(without_controls(where))}[/bold]  {escape(without_controls(str(row.signal)))}")
    unscored: dict[tuple[str, str], list[str]] = {}
    for row in document.rows:
        if text := row_cells(row)[-1]:
            unscored.setdefault((row.benchmark, text), []).append(row.strategy)
    everyone = len(dict.fromkeys(row.strategy for row in document.rows))
    if unscored:
        console.print("[bold]Not scored[/bold]")
    for (benchmark, text), strategies in unscored.items():
        names = "every variant" if len(set(strategies)) == everyone else ", ".join(dict.fromkeys(strategies))
        console.print(
            f"  [bold]{escape(without_controls(f'{benchmark} · {names}'))}[/bold]  {escape(without_controls(text))}"
        )
    told: dict[tuple[str, str, str], list[str]] = {}
    for row in document.rows:
        if row.change and row.change.reason:
            told.setdefault((row.benchmark, row.change.verdict, str(row.change.reason)), []).append(row.strategy)
    if told:
        console.print("[bold]Why[/bold]")
    for (benchmark, verdict, reason), strategies in told.items():
        names = ", ".join(dict.fromkeys(strategies))
        console.print(
            f"  [bold]{escape(without_controls(f'{benchmark} · {names}'))}[/bold]  {verdict}. "
            f"{escape(without_controls(reason))}"
        )
    if told:
        console.print("\n[bold]The three questions[/bold]")
        for sentence in document.findings:
            console.print("  " + escape(without_controls(str(sentence))))


def _show_robust(console: Any, document: Document) -> None:
    """How far each change depends on how the question was put (`--robust`)."""
    from rich.markup import escape

    lines = []
    for row in document.rows:
        extra, places = row.change.extra if row.change else {}, digits(row.unit)
        varied = {k.removeprefix("robust:"): v for k, v in extra.items() if k.startswith("robust:")}
        if not row.change or not varied:
            continue
        told = [f"{name} {signed(value, places)}" for name, value in varied.items()]
        published = signed(row.change.delta, places)
        known = [value for value in (row.change.delta, *varied.values()) if defined(value)]
        verdict = f"; from {signed(min(known), places)} to {signed(max(known), places)}" if known else ""
        lines.append(f"{row.benchmark} · {row.strategy}  as published {published}; {', '.join(told)}{verdict}")
    if lines:
        console.print("\n[bold]Does the change depend on how it is asked?[/bold]")
    for line in lines:
        console.print("  " + escape(without_controls(line)))


def _show_seeds(console: Any, document: Document) -> None:
    """How far a calibrated strategy's change depends on the text it happened to be calibrated on."""
    from rich.markup import escape

    replicates: dict[Place, list[Row]] = {}
    for row in document.rows:
        if row.change:
            place = replace(row.place, strategy=without_seed(row.strategy))
            replicates.setdefault(place, []).append(row)
    spread = {place: rows for place, rows in replicates.items() if len(rows) > 1}
    if spread:
        console.print("\n[bold]Calibration seeds[/bold] (replicates of one comparison, not further hypotheses)")
    for place, rows in spread.items():
        moved, places = (
            [row.change.delta for row in rows if row.change and defined(row.change.delta)],
            digits(rows[0].unit),
        )
        reach = f"{signed(min(moved), places)} to {signed(max(moved), places)}" if moved else NONE
        told = f"{place.benchmark} · {place.strategy}: change {reach} over {len(rows)} seeds"
        console.print("  " + escape(without_controls(told)))


def _show_variants(console: Any, document: Document) -> None:
    from rich.markup import escape

    console.print("\n[bold]Proof that each strategy acted[/bold]")
    for variant in document.variants:
        summary = variant.proof.summary or ("the model as it is" if variant.strategy == "none" else "none")
        quality = variant.text_quality.perplexity if variant.text_quality else None
        ending = f"; perplexity {quality:.6g}" if defined(quality) else ""
        console.print("  " + escape(without_controls(f"{variant.strategy}: {summary}{ending}")))
    for note in document.run.notes:
        console.print("[dim]note:[/dim] " + escape(without_controls(str(note))))
    for name, facts in document.run.data.items():
        for note in facts.notes:
            console.print(f"[dim]data of {name}:[/dim] " + escape(without_controls(str(note))))


def render(document: Document, kind: str) -> str:
    """The document as json, csv, markdown or latex text."""
    if kind == "json":
        return json_text(null(document.as_document()), indent=1) + "\n"
    rows = [row_cells(row) for row in document.rows]
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        flat = [_flat(null(row.as_document())) for row in document.rows]
        names = list(dict.fromkeys(name for row in flat for name in row))
        writer.writerow(map(csv_safe, names))
        writer.writerows([csv_safe(row.get(name)) for name in names] for row in flat)
        return out.getvalue()
    if kind == "markdown":
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
        return "\n".join(lines) + "\n"
    body = " \\\\\n".join(" & ".join(latex(cell) for cell in row) for row in rows)
    header = " & ".join(map(latex, COLUMNS))
    return (
        f"\\begin{{tabular}}{{llllrrllrl}}\n\\hline\n{header} \\\\\n\\hline\n{body} \\\\\n\\hline\n\\end{{tabular}}\n"
    )


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat.update(
                {
                    f"{name}.{inner}": v
                    for inner, v in value.items()
                    if not isinstance(v, (dict, list)) or inner.endswith("ci")
                }
            )
        elif name != "groups":
            flat[name] = value
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in flat.items()}


def write_items(items: Iterable[dict[str, Any]], out: IO[str], *, as_json: bool) -> None:
    """Item rows as JSON lines, or as CSV with formulas made harmless; streamed."""
    writer = None
    for item in items:
        if as_json:
            out.write(json_text(item) + "\n")
            continue
        if writer is None:
            writer = csv.DictWriter(out, fieldnames=list(item), lineterminator="\n")
            writer.writeheader()
        writer.writerow(
            {name: csv_safe(json_text(value) if isinstance(value, dict) else value) for name, value in item.items()}
        )
