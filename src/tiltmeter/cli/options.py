"""Options that several commands share, and how they become study settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tiltmeter.errors import UserError

WHAT, HOW, WHERE = "What to measure", "How to run", "Where it goes"


def folder(text: str) -> Path:
    """A folder from the command line; an empty text (an unset variable) is none, not the current one."""
    if not text.strip() or "\0" in text:
        raise typer.BadParameter("is empty; name a folder, such as runs/first")
    return Path(text)


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        parser=folder,
        metavar="DIR",
        help="Finished parts in it are kept; only missing ones run.",
        rich_help_panel=WHERE,
    ),
]
Strategies = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy",
        "-s",
        metavar="NAME[:KEY=VALUE,...]",
        help="Repeatable; chain with +. The base model always runs. See: tiltmeter list strategies",
        rich_help_panel=WHAT,
    ),
]
Benchmarks = Annotated[
    list[str] | None,
    typer.Option(
        "--benchmark",
        "-b",
        metavar="NAME",
        help="Repeatable; all: every one. [dim]default: the paper's six[/dim]",
        rich_help_panel=WHAT,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="plain|chat|both", help="Prompt format. [dim]default: plain[/dim]", rich_help_panel=WHAT
    ),
]
Decoding = Annotated[
    str | None,
    typer.Option("--decoding", metavar="greedy|sampling|both", help="[dim]default: greedy[/dim]", rich_help_panel=WHAT),
]
Samples = Annotated[
    int | None, typer.Option(help="Answers per prompt when sampling. [dim]default: 5[/dim]", rich_help_panel=WHAT)
]
Limit = Annotated[
    int | None,
    typer.Option(help="About N items per benchmark, balanced; rows are marked partial.", rich_help_panel=WHAT),
]
Robust = Annotated[
    bool | None,
    typer.Option(
        "--robust",
        help="Also ask with other option orders and a benign system "
        "prompt, and say how far the change depends on them.",
        rich_help_panel=WHAT,
    ),
]
Orders = Annotated[
    str | None,
    typer.Option(
        "--orders",
        metavar="one|all",
        help="all: ask multiple choice in every cyclic order of its options, averaged, with the bias of places. "
        "[dim]default: one[/dim]",
        rich_help_panel=WHAT,
    ),
]
Language = Annotated[
    str | None, typer.Option("--lang", metavar="en|zh", help="Language. [dim]default: the terminal's[/dim]")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with the datasets. [dim]default: ~/.cache/tiltmeter/data[/dim]",
        rich_help_panel=HOW,
    ),
]
Seed = Annotated[int | None, typer.Option(help="Of every draw. [dim]default: 0[/dim]", rich_help_panel=HOW)]
Device = Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=HOW)]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="auto|float32|bfloat16|float16",
        rich_help_panel=HOW,
        help="Of base and variants. [dim]default: auto, the checkpoint's own (float32 on a CPU)[/dim]",
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=HOW,
        help="What answers about checkpoints; see tiltmeter list backends. [dim]default: transformers[/dim]",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        rich_help_panel=HOW,
        help="Whose tokenizer makes an endpoint's prompts. [dim]default: the base's[/dim]",
    ),
]
BatchTokens = Annotated[
    str | None,
    typer.Option(
        "--batch-tokens",
        metavar="auto|N",
        rich_help_panel=HOW,
        help="Tokens per forward; fixed at a run's first start.",
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        metavar="TOKENS",
        rich_help_panel=HOW,
        help="Tokens that served endpoints may take in all; the run stops before it takes more, and goes on later.",
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", rich_help_panel=HOW, help="Text for methods that calibrate (AWQ, GPTQ, Wanda, KV scales)."
    ),
]
CalibrationSeeds = Annotated[
    int | None,
    typer.Option(
        "--calibration-seeds", metavar="N", rich_help_panel=HOW, help="Repeat calibrated strategies under N seeds."
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="FILE",
        rich_help_panel=HOW,
        help="Text whose perplexity is measured. [dim]default: general prose of our own[/dim]",
    ),
]
Fidelity = Annotated[
    bool | None,
    typer.Option(
        "--fidelity/--no-fidelity",
        rich_help_panel=HOW,
        help="How far each variant's distributions lie from the base's.",
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        rich_help_panel=HOW,
        help="Spread variants and batches over a Ray cluster: local (this machine), auto, HOST:PORT or "
        'ray://HOST:PORT. Needs: pip install "tiltmeter\\[ray]"',
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=HOW,
        help="Only tell the plan: cells, tokens, memory, time, the smallest change each benchmark can find.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of failed cells.", rich_help_panel=HOW)]
Mlflow = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="URI",
        help='Also log to this MLflow store. Needs: pip install "tiltmeter\\[mlflow]"',
        rich_help_panel=WHERE,
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(parser=folder, metavar="RUN", help="A folder that `tiltmeter run --out` wrote.")
]


def study_settings(local: dict[str, Any]) -> dict[str, Any]:
    """Study settings from a command's options; options that were not given stay out."""
    names = {"strategy": "strategies", "benchmark": "benchmarks"}
    left_out = {"out", "debug", "dry_run", "ray", "mlflow", "model", "base", "variant", "ctx"}
    settings = {names.get(key, key): value for key, value in local.items() if key not in left_out}
    settings = {key: value for key, value in settings.items() if value is not None and value != []}  # 0 was given
    tokens = settings.pop("batch_tokens", None)
    if tokens not in (None, "auto"):
        if not re.fullmatch(r"[1-9][0-9]{0,14}", str(tokens)):
            raise UserError(
                f"--batch-tokens takes auto or a number of tokens, not {tokens!r}", fix="--batch-tokens auto"
            )
        settings["batch_tokens"] = int(tokens)
    return settings
