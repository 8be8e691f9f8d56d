"""The results table on a terminal, and the same rows as CSV, Markdown and LaTeX.

Everything a model or a dataset wrote is escaped for where it goes: control characters on a terminal,
formulas in CSV, pipes in Markdown, commands in LaTeX.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from tiltmeter.cli.rows import asked, cells, show_model, verdict_of
from tiltmeter.messages import Text, join, named, say, told
from tiltmeter.printed import (
    NONE,
    csv_safe,
    defined,
    digits,
    json_text,
    latex,
    markdown,
    null,
    signed,
    without_controls,
)
from tiltmeter.results.beside import label_of, moved_of
from tiltmeter.schema import Document, Place, Row, Variant
from tiltmeter.schema.fidelity import Divergence
from tiltmeter.schema.place import is_base
from tiltmeter.schema.results import Missing
from tiltmeter.strategies.chain import without_seed

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


def row_cells(row: Row, lang: str = "en") -> list[str]:
    """One results row as text, in the order of COLUMNS."""
    found = cells(row, lang)
    reasons = [say("table.counted", n=f"{count:,}", reason=reason) for reason, count in row.reasons]
    unscored = join("join.clauses", reasons) if reasons else row.reason or ""
    return [
        row.model,
        *(found[name] for name in ("strategy", "benchmark", "asked", "score", "change", "95 % interval")),
        verdict_of(row, lang),
        found["scored"],
        told(unscored, lang),
    ]


def show(document: Document, width: int | None = None, lang: str = "en") -> None:
    """Print the table, one block per benchmark, then reasons, proof of action and notes.

    width: columns there are; None: the terminal's, or as many as the table needs where there is none.
    """
    from rich.console import Console

    words = Terminal(lang, document.rows)
    if width is None and sys.stdout.isatty():
        width = Console().width
    console = Console(width=width or PIPE, highlight=False)
    if not document.rows:
        console.print(words("table.empty"))
    for model in dict.fromkeys(row.model for row in document.rows):
        show_model(console, [row for row in document.rows if row.model == model], width, lang)
    console.print(f"[dim]{words('table.legend')}\n{words('table.chance')}[/dim]")
    _show_missing(console, document, words)
    _show_reasons(console, document, words)
    _show_arms(console, document, words)
    _show_robust(console, document, words)
    _show_seeds(console, document, words)
    _show_variants(console, document, words)


class Terminal:
    """The catalogue in one language, harmless on a terminal and to rich; names of rows that no other row bears."""

    def __init__(self, lang: str, rows: Sequence[Row] = ()) -> None:
        self.lang = lang
        self._asked = len({row.place.asked for row in rows}) > 1
        self._models = len({row.model for row in rows}) > 1

    def what(self, row: Row) -> str:
        """A row's benchmark; how it was asked and of which model, where the document has several."""
        told_apart = [asked(row, self.lang)] * self._asked + [row.model] * self._models
        return f"{row.benchmark} ({', '.join(told_apart)})" if told_apart else row.benchmark

    def row(self, row: Row) -> str:
        return f"{self.what(row)} · {row.strategy}"

    def __call__(self, key: str, **values: object) -> str:
        return self.safe(say(key, **values))

    def safe(self, text: Text) -> str:
        from rich.markup import escape

        return escape(without_controls(told(text, self.lang)))


def _show_missing(console: Any, document: Document, words: Terminal) -> None:
    """What the study asked for and the run does not hold, and rows it did not ask for."""
    run = document.run
    if run.missing:
        console.print(f"[bold yellow]{words('table.incomplete', n=len(run.missing))}[/bold yellow]")
        for cells in _alike(run.missing):
            first, names = cells[0], join("join.names", dict.fromkeys(each.benchmark for each in cells))
            variant = f"{first.model} · {first.strategy}"
            console.print(
                "  "
                + (
                    words("table.missing_cell", cell=str(first.place), reason=first.reason)
                    if len(cells) == 1
                    else words("table.missing_variant", variant=variant, n=len(cells), names=names, reason=first.reason)
                )
            )
        console.print("  " + words("table.complete_with", command=run.command))
    earlier = dict.fromkeys(f"{row.strategy} · {row.benchmark}" for row in document.rows if row.earlier)
    if earlier:
        console.print(f"[yellow]{words('table.earlier')}[/yellow] {words.safe(', '.join(earlier))}")


def _alike(missing: Sequence[Missing]) -> list[list[Missing]]:
    """The missing cells of one variant that lack for one reason, together."""
    found: dict[tuple[str, str, Text], list[Missing]] = {}
    for each in missing:
        found.setdefault((each.model, each.strategy, each.reason), []).append(each)
    return list(found.values())


def _show_reasons(console: Any, document: Document, words: Terminal) -> None:
    """Each distinct reason once, with the strategies it holds for."""
    silent = [row for row in document.rows if row.signal and not row.change]
    if silent:
        console.print(f"[bold]{words('table.no_signal')}[/bold]")
    for row in silent:
        where = words.safe(words.row(row))
        console.print(f"  [bold]{where}[/bold]  {words.safe(row.signal or '')}")
    unscored: dict[tuple[str, str], list[str]] = {}
    for row in document.rows:
        if text := row_cells(row, words.lang)[-1]:
            unscored.setdefault((words.what(row), text), []).append(row.strategy)
    everyone = len(dict.fromkeys(row.strategy for row in document.rows))
    if unscored:
        console.print(f"[bold]{words('table.not_scored')}[/bold]")
    for (what, text), strategies in unscored.items():
        everywhere = len(set(strategies)) == everyone
        names = words("table.every_variant") if everywhere else words.safe(", ".join(dict.fromkeys(strategies)))
        console.print(f"  [bold]{words.safe(what)} · {names}[/bold]  {words.safe(text)}")
    why: dict[tuple[str, str, Text], list[str]] = {}
    for row in document.rows:
        if row.change and row.change.reason:
            why.setdefault((words.what(row), str(row.change.verdict), row.change.reason), []).append(row.strategy)
    if why:
        console.print(f"[bold]{words('table.why')}[/bold]")
    for (what, verdict, reason), strategies in why.items():
        cell = words.safe(f"{what} · {', '.join(dict.fromkeys(strategies))}")
        told_why = words("table.reason", verdict=named("verdict", verdict), reason=reason)
        console.print(f"  [bold]{cell}[/bold]  {told_why}")
    if why:
        console.print(f"\n[bold]{words('table.questions')}[/bold]")
        for sentence in document.findings:
            console.print("  " + words.safe(sentence))


def _show_arms(console: Any, document: Document, words: Terminal) -> None:
    """Further scores that decide with a row's own, controls among them."""
    rows = [(row, row.change.arms) for row in document.rows if row.change and row.change.arms]
    if rows:
        console.print(f"\n[bold]{words('table.arms')}[/bold]")
    for row, arms in rows:
        known = any(defined(x) for arm in arms for x in (arm.base, arm.variant, arm.delta))
        told_arms: list[Text] = [say("table.arm", name=label_of(arm), moved=moved_of(arm)) for arm in arms]
        told_arms = told_arms if known else [say("table.arms_unknown", n=len(arms))]
        console.print(f"  [bold]{words.safe(words.row(row))}[/bold]  {words.safe(join('join.clauses', told_arms))}")


def _show_robust(console: Any, document: Document, words: Terminal) -> None:
    """How far each change depends on how the question was put (`--robust`)."""
    lines = []
    for row in document.rows:
        extra, places = row.change.extra if row.change else {}, digits(row.unit)
        varied = {k.removeprefix("robust:"): v for k, v in extra.items() if k.startswith("robust:")}
        if not row.change or not varied:
            continue
        known = [value for value in (row.change.delta, *varied.values()) if defined(value)]
        reach = say("table.range", low=signed(min(known), places), high=signed(max(known), places)) if known else ""
        lines.append(
            say(
                "table.robust_row",
                cell=words.row(row),
                published=signed(row.change.delta, places),
                varied=", ".join(f"{name} {signed(value, places)}" for name, value in varied.items()),
                range=reach,
            )
        )
    if lines:
        console.print(f"\n[bold]{words('table.robust')}[/bold]")
    for line in lines:
        console.print("  " + words.safe(line))


def _seeded(row: Row) -> bool:
    """Whether a part of the strategy draws by a seed of its own, as calibration does; no other needs to be parsed."""
    return any("seed" in part for part in row.settings.values() if isinstance(part, Mapping))


def _show_seeds(console: Any, document: Document, words: Terminal) -> None:
    """How far a calibrated strategy's change depends on the text it happened to be calibrated on."""
    replicates: dict[Place, list[Row]] = {}
    for row in document.rows:
        if row.change and _seeded(row):
            place = replace(row.place, strategy=without_seed(row.strategy))
            replicates.setdefault(place, []).append(row)
    spread = {place: rows for place, rows in replicates.items() if len(rows) > 1}
    if spread:
        console.print(f"\n[bold]{words('table.seeds')}[/bold] {words('table.replicates')}")
    for place, rows in spread.items():
        places = digits(rows[0].unit)
        moved = [row.change.delta for row in rows if row.change and defined(row.change.delta)]
        reach: Text = NONE
        if moved:
            reach = say("table.reach", low=signed(min(moved), places), high=signed(max(moved), places))
        cell = f"{words.what(rows[0])} · {place.strategy}"
        console.print("  " + words("table.seeds_row", cell=cell, reach=reach, n=len(rows)))


def _show_variants(console: Any, document: Document, words: Terminal) -> None:
    if document.variants:
        console.print(f"\n[bold]{words('table.proof')}[/bold]")
    for variant in document.variants:
        absent = say("table.as_it_is" if is_base(variant.strategy) else "table.no_proof")
        proof: Text = variant.proof.summary or absent
        quality = variant.text_quality.perplexity if variant.text_quality else None
        if defined(quality):
            proof = say("table.perplexity", proof=proof, x=f"{quality:.6g}")
        console.print("  " + words("note.of_strategies", names=variant.strategy, clause=proof))
        for line in _fidelity(variant):
            console.print("    " + words.safe(line))
    if any(variant.fidelity for variant in document.variants):
        console.print(f"[dim]{words('fidelity.no_direction')}[/dim]")
    of_variants: dict[Text, dict[str, None]] = {}
    for variant in document.variants:
        for note in variant.notes:
            of_variants.setdefault(note, {})[variant.strategy] = None
    for note, names in of_variants.items():
        clause = say("note.of_strategies", names=join("join.names", names), clause=note)
        console.print(f"[dim]{words('table.note')}[/dim] {words.safe(clause)}")
    for note in document.run.notes:
        console.print(f"[dim]{words('table.note')}[/dim] {words.safe(note)}")
    for name, facts in document.run.data.items():
        for note in facts.notes:
            console.print(f"[dim]{words('table.data_of', name=name)}[/dim] {words.safe(note)}")


def _fidelity(variant: Variant) -> list[Text]:
    """How far a variant lies from its base: on the text, then on each benchmark's prompts."""
    found = variant.fidelity
    if found is None:
        return []
    if found.reason:
        return [say("fidelity.not_measured", reason=found.reason)]
    lines: list[Text] = []
    if found.text and found.text.n:
        ratio = say("fidelity.ratio", ratio=f"{found.text.perplexity_ratio:.3f}")
        lines.append(join("join.clauses", [say("fidelity.line", where=found.text_name, **figures(found.text)), ratio]))
    for name, of in found.prompts.items():
        lines.append(say("fidelity.line", where=name.removesuffix(" plain greedy"), **figures(of)))
    return lines


def figures(of: Divergence) -> dict[str, str]:
    """A divergence as it is printed."""
    printed = {name: f"{getattr(of, name):.3g}" for name in ("mean", "median", "p99", "largest")}
    return {**printed, "same": f"{100 * of.same_top:.1f}", "n": f"{of.n:,}"}


def render(document: Document, kind: str, lang: str = "en") -> str:
    """The document as json, csv, markdown or latex text."""
    if kind == "json":
        return json_text(null(document.as_document()), indent=1) + "\n"
    rows = [row_cells(row, lang) for row in document.rows]
    columns = [told(say(f"table.{name}"), lang) for name in COLUMNS]
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        flat = [_flat(null(row.as_document())) for row in document.rows]
        names = list(dict.fromkeys(name for row in flat for name in row))
        writer.writerow(map(csv_safe, names))
        writer.writerows([csv_safe(row.get(name)) for name in names] for row in flat)
        return out.getvalue()
    if kind == "markdown":
        lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
        return "\n".join(lines) + "\n"
    body = " \\\\\n".join(" & ".join(latex(cell) for cell in row) for row in rows)
    header = " & ".join(map(latex, columns))
    return (
        f"\\begin{{tabular}}{{llllrrllrl}}\n\\hline\n{header} \\\\\n\\hline\n{body} \\\\\n\\hline\n\\end{{tabular}}\n"
    )


def _flat(row: dict[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
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


def write_items(items: Iterable[dict[str, object]], out: IO[str], *, as_json: bool) -> None:
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
