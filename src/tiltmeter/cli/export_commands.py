"""The commands that meet other tools (exports, policy files): what they take. What they do stands in `cli.exports`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltmeter.cli.options import Benchmarks, Language, Mlflow, RunFolder, Strategies, folder

export_app = typer.Typer()


@export_app.command(epilog="Formats: hub, every-eval-ever, cyclonedx, lm-eval, badge.")
def export(
    run: RunFolder,
    to: Annotated[list[str] | None, typer.Option("--to", metavar="FORMAT", help="Repeatable; see below.")] = None,
    mlflow: Mlflow = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", "-s", help="This variant alone. [dim]default: all[/dim]")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="ORG/NAME", help="What the variant is called.")] = None,
    base_id: Annotated[
        str | None, typer.Option("--base-id", metavar="ORG/NAME", help="What its base is called.")
    ] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="YAML policy. [dim]default: as `gate`[/dim]")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to. [dim]default: RUN/export[/dim]")] = None,
    lang: Language = None,
) -> None:
    """Write a run in other tools' formats, one folder per variant; what was not judged is said in each."""
    from tiltmeter.cli.exports import run_export

    run_export(
        run, to or [], mlflow=mlflow, strategy=strategy, name=id, base_name=base_id, policy=policy, out=out, lang=lang
    )


@export_app.command(epilog="Exit status: 0 every file is a policy, 2 one is not.")
def policy(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[POLICY...]", help="YAML files.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a policy instead.")] = False,
) -> None:
    """Check policy files, as the pre-commit hook does; or print their JSON Schema."""
    from tiltmeter.cli.exports import run_policy

    raise typer.Exit(run_policy(files or [], schema=schema))


@export_app.command()
def trend(
    runs: Annotated[
        list[Path], typer.Argument(parser=folder, metavar="RUN...", help="One run per release, oldest first.")
    ],
    strategy: Strategies = None,
    benchmark: Benchmarks = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also one self-contained page.")] = None,
    lang: Language = None,
) -> None:
    """Follow the same variant over releases, with intervals; runs that are not comparable are refused.

    [dim]tiltmeter trend runs/v1 runs/v2 runs/v3 --out trend.html[/dim]
    """
    from tiltmeter.cli.trend import run_trend

    run_trend(runs, strategies=strategy or [], benchmarks=benchmark or [], out=out, lang=lang)
