"""`tiltmeter judge`: verdicts on per-item files that people already have. What the files may be: `results.logs`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tiltmeter.cli.language import language
from tiltmeter.cli.options import Data, Language
from tiltmeter.errors import UserError

judge_app = typer.Typer()
LAYOUT = "For items of no known task"


@judge_app.command()
def judge(
    base: Annotated[Path, typer.Argument(help="The base's items: a file, or lm-evaluation-harness's output folder.")],
    variant: Annotated[list[Path], typer.Argument(metavar="VARIANT...", help="The same items under each variant.")],
    metric: Annotated[
        str | None, typer.Option(help="Which score of an item, where there are several.", rich_help_panel=LAYOUT)
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Items with the same value share their source.", rich_help_panel=LAYOUT),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Repeatable: gender, age …", rich_help_panel=LAYOUT)
    ] = None,
    ideal: Annotated[
        float | None, typer.Option(help="Mean score without the bias; with --margin.", rich_help_panel=LAYOUT)
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Smallest change that matters. [dim]default: the benchmark's[/dim]", rich_help_panel=LAYOUT),
    ] = None,
    gap_margin: Annotated[
        float | None, typer.Option(help="The same of the gaps between groups.", rich_help_panel=LAYOUT)
    ] = None,
    span: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="Lowest and highest score of an item.", rich_help_panel=LAYOUT)
    ] = "0,1",
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="crows_pairs: compare means per token, as a run does, not sums."),
    ] = None,
    data: Data = None,
    seed: Annotated[int, typer.Option(help="Of the random draws.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One document, schema tiltmeter/results/1.")] = False,
    lang: Language = None,
) -> None:
    """Judge per-item files of other tools: lm-evaluation-harness (--log_samples), Inspect, CSV (item, score).

    [dim]tiltmeter judge logs/base logs/int8   (crows_pairs, bbq, winogender, discrim_eval)[/dim]

    [dim]tiltmeter judge base.csv int8.csv --group gender --cluster question --gap-margin 0.05[/dim]
    """
    from tiltmeter.cli.tables import render, show
    from tiltmeter.results.logs.judged import judge_logs
    from tiltmeter.results.logs.plain import Layout
    from tiltmeter.study import Study

    for name, value in (("--margin", margin), ("--gap-margin", gap_margin)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value:g} is no size of a change", fix=f"{name} 0.05")
    layout = Layout(metric, cluster, tuple(group or ()), ideal, margin, gap_margin, _span(span))
    document = judge_logs(
        base,
        variant,
        layout=layout,
        data=Path(data or Study.model_fields["data"].default).expanduser(),
        count_tokens=_counter(tokenizer) if tokenizer else None,
        seed=seed,
    )
    if json:
        typer.echo(render(document, "json"), nl=False)
    else:
        show(document, lang=language(lang))


def _span(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except ValueError:
        raise UserError(f"--span takes the lowest and the highest score, not {text!r}", fix="--span 0,1") from None
    return low, high


def _counter(model: str) -> Callable[[str], int]:
    """How many tokens a sentence has: all of them are predicted, from an empty beginning, in the logs."""
    from tiltmeter.models.reading import load_tokenizer
    from tiltmeter.models.resolve import resolve

    tokenizer = load_tokenizer(resolve(model), model)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
