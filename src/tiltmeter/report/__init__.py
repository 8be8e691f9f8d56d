"""The report: what a run holds, drawn and written for people. It computes nothing.

build_report       one self-contained report.html
write_figures      every picture as SVG, PNG and Vega-Lite JSON
markdown_summary   a few lines for a pull request
model_card         a block for a model card: YAML front matter and a table
latex              a table in the study's layout: base, then change per strategy
write_items_parquet  every item, sample and variant
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tiltmeter.errors import UserError
from tiltmeter.files.whole import write_whole
from tiltmeter.results.document import read_document


def build_report(run: Path, *, out: Path | None = None, lang: str = "en") -> Path:
    """Write the page (default: RUN/report.html) and return its path. Raises UserError when RUN is no run, its
    language is unknown or `out` cannot be written."""
    from tiltmeter.report.examples import sample, stored_texts
    from tiltmeter.report.page import build

    view = _view(run, lang)
    with _progress() as say:
        say("reading the examples …")
        examples = sample(view, stored_texts(run))
        return _write(out or run / "report.html", build(view, examples, progress=say))


def write_figures(run: Path, folder: Path, *, lang: str = "en") -> list[Path]:
    """Write every picture into `folder` and return the paths."""
    from tiltmeter.report.figures import write_all

    view = _view(run, lang)
    try:
        return write_all(view, folder)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}", fix="give a writable folder with --figures"
        ) from None


def markdown_summary(run: Path, lang: str = "en") -> str:
    from tiltmeter.report.texts import markdown_summary as summary

    return summary(_view(run, lang))


def model_card(run: Path) -> str:
    from tiltmeter.decisions.policy import Policy
    from tiltmeter.report.exports.hub import card
    from tiltmeter.report.exports.subject import subjects

    return card(subjects(read_document(run), Policy()))


def latex(run: Path) -> str:
    from tiltmeter.report.texts import latex_table

    return latex_table(_view(run, "en"))


def write_items_parquet(run: Path, path: Path) -> Path:
    """Write all item rows as Parquet, in constant memory, and return the path."""
    from tiltmeter.report.parquet import write_items

    return write_items(run, path)


def _view(run: Path, lang: str):  # type: ignore[no-untyped-def]
    from tiltmeter.report.view import View
    from tiltmeter.report.words import Words

    words = Words(lang)
    return View(read_document(run), words)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on one line of a terminal's stderr; silent elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update


def _write(path: Path, text: str) -> Path:
    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}", fix="give a writable place with --out"
        ) from None
    return path
