"""The command line: parses, calls, prints. No logic lives here, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tiltmeter.cli.ending import ending
from tiltmeter.cli.evidence_commands import evidence_app
from tiltmeter.cli.export_commands import export_app
from tiltmeter.cli.judge import judge_app
from tiltmeter.cli.language import language
from tiltmeter.cli.options import (
    Backend,
    BatchTokens,
    Benchmarks,
    Budget,
    Calibration,
    CalibrationSeeds,
    Data,
    Debug,
    Decoding,
    Device,
    DryRun,
    Dtype,
    Fidelity,
    Format,
    Language,
    Limit,
    Mlflow,
    Orders,
    Out,
    Ray,
    Robust,
    RunFolder,
    Samples,
    Seed,
    Strategies,
    Text,
    Tokenizer,
    study_settings,
)
from tiltmeter.cli.output import say
from tiltmeter.cli.speed_command import speed_app
from tiltmeter.cli.there_is import there_is_app
from tiltmeter.errors import UserError
from tiltmeter.messages import told
from tiltmeter.models.address import is_address, reachable
from tiltmeter.printed import one_line

if TYPE_CHECKING:
    from tiltmeter.study import Study

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="YAML policy. [dim]default: forbid `worse` and `shifted`[/dim]")
]
EPILOG = "Exit status: 0 done, 2 mistake in the command, 3 some cells failed (named)."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Does making a language model faster change whom it treats how? Base against accelerated, "
    "item by item, with error bars.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tiltmeter {version('tiltmeter')}")
        raise typer.Exit()


@app.callback()
def _global_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What every command shares."""


@app.command(epilog=EPILOG)
def run(
    model: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Hub id, folder or http://…/v1; or one study.yaml.")
    ],
    out: Out,
    strategy: Strategies = None,
    benchmark: Benchmarks = None,
    format: Format = None,
    decoding: Decoding = None,
    samples: Samples = None,
    limit: Limit = None,
    robust: Robust = None,
    orders: Orders = None,
    data: Data = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = None,
    tokenizer: Tokenizer = None,
    batch_tokens: BatchTokens = None,
    budget: Budget = None,
    calibration: Calibration = None,
    calibration_seeds: CalibrationSeeds = None,
    text: Text = None,
    fidelity: Fidelity = None,
    ray: Ray = None,
    mlflow: Mlflow = None,
    dry_run: DryRun = False,
    debug: Debug = False,
) -> None:
    """Measure bias of MODEL as it is and under each strategy, then the paired change.

    [dim]tiltmeter run Qwen/Qwen3-0.6B -s int4 -b crows-pairs --out runs/first[/dim]
    """
    settings = study_settings(locals())
    from tiltmeter.study import make_study, read_study

    if len(model) == 1 and model[0].endswith((".yaml", ".yml")):
        study = read_study(Path(model[0]), **settings)
    else:
        study = make_study(models=model, **settings)
    _run_and_show(study, out, debug, ray, mlflow, dry_run)


@app.command(epilog=EPILOG)
def compare(
    base: Annotated[str, typer.Argument(help="Hub id or folder of the base model; or http://…/v1.")],
    variant: Annotated[
        list[str],
        typer.Argument(
            metavar="VARIANT...",
            help="Ready-made checkpoints: AWQ, GPTQ, GGUF (a .gguf file, or org/repo:Q4_K_M on the hub), "
            "compressed-tensors, bitsandbytes, plain; or served endpoints: http://HOST/v1, http://HOST/v1#NAME.",
        ),
    ],
    out: Out,
    benchmark: Benchmarks = None,
    format: Format = None,
    decoding: Decoding = None,
    samples: Samples = None,
    limit: Limit = None,
    robust: Robust = None,
    orders: Orders = None,
    data: Data = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = None,
    tokenizer: Tokenizer = None,
    batch_tokens: BatchTokens = None,
    budget: Budget = None,
    text: Text = None,
    fidelity: Fidelity = None,
    ray: Ray = None,
    mlflow: Mlflow = None,
    dry_run: DryRun = False,
    debug: Debug = False,
) -> None:
    """Compare ready-made checkpoints or served endpoints with their base model.

    [dim]tiltmeter compare meta-llama/Llama-3.1-8B-Instruct ./my-awq-checkpoint ./m.Q4_K_M.gguf --out runs/mine[/dim]

    [dim]tiltmeter compare meta-llama/Llama-3.1-8B-Instruct http://localhost:8000/v1 --out runs/served[/dim]
    """
    settings = study_settings(locals())
    from tiltmeter.study import make_study

    study = make_study(models=[base], checkpoints=variant, **settings)
    _run_and_show(study, out, debug, ray, mlflow, dry_run)


def _run_and_show(
    study: Study, out: Path, debug: bool, ray: str | None, mlflow: str | None = None, dry_run: bool = False
) -> None:
    from tiltmeter.cli.forecast import show_forecast, totals, warnings
    from tiltmeter.runs.forecast import forecast

    if dry_run:
        show_forecast(forecast(study), language(None))
        return
    for source in (*study.models, *study.checkpoints):
        if is_address(source):
            reachable(source)
    if mlflow:
        from tiltmeter.report.exports.mlflow_store import ready

        ready(mlflow)  # before hours of work, not after them
    from tiltmeter.cli.tables import show
    from tiltmeter.pipeline import run as run_study
    from tiltmeter.results.document import read_document
    from tiltmeter.runs.progress import Terminal

    plan = forecast(study)
    for line in (*totals(plan), *warnings(plan)):
        say(told(line, language(None)), error=True)
    try:
        summary = run_study(study, out, Terminal(debug), ray)
    except KeyboardInterrupt:
        say(f"\nstopped: what was answered is kept in {one_line(out)}; the same command goes on there", error=True)
        raise typer.Exit(130) from None
    document = read_document(out)
    show(document, lang=language(None))
    if mlflow:
        from tiltmeter.cli.exports import log_to

        log_to(mlflow, out, document)
    say(f"\nRun folder: {one_line(out)}   Next: tiltmeter report {quote(one_line(out))}", error=True)
    if summary.failures:
        for failure in summary.failures:
            line = f"failed: {failure.model} · {failure.strategy}: {failure.reason}"
            say(one_line(line), error=True)
        raise typer.Exit(3)


@app.command()
def results(
    run: RunFolder,
    json: Annotated[bool, typer.Option("--json", help="One document, schema tiltmeter/results/1.")] = False,
    csv: Annotated[bool, typer.Option("--csv")] = False,
    markdown: Annotated[bool, typer.Option("--markdown")] = False,
    latex: Annotated[bool, typer.Option("--latex")] = False,
    items: Annotated[
        bool,
        typer.Option(
            "--items", help="One row per item and variant, with prompt, answer and label (CSV; JSON lines with --json)."
        ),
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Make the statistics anew from the stored answers; no model is needed.")
    ] = False,
    lang: Language = None,
) -> None:
    """Print the results of a run: score, change, verdict, items scored and why others were not."""
    from tiltmeter.cli import tables
    from tiltmeter.results.document import read_document
    from tiltmeter.runs.record import run_record

    run_record(run)
    if recompute:
        from tiltmeter.results.computed import recomputed

        recomputed(run)
    if items:
        from tiltmeter.results.items import item_rows

        tables.write_items(item_rows(run), sys.stdout, as_json=json)
        return
    document = read_document(run)
    chosen = [name for name, on in (("json", json), ("csv", csv), ("markdown", markdown), ("latex", latex)) if on]
    if len(chosen) > 1:
        raise UserError(f"choose one output, not {' and '.join('--' + name for name in chosen)}", fix=f"--{chosen[0]}")
    if chosen:
        sys.stdout.write(tables.render(document, chosen[0], language(lang)))
    else:
        tables.show(document, lang=language(lang))


@app.command()
def report(
    run: RunFolder,
    out: Annotated[Path | None, typer.Option("--out", help="[dim]default: RUN/report.html[/dim]")] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Also SVG and PNG pictures.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a summary for a pull request.")] = False,
    model_card: Annotated[bool, typer.Option("--model-card", help="Print a block for a model card.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the table in the study's layout.")] = False,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="All items as Parquet.")] = None,
    lang: Language = None,
) -> None:
    """Write one self-contained page that a person reads."""
    from tiltmeter import report as pages
    from tiltmeter.runs.record import run_record

    run_record(run)
    lang = language(lang)
    if figures:
        pages.write_figures(run, figures)
    if parquet:
        pages.write_items_parquet(run, parquet)
    for wanted, text in (
        (markdown, lambda: pages.markdown_summary(run, lang)),
        (model_card, lambda: pages.model_card(run)),
        (latex, lambda: pages.latex(run)),
    ):
        if wanted:
            say(text())
    if not (markdown or model_card or latex):
        say(one_line(pages.build_report(run, out=out, lang=lang)))


@app.command(
    epilog="Exit status: 0 all limits hold, 1 a limit is broken, 2 mistake, 3 it could not be judged; 1 beats 3."
)
def gate(
    run: RunFolder,
    policy: Annotated[
        Path | None, typer.Option(help="YAML policy. [dim]default: forbid `worse` and `shifted`[/dim]")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also a JUnit XML file.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Also GitHub annotations.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
    lang: Language = None,
) -> None:
    """Judge a run by a policy, for pipelines."""
    from tiltmeter.cli.decisions import run_gate

    raise typer.Exit(run_gate(run, policy, junit=junit, github=github, as_json=json, lang=language(lang)))


@app.command()
def choose(
    run: RunFolder,
    policy: Annotated[
        Path | None, typer.Option(help="YAML policy. [dim]default: forbid `worse` and `shifted`[/dim]")
    ] = None,
    by: Annotated[Literal["speed", "size"], typer.Option(help="What to prefer inside the policy.")] = "speed",
    json: Annotated[bool, typer.Option("--json")] = False,
    lang: Language = None,
) -> None:
    """Name the fastest (or smallest) variant whose change stays inside the policy, and the Pareto set."""
    from tiltmeter.cli.decisions import run_choose

    raise typer.Exit(run_choose(run, policy, by=by, as_json=json, lang=language(lang)))


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the run; every command accepts it.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Everything, both formats, 5 samples.")] = False,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Do the whole job on a built-in tiny model whose bias is known. Offline, in minutes."""
    from rich.console import Console

    from tiltmeter.demo.command import run_demo

    raise typer.Exit(run_demo(keep, full, seed, Console()))


app.add_typer(speed_app)  # without a name: its command stands beside these
app.add_typer(export_app)
app.add_typer(judge_app)
app.add_typer(evidence_app)  # without a name: their commands stand beside these
app.add_typer(there_is_app)


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exits with a status of `tiltmeter.cli.ending`, by SystemExit."""
    with ending():
        app(args=arguments)
