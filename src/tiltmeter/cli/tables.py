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
from typing import IO, Any

from tiltmeter.printed import csv_safe, without_controls
from tiltmeter.results.changes import without_seed

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
_SYMBOL = {
    "worse": "▲",
    "better": "▼",
    "equivalent": "=",
    "inconclusive": "?",
    "not exercised": "–",
    "no usable signal": "✕",
}
_STYLE = {"worse": "bold red", "better": "green", "equivalent": "cyan", "no usable signal": "magenta"}


def number(value: float | None, unit: str = "", signed: bool = False) -> str:
    """A value as a person reads it: two decimals for percent, three otherwise, – when undefined."""
    if value is None:
        return "–"
    places = 2 if unit.startswith(("percent", "%", "points")) else 3
    text = f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
    return text.replace("-", "−")


def interval(ends: list[float | None] | None, unit: str = "") -> str:
    if not ends or ends[0] is None or ends[1] is None:
        return "–"
    return f"[{number(ends[0], unit, True)}, {number(ends[1], unit, True)}]"


def row_cells(row: dict[str, Any]) -> list[str]:
    """One results row as text, in the order of COLUMNS."""
    change = row["change"] or {}
    asked = row["format"] if row["decoding"] == "greedy" else f"{row['format']}, {row['n_samples']} samples"
    scored = f"{row['n_scored']:,} / {row['n_items']:,}" + (" partial" if row["partial"] else "")
    unscored = "; ".join(f"{count:,} {reason}" for reason, count in row["unscored"].items())
    return [
        row["model"],
        row["strategy"],
        row["benchmark"],
        asked,
        number(row["score"], row["unit"]),
        number(change.get("delta"), row["unit"], True) if change else "",
        interval(change.get("ci"), row["unit"]) if change else "",
        change.get("verdict") or "" if change else "base",
        scored,
        unscored or (row["reason"] or ""),
    ]


def show(document: dict[str, Any]) -> None:
    """Print the table, one block per benchmark, then reasons, proof of action and notes."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = not sys.stdout.isatty()
    console = Console(width=150 if wide else None, highlight=False)
    rows = document["rows"]
    if not rows:
        console.print("No cell of this run is finished yet.")
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        table = Table(
            title=Text(without_controls(model), style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
        )
        asked_differs = len({(row["format"], row["decoding"]) for row in mine}) > 1
        for name in (
            "benchmark",
            "strategy",
            *(["asked"] if asked_differs else []),
            "score",
            "change",
            "95 % interval",
            "detects",
            "noise",
            "verdict",
            "scored",
        ):
            numeric = name in ("score", "change", "95 % interval", "detects", "noise", "scored")
            table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=name != "asked")
        last = None
        for row in sorted(mine, key=lambda row: _place(mine, row)):
            _, strategy, benchmark, asked, score, delta, ends, verdict, scored, _ = map(
                without_controls, row_cells(row)
            )
            if last not in (None, benchmark):
                table.add_section()
            label = Text(f"{_SYMBOL.get(verdict, ' ')} {verdict}", style=_STYLE.get(verdict, "dim"))
            table.add_row(
                Text(benchmark if benchmark != last else "", style="bold"),
                Text(strategy),
                *([Text(asked)] if asked_differs else []),
                score,
                delta,
                ends,
                *_floor(row),
                label,
                scored,
            )
            last = benchmark
        console.print(table)
    console.print(
        "[dim]change: variant − base, paired item by item. detects: smallest change found with 80 % power. "
        "noise: how far mere repetition (-s rerun) moves it.\nAn interval that contains 0 cannot be told from "
        "chance; that is not the same as no change.[/dim]"
    )
    _show_reasons(console, document)
    _show_robust(console, document)
    _show_seeds(console, document)
    _show_variants(console, document)


def _floor(row: dict[str, Any]) -> tuple[str, str]:
    """Smallest change this run would have found, and how far mere repetition moves the number; in the
    unit the verdict rests on (shown where it is not the score's)."""
    change = row["change"]
    if not change:
        return "", ""
    spreads = change.get("spreads") or []
    unit = spreads[0]["unit"] if change.get("rests_on") == "spread" and spreads else ""
    name = f" {unit}" if unit else ""
    noise = change.get("noise")
    return (
        number(change.get("mde"), unit or row["unit"]) + name,
        "not measured" if noise is None else number(noise, unit or row["unit"]) + name,
    )


def _place(rows: list[dict[str, Any]], row: dict[str, Any]) -> tuple[int, int, int]:
    """Benchmark by benchmark, each way of asking with its base first."""
    names = list(dict.fromkeys(other["benchmark"] for other in rows))
    asked = list(dict.fromkeys((other["format"], other["decoding"]) for other in rows))
    return names.index(row["benchmark"]), asked.index((row["format"], row["decoding"])), rows.index(row)


def _show_reasons(console: Any, document: dict[str, Any]) -> None:
    """Each distinct reason once, with the strategies it holds for."""
    from rich.markup import escape

    unscored: dict[tuple[str, str], list[str]] = {}
    for row in document["rows"]:
        if text := row_cells(row)[-1]:
            unscored.setdefault((row["benchmark"], text), []).append(row["strategy"])
    everyone = len(dict.fromkeys(row["strategy"] for row in document["rows"]))
    if unscored:
        console.print("[bold]Not scored[/bold]")
    for (benchmark, text), strategies in unscored.items():
        names = "every variant" if len(set(strategies)) == everyone else ", ".join(dict.fromkeys(strategies))
        console.print(
            f"  [bold]{escape(without_controls(f'{benchmark} · {names}'))}[/bold]  {escape(without_controls(text))}"
        )
    told: dict[tuple[str, str, str], list[str]] = {}
    for row in document["rows"]:
        if row["change"] and row["change"].get("reason"):
            key = (row["benchmark"], row["change"]["verdict"], row["change"]["reason"])
            told.setdefault(key, []).append(row["strategy"])
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
        for sentence in document.get("findings", []):
            console.print("  " + escape(without_controls(sentence)))


def _show_robust(console: Any, document: dict[str, Any]) -> None:
    """How far each change depends on how the question was put (`--robust`)."""
    from rich.markup import escape

    lines = []
    for row in document["rows"]:
        change = row["change"] or {}
        varied = {k.removeprefix("robust:"): v for k, v in change.get("extra", {}).items() if k.startswith("robust:")}
        if not varied:
            continue
        told = [f"{name} {number(value, row['unit'], True)}" for name, value in varied.items()]
        published = number(change["delta"], row["unit"], True)
        known = [value for value in (change["delta"], *varied.values()) if value is not None]
        verdict = (
            f"; from {number(min(known), row['unit'], True)} to {number(max(known), row['unit'], True)}"
            if known
            else ""
        )
        lines.append(f"{row['benchmark']} · {row['strategy']}  as published {published}; {', '.join(told)}{verdict}")
    if lines:
        console.print("\n[bold]Does the change depend on how it is asked?[/bold]")
    for line in lines:
        console.print("  " + escape(without_controls(line)))


def _show_seeds(console: Any, document: dict[str, Any]) -> None:
    """How far a calibrated strategy's change depends on the text it happened to be calibrated on."""
    from rich.markup import escape

    replicates: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in document["rows"]:
        if row["change"]:
            key = (row["model"], row["benchmark"], row["format"], row["decoding"], without_seed(row["strategy"]))
            replicates.setdefault(key, []).append(row)
    spread = {key: rows for key, rows in replicates.items() if len(rows) > 1}
    if spread:
        console.print("\n[bold]Calibration seeds[/bold] (replicates of one comparison, not further hypotheses)")
    for (_, benchmark, *_, strategy), rows in spread.items():
        moved = [row["change"]["delta"] for row in rows if row["change"]["delta"] is not None]
        reach = (
            f"{number(min(moved), rows[0]['unit'], True)} to {number(max(moved), rows[0]['unit'], True)}"
            if moved
            else "–"
        )
        console.print(
            "  " + escape(without_controls(f"{benchmark} · {strategy}: change {reach} over {len(rows)} seeds"))
        )


def _show_variants(console: Any, document: dict[str, Any]) -> None:
    from rich.markup import escape

    console.print("\n[bold]Proof that each strategy acted[/bold]")
    for variant in document["variants"]:
        summary = variant["proof"].get("summary") or ("the model as it is" if variant["strategy"] == "none" else "none")
        quality = variant["text_quality"].get("perplexity")
        ending = f"; perplexity {quality:.6g}" if quality else ""
        console.print("  " + escape(without_controls(f"{variant['strategy']}: {summary}{ending}")))
    for note in document["run"].get("notes", []):
        console.print("[dim]note:[/dim] " + escape(without_controls(note)))
    for name, facts in document["run"]["data"].items():
        for note in facts.get("notes", []) if isinstance(facts, dict) else []:
            console.print(f"[dim]data of {name}:[/dim] " + escape(without_controls(note)))


def render(document: dict[str, Any], kind: str) -> str:
    """The document as json, csv, markdown or latex text."""
    if kind == "json":
        return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    rows = [row_cells(row) for row in document["rows"]]
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        flat = [_flat(row) for row in document["rows"]]
        names = list(dict.fromkeys(name for row in flat for name in row))
        writer.writerow(names)
        writer.writerows([csv_safe(row.get(name)) for name in names] for row in flat)
        return out.getvalue()
    if kind == "markdown":
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        lines += [
            "| " + " | ".join(without_controls(cell).replace("|", "\\|").replace("<", "&lt;") for cell in row) + " |"
            for row in rows
        ]
        return "\n".join(lines) + "\n"
    body = " \\\\\n".join(" & ".join(latex_safe(cell) for cell in row) for row in rows)
    header = " & ".join(latex_safe(name) for name in COLUMNS)
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


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
}


def latex_safe(text: str) -> str:
    """Text in which no character is a LaTeX command."""
    return "".join(_LATEX.get(character, character) for character in without_controls(text))


def write_items(items: Iterable[dict[str, Any]], out: IO[str], *, as_json: bool) -> None:
    """Item rows as JSON lines, or as CSV with formulas made harmless; streamed."""
    writer = None
    for item in items:
        if as_json:
            out.write(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
            continue
        if writer is None:
            writer = csv.DictWriter(out, fieldnames=list(item), lineterminator="\n")
            writer.writeheader()
        writer.writerow(
            {
                name: csv_safe(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value)
                for name, value in item.items()
            }
        )
