"""The commands about statements of a run: what they take. What they do stands in `cli.evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltmeter.cli.options import RunFolder

evidence_app = typer.Typer()


@evidence_app.command()
def evidence(
    run: RunFolder,
    policy: Annotated[Path | None, typer.Option(help="YAML policy. [dim]default: as `gate`[/dim]")] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Private key that signs each statement.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to. [dim]default: RUN/evidence[/dim]")] = None,
) -> None:
    """Write one statement per variant (in-toto, DSSE when signed): artifact, method, results, gate, checklist."""
    from tiltmeter.cli.evidence import run_evidence

    raise typer.Exit(run_evidence(run, policy=policy, key=key, out=out))


@evidence_app.command(
    epilog="Exit status: 0 confirmed, 1 not what the run shows, 2 mistake or false signature, 3 not confirmed."
)
def verify(
    statement: Annotated[list[Path], typer.Argument(metavar="STATEMENT...", help="Files that `evidence` wrote.")],
    run: Annotated[Path | None, typer.Option(help="Run whose answers must give the statement.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy it was made under.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Public key that must have signed it.")] = None,
) -> None:
    """Hold a statement to a key and to a run's own answers."""
    from tiltmeter.cli.evidence import run_verify

    raise typer.Exit(run_verify(statement, run=run, policy=policy, key=key))


@evidence_app.command(
    epilog="Exit status: 0 every row is reproduced, 1 a row is not, 2 mistake, 3 it cannot be told or a row is missing."
)
def reproduce(
    first: Annotated[Path, typer.Argument(metavar="RUN1")], second: Annotated[Path, typer.Argument(metavar="RUN2")]
) -> None:
    """Does a second run give the results of the first? Item by item, with the statistics that judge a strategy."""
    from tiltmeter.cli.evidence import run_reproduce

    raise typer.Exit(run_reproduce(first, second))
