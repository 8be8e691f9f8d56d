"""Writes the reference pages from `--help` and docstrings, at every build of the documentation (a MkDocs hook)."""

from __future__ import annotations

import inspect
import os
import re
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from mkdocs.structure.files import File, Files

PYTHON = ("run", "load")  # what `import tiltmeter` offers
REPORT = ("build_report", "write_figures", "markdown_summary", "model_card", "latex", "write_items_parquet")
ANALYSIS = (
    "analysis.types",
    "analysis.compare",
    "analysis.judge_all",
    "analysis.verdict",
    "analysis.spread",
    "analysis.twoway",
    "analysis.bootstrap",
    "analysis.flips",
    "analysis.coherence",
    "decisions.findings",
    "decisions.choose",
    "decisions.gate",
)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages = {"cli": command_line(), "strategies": strategies(), "benchmarks": benchmarks(), "python": python()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def command_line() -> str:
    """`--help` of every command, as a terminal of 80 columns shows it."""
    os.environ.update(COLUMNS="80", TERMINAL_WIDTH="80", NO_COLOR="1", TERM="dumb")
    import typer
    from typer.testing import CliRunner

    from tiltmeter.cli.commands import app

    parts = ["# Command line", "", "Generated from `--help`.", ""]
    for path in _commands(typer.main.get_command(app), ()):
        output = CliRunner().invoke(app, [*path, "--help"], prog_name="tiltmeter").output
        parts += [f"## {' '.join(('tiltmeter', *path))}", "", "```text", _plain(output), "```", ""]
    return "\n".join(parts)


def _commands(command: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    inner = getattr(command, "commands", {})
    return [path, *(found for name, one in inner.items() for found in _commands(one, (*path, name)))]


def _plain(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def strategies() -> str:
    """Every registered strategy: its module's header, its settings with defaults."""
    from tiltmeter.registry import known

    parts = ["# Strategies", "", "Chains join them with `+`, applied left to right. Generated from the modules.", ""]
    for name, cls in known("strategy").items():
        chosen = [
            f"- `{f.name.rstrip('_')}` = `{f.default!r}`"
            if f.default is not MISSING
            else f"- `{f.name}` (must be given)"
            for f in (fields(cls) if is_dataclass(cls) else ())
        ]
        where = f"Runs on {cls.hardware}, by {cls.library}. The study: {cls.paper_setting}."
        parts += [
            f"## {name}",
            "",
            _sentence(cls.summary),
            "",
            f"{where} Source: {_links(cls.source)}",
            "",
            *_header(cls),
            "",
            *chosen,
            "",
        ]
    return "\n".join(parts)


def benchmarks() -> str:
    """Every registered benchmark: its module's header and its known limits."""
    from tiltmeter.registry import known

    parts = ["# Benchmarks", "", "Generated from the modules.", ""]
    for name, cls in known("benchmark").items():
        parts += [
            f"## {name}",
            "",
            str(cls.title),
            "",
            f"{cls.n_items:,} items; ideal {cls.ideal:g} {cls.unit}; smallest effect of interest {cls.margin:g} "
            f"{cls.margin_unit}; licence of the data: {cls.licence}.",
            "",
            f"**Limits.** {cls.limits}",
            "",
            *_header(cls),
            "",
        ]
    return "\n".join(parts)


def python() -> str:
    """The functions people call, and the analysis modules' own words."""
    import importlib

    import tiltmeter
    from tiltmeter import report
    from tiltmeter.results.document import Results

    parts = ["# Python", "", "Generated from docstrings.", "", "## tiltmeter", ""]
    parts += [line for name in PYTHON for line in _function(f"tiltmeter.{name}", getattr(tiltmeter, name))]
    parts += _function("tiltmeter.results.document.Results", Results)
    parts += [
        line
        for name, value in inspect.getmembers(Results)
        if isinstance(value, property)
        for line in (f"- `{name}`: {inspect.getdoc(value)}",)
    ]
    parts += ["", "## tiltmeter.report", "", "```text", inspect.getdoc(report) or "", "```", ""]
    parts += [line for name in REPORT for line in _function(f"report.{name}", getattr(report, name))]
    from tiltmeter import plugins

    parts += ["## tiltmeter.plugins", "", "```text", inspect.getdoc(plugins) or "", "```", ""]
    for name in ANALYSIS:
        module = importlib.import_module(f"tiltmeter.{name}")
        parts += [f"## tiltmeter.{name}", "", "```text", inspect.getdoc(module) or "", "```", ""]
    return "\n".join(parts)


def _function(name: str, value: Any) -> list[str]:
    signature = re.sub(r"tiltmeter\.[\w.]+\.", "", str(inspect.signature(value)))
    return [
        f"### {name}",
        "",
        "```python",
        f"{name.rsplit('.', 1)[-1]}{signature}",
        "```",
        "",
        "```text",
        inspect.getdoc(value) or "",
        "```",
        "",
    ]


def _header(cls: type) -> list[str]:
    """A module's header: its first paragraph, then `Word   text` lines as a list."""
    summary, *paragraphs = (inspect.getdoc(inspect.getmodule(cls)) or "").split("\n\n")
    lines = [_prose(summary), ""]
    for paragraph in paragraphs:
        entries: list[list[str]] = []
        for line in paragraph.splitlines():
            found = re.match(r"([A-Z][A-Za-z ]*?) {2,}(\S.*)", line)
            if found:
                entries.append([f"**{found[1]}.**", found[2]])
            elif entries and line.startswith(" "):
                entries[-1].append(line.strip())
            else:
                entries.append([line.strip()])
        told = any(entry[0].startswith("**") for entry in entries)
        lines += (
            [f"- {_prose(' '.join(entry))}" for entry in entries]
            if told
            else [_prose(" ".join(map(str.strip, paragraph.splitlines())))]
        )
        lines.append("")
    return lines


def _prose(text: str) -> str:
    """Text as Markdown prose: nothing but `code`, our own bold and addresses is markup."""
    parts = re.split(r"(`[^`]*`|\*\*[A-Z][A-Za-z ]*\.\*\*)", " ".join(text.split()))
    safe = [part if place % 2 else re.sub(r"([*_<>\[\]|])", r"\\\1", part) for place, part in enumerate(parts)]
    return re.sub(r"(https?://[^\s,;)]+)", lambda m: f"<{m[1].replace(chr(92), '')}>", "".join(safe))


def _links(text: str) -> str:
    return re.sub(r"(https?://[^\s,;]+)", r"<\1>", text)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
