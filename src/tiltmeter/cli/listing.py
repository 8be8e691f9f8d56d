"""What `tiltmeter list`, `tiltmeter data` and `tiltmeter cache` print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.registry import known
from tiltmeter.study import Study

KINDS = ("strategies", "benchmarks", "backends")


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_list(what: str | None) -> None:
    """Print what is registered; one line each, with its source. Raises UserError for an unknown kind."""
    if what is not None and what not in KINDS:
        raise UserError(f"there is no list of {what!r}", fix=f"choose from: {', '.join(KINDS)}")
    console = _console()
    if what in (None, "strategies"):
        table = _table(
            "Strategies", "name", "what it does", "settings", "library", "runs on", "the study's own setting", "source"
        )
        if what is None:
            table = _table("Strategies", "name", "what it does", "source")
        for name, cls in known("strategy").items():
            settings = ", ".join(f"{key}={default}" for key, default in _settings(cls))
            row = (name, cls.summary, settings, cls.library, cls.hardware, cls.paper_setting, cls.source)  # type: ignore[attr-defined]
            table.add_row(*(row if what else (row[0], row[1], row[6])))
        console.print(table)
    if what in (None, "benchmarks"):
        table = _table("Benchmarks", "name", "what it asks", "items", "ideal", "unit", "source")
        for name, cls in known("benchmark").items():
            table.add_row(name, str(cls.title), f"{cls.n_items:,}", f"{cls.ideal:g}", cls.unit, cls.source)  # type: ignore[attr-defined]
        console.print(table)
    if what in (None, "backends"):
        table = _table("Backends", "name", "what it is", "runs on", "library")
        for name, cls in known("backend").items():
            table.add_row(name, cls.about, cls.runs_on, cls.source)  # type: ignore[attr-defined]
        console.print(table)


def _settings(cls: type) -> list[tuple[str, Any]]:
    from dataclasses import MISSING, fields

    return [(f.name, "…" if f.default is MISSING else f.default) for f in fields(cls)]  # type: ignore[arg-type]


def data_folder(given: str | None) -> Path:
    """The folder with the datasets: as given, else the default cache."""
    return Path(given or Study.model_fields["data"].default).expanduser()


def show_datasets() -> None:
    """Print the catalogue: licence, rows, source, known limits."""
    from tiltmeter.datasets.catalogue import datasets

    table = _table(
        "Datasets (never bundled; `tiltmeter data fetch` downloads pinned revisions)",
        "benchmark",
        "rows",
        "licence",
        "source",
        "known limits",
    )
    for dataset in datasets().values():
        table.add_row(dataset.name, f"{dataset.rows:,}", dataset.licence, dataset.source, dataset.limits)
    _console().print(table)


def fetch_datasets(names: list[str], data: str | None) -> None:
    """Download datasets with a progress bar. Raises UserError for an unknown name or a failed download."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from tiltmeter.datasets.catalogue import datasets, fetch
    from tiltmeter.registry import find

    for name in names:
        find("benchmark", name)
    folder = data_folder(data)
    from rich.console import Console

    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=Console(stderr=True)
    ) as bars:
        for name in names or list(datasets()):
            task = bars.add_task(name, total=None)

            def advance(done: int, total: int | None, task: Any = task) -> None:
                bars.update(task, completed=done, total=total)

            fetch(name, folder, advance)
    print(f"datasets are in {folder}")


def verify_datasets(data: str | None) -> int:
    """Print one line per file; exit status 0 when nothing is missing or broken, else 2."""
    from tiltmeter.datasets.catalogue import verify

    folder = data_folder(data)
    findings = verify(folder)
    table = _table(f"Datasets in {folder}", "dataset", "file", "state", "what it means")
    for finding in findings:
        table.add_row(finding.dataset, finding.file, finding.state, str(finding.message))
    _console().print(table)
    return 2 if any(finding.broken for finding in findings) else 0


def show_cache(action: str) -> None:
    """List or clear the cache of compressed checkpoints."""
    from tiltmeter.models.artifacts import Artifacts

    artifacts = Artifacts()
    if action == "clear":
        count, freed = artifacts.clear()
        print(f"removed {count} artifacts from {artifacts.root}: {freed / 1e6:,.1f} MB")
        return
    table = _table(f"Kept in {artifacts.root}", "what", "MB", "made")
    for entry in artifacts.entries():
        table.add_row(entry.title, f"{entry.n_bytes / 1e6:,.1f}", entry.made)
    _console().print(table)
