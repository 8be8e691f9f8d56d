"""The commands that say what there is: strategies, benchmarks, backends, datasets, compressed checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tiltmeter.cli.options import Data

there_is_app = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Datasets: licences, download, checksums.")
there_is_app.add_typer(data_app, name="data")


@there_is_app.command("list")
def list_(what: Annotated[str | None, typer.Argument(metavar="[strategies|benchmarks|backends]")] = None) -> None:
    """Say what there is, one line each, with its source."""
    from tiltmeter.cli.listing import show_list

    show_list(what)


@there_is_app.command()
def cache(action: Annotated[Literal["list", "clear"], typer.Argument()] = "list") -> None:
    """List or clear the cache of compressed checkpoints."""
    from tiltmeter.cli.listing import show_cache

    show_cache(action)


@data_app.command("list")
def data_list() -> None:
    """List the datasets with source, licence, size and known limits."""
    from tiltmeter.cli.listing import show_datasets

    show_datasets()


@data_app.command("fetch")
def data_fetch(
    name: Annotated[list[str] | None, typer.Argument(metavar="[BENCHMARK...]", help="[dim]default: all[/dim]")] = None,
    data: Data = None,
) -> None:
    """Download pinned revisions and check their SHA-256."""
    from tiltmeter.cli.listing import fetch_datasets

    fetch_datasets(name or [], data)


@data_app.command("verify")
def data_verify(data: Data = None) -> None:
    """Check local files: present, checksum, rows, schema."""
    from tiltmeter.cli.listing import verify_datasets

    raise typer.Exit(verify_datasets(data))
