"""`tiltmeter speed`, as it is typed. What it does is in `cli.speed`, which is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiltmeter.cli.options import Calibration, Device, Dtype, Strategies, Tokenizer

speed_app = typer.Typer()


@speed_app.command()
def speed(
    model: Annotated[
        str,
        typer.Argument(help="Hub id, folder, GGUF file, a config.json (random weights of that shape); or http://…/v1."),
    ],
    served: Annotated[
        list[str] | None,
        typer.Argument(metavar="ADDRESS", help="Served variants, beside a served MODEL: http://HOST/v1."),
    ] = None,
    strategy: Strategies = None,
    device: Device = None,
    dtype: Dtype = None,
    batch: Annotated[int, typer.Option(help="Sequences per batch.")] = 4,
    prompt_tokens: Annotated[int, typer.Option(help="Prompt length in tokens.")] = 256,
    new_tokens: Annotated[int, typer.Option(help="Generated tokens.")] = 64,
    repeats: Annotated[int, typer.Option(help="Timed rounds, base and variants interleaved.")] = 5,
    calibration: Calibration = None,
    tokenizer: Tokenizer = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Also store in this run folder.")] = None,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Measure memory, prefill and decode speed: what each strategy really buys here.

    [dim]tiltmeter speed MODEL -s int4 -s kv8[/dim]

    [dim]tiltmeter speed http://localhost:8000/v1 http://localhost:8001/v1 --tokenizer MODEL[/dim]
    """
    from tiltmeter.cli.speed import run_speed
    from tiltmeter.variants.speed import Setting

    setting = Setting(batch=batch, prompt_tokens=prompt_tokens, new_tokens=new_tokens, repeats=repeats)
    run_speed(
        model,
        strategy or [],
        setting,
        served=served or [],
        device=device or "auto",
        dtype=dtype or "auto",
        calibration=calibration,
        tokenizer=tokenizer,
        out=out,
        as_json=json,
    )
