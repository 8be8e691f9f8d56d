"""What `tiltmeter list`, `tiltmeter data` and `tiltmeter cache` print."""

from __future__ import annotations

import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from tiltmeter.errors import UserError
from tiltmeter.registry import known
from tiltmeter.strategies.base import Strategy
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
        for family, classes in _families().items():
            _print_family(console, family, classes, short=what is None)
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


FAMILIES = {  # in the order they are printed
    "none": "The base",
    "weights": "Weights",
    "both": "Weights and activations",
    "pruning": "Pruning",
    "structure": "Structure",
    "cache": "KV cache",
    "llama.cpp": "llama.cpp (GGUF files, --backend llama-cpp)",
    "control": "Controls, which accelerate nothing or must change nothing",
}


def _families() -> dict[str, list[type[Strategy]]]:
    """Title -> its strategies, by name."""
    found: dict[str, list[type[Strategy]]] = {title: [] for title in FAMILIES.values()}
    for cls in known("strategy").values():
        found[FAMILIES[_family(cls)]].append(cls)
    return {title: classes for title, classes in found.items() if classes}


def _family(cls: type[Strategy]) -> str:
    if cls.library == "llama.cpp":
        return "llama.cpp"
    usual = _usual(cls)
    if usual.quantizes:
        return "both" if cls.rounds_activations else "weights"
    return "control" if usual.is_control else cls.role


def _print_family(console: Any, title: str, classes: list[type[Strategy]], *, short: bool) -> None:
    table = _table(title, "name", "what it does", "paper") if short else _table(title, "name", "what it does")
    table.columns[0].no_wrap = True
    for cls in classes:
        row = (cls.name, cls.summary, cls.source) if short else (cls.name, "\n".join(_facts(cls)))
        table.add_row(*row)
    console.print(table)


def _facts(cls: type[Strategy]) -> list[str]:
    """Lines about a strategy: what it does, settings, needs, who does the work, who reads it, speed, paper."""
    usual = _usual(cls)
    settings = ", ".join(f"{f.name.rstrip('_')}={_default(f)}" for f in fields(cls))
    speed = usual.speed_is_real
    needs = [*cls.needs, "text"] if usual.calibrates else [*cls.needs]
    needs += [usual.runs_in] if usual.runs_in and usual.acts_on != "dtype" else []
    needs += [] if cls.hardware == "CPU, GPU" or _family(cls) == "llama.cpp" else [cls.hardware]
    facts = [f"needs {', '.join(needs)}"] if needs else []
    facts.append(f"by {cls.library}")
    facts += [f"read by {', '.join(cls.read_by)}"] if cls.read_by else []
    if not (usual.is_base or usual.redraws):
        facts.append("real speed" if speed is True else str(speed))
    paper = [cls.source.removeprefix("https://")] if len(cls.source) > 1 else []
    return [cls.summary, *([f"settings: {settings}"] if settings else []), " · ".join(facts), *paper]


def _usual(cls: type[Strategy]) -> Strategy:
    """The strategy with its defaults; the first choice where a setting has none."""
    kinds = get_type_hints(cls)
    return cls(**{f.name: get_args(kinds[f.name])[0] for f in fields(cls) if f.default is MISSING})


def _default(setting: Field[Any]) -> Any:
    return "…" if setting.default is MISSING else setting.default


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

    from tiltmeter.datasets.catalogue import datasets
    from tiltmeter.datasets.fetching import fetch
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
