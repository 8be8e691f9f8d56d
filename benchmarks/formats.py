"""One table of every strategy on one model: how far from the base, how large, how long it takes to make.

    python -m benchmarks.formats MODEL --text FILE [-s w4a16 …] [--windows 8 --length 256] [--scored 64] [--samples 16]

Perplexity      exp(mean nats per token) on `windows` windows of `length` tokens from the last fifth of the text, at
                even distances; BOS where the tokenizer adds it. `scored`: only so many last tokens of each window
                count, all others are prefix (a KV cache at 2,000 tokens: --length 2064 --scored 64).
KL, top-1       of the base's distribution to the variant's on the same tokens, mean nats per token (the base's log
                probabilities are kept in memory: vocabulary x 4 bytes a token); share of tokens whose likeliest next
                one is the same.
MB              of the checkpoint that it makes (weights on disk); "–" where it makes none.
Seconds         of this process's CPU time to make and load it, calibration included; what others do to the machine does
                not show. Nothing is taken from the cache: a folder of its own is filled and removed.
Calibration     windows of the first four fifths of the text, so that nothing is calibrated on what is scored.

Writes benchmarks/results/formats-NAME.md (of --name) and prints the same lines as they are measured. A strategy that is
refused stands in the table with its reason.
"""

from __future__ import annotations

import argparse
import math
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError
from tiltmeter.models import reading
from tiltmeter.strategies.base import VariantFailed
from tiltmeter.strategies.chain import Chain, parse
from tiltmeter.variants import apply

if TYPE_CHECKING:
    from torch import Tensor

    from tiltmeter.models.variant import LoadedVariant

RESULTS = Path(__file__).parent / "results"
EVERY = (
    "dtype:bfloat16",
    "w8a16",
    "int8",
    "w8a8",
    "smoothquant",
    "torchao-int8",
    "dynamic-int8",
    "fp8",
    "fp8-static",
    "fp8-block",
    "mxfp8",
    "awq",
    "gptq",
    "autoround",
    "w4a16",
    "w4a16:keep=0+29",
    "w4a8",
    "w4afp8",
    "int4",
    "int4:type=nf4",
    "nvfp4a16",
    "nvfp4",
    "mxfp4a16",
    "mxfp4",
    "w4a16:bits=3",
    "wanda",
    "wanda-2:4",
    "sparsegpt",
    "magnitude",
    "drop-layers",
    "drop-layers:n=3",
    "kv8",
    "kv4",
    "kv-fp8",
    "kv-fp8:scale=calibrated",
    "kv-fp8:scale=calibrated,per=head",
    "kv-fp4",
    "kv-fp4:per=head",
)
HEAD = ("strategy", "perplexity", "x base", "KL", "same top-1", "MB", "seconds", "runs in")


@dataclass(frozen=True)
class Row:
    """One line; KL in nats per token, top-1 a share, seconds of CPU time."""

    strategy: str
    perplexity: float
    times: float
    kl: float
    same_top: float
    megabytes: float
    seconds: float
    dtype: str

    def cells(self) -> tuple[str, ...]:
        return (
            f"`{self.strategy}`",
            f"{self.perplexity:.4g}",
            f"{self.times:.3f}",
            f"{self.kl:.2g}",
            f"{100 * self.same_top:.1f} %",
            "–" if math.isnan(self.megabytes) else f"{self.megabytes:.0f}",
            f"{self.seconds:.0f}",
            self.dtype,
        )


class Texts:
    """Windows to score, (1, length) ids each, and the base's log-probabilities on them."""

    def __init__(self, variant: LoadedVariant, text: str, windows: int, length: int, scored: int) -> None:
        import torch

        start = variant.tokenizer("a").input_ids[: -len(variant.tokenizer("a", add_special_tokens=False).input_ids)]
        ids = variant.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        body = length - len(start)
        if len(ids) < windows * body:
            raise UserError(
                f"the last fifth of the text has {len(ids)} tokens, {windows} windows of {length} need more",
                fix="give a longer text, or fewer or shorter windows",
            )
        step = len(ids) // windows
        self.windows = [torch.tensor([start + ids[n * step : n * step + body]]) for n in range(windows)]
        self.scored = min(scored or length, length - 1)
        self.base = [self.logprobs(variant, window) for window in self.windows]

    def logprobs(self, variant: LoadedVariant, window: Tensor) -> Tensor:
        """Log-probabilities (scored, vocabulary) of the last `scored` tokens, float32."""
        import torch

        cache = variant.new_cache() if variant.new_cache else None
        with torch.inference_mode():
            asked = self.scored + 1
            logits = variant.model(
                window.to(variant.device), past_key_values=cache, use_cache=cache is not None, logits_to_keep=asked
            ).logits[0, -asked:-1]
            return torch.log_softmax(logits.double(), dim=-1).float().cpu()

    def compared(self, variant: LoadedVariant) -> tuple[float, float, float]:
        """(perplexity, KL of the base to it in nats per token, share of the same likeliest token)."""
        nats = kl = same = 0.0
        tokens = 0
        for window, base in zip(self.windows, self.base):
            now = self.logprobs(variant, window)
            after = window[0, -self.scored :]
            nats -= float(now.gather(1, after[:, None]).double().sum())
            kl += float((base.exp().double() * (base - now).double()).sum())
            same += float((now.argmax(dim=-1) == base.argmax(dim=-1)).sum())
            tokens += len(after)
        return math.exp(min(nats / tokens, 700)), kl / tokens, same / tokens


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """The command of the module docstring; returns the rows that were measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("-s", "--strategy", action="append", help="default: every one")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--scored", type=int, default=0, help="last tokens of each window that count; 0: all")
    parser.add_argument("--samples", type=int, default=16, help="calibration windows")
    parser.add_argument("--calibration-length", type=int, default=256)
    parser.add_argument("--iters", type=int, default=50, help="autoround's steps per block")
    parser.add_argument("--name", default="", help="write benchmarks/results/formats-NAME.md")
    options = parser.parse_args(arguments)
    text = options.text.read_text(encoding="utf-8")
    cut = len(text) * 4 // 5
    lines = ["| " + " | ".join(HEAD) + " |", "|---|" + "---:|" * (len(HEAD) - 2) + "---|"]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        calibration = Path(folder) / "calibration.txt"
        calibration.write_text(text[:cut], encoding="utf-8")
        base = apply.load(options.model, parse("none"))
        texts = Texts(base, text[cut:], options.windows, options.length, options.scored)
        print(*lines, sep="\n")
        for strategy in dict.fromkeys(("none", *(options.strategy or EVERY))):
            started = time.process_time()
            try:
                chain = with_settings(strategy, options)
                variant = (
                    base
                    if strategy == "none"
                    else apply.load(options.model, chain, calibration=str(calibration), cache_dir=f"{folder}/cache")
                )
            except (UserError, VariantFailed) as error:
                lines.append(f"| `{strategy}` | {str(error).splitlines()[0]} |" + " |" * (len(HEAD) - 2))
                print(lines[-1], flush=True)
                continue
            seconds = time.process_time() - started if strategy != "none" else 0.0
            found = texts.compared(variant)
            makes = bool(chain.parts) and any(part.makes_checkpoint for part in chain.parts)
            size = variant.proof["checkpoint_bytes"] / 1e6 if makes or not chain.parts else math.nan
            times = found[0] / rows[0].perplexity if rows else 1.0
            rows.append(Row(strategy, found[0], times, found[1], found[2], size, seconds, variant.dtype))
            lines.append("| " + " | ".join(rows[-1].cells()) + " |")
            print(lines[-1], flush=True)
            if variant is not base:
                reading.release(variant)
    if options.name:
        about = (
            f"{Path(options.model).name}, {options.windows} windows of {options.length} tokens of {options.text.name}"
            + (f", their last {options.scored} scored" if options.scored else "")
            + f"; calibrated on {options.samples} windows of {options.calibration_length} tokens, AutoRound "
            f"{options.iters} steps. {platform.processor() or platform.machine()}, one thread; CPU seconds.\n\n"
        )
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"formats-{options.name}.md").write_text(about + "\n".join(lines) + "\n", encoding="utf-8")
    return rows


def with_settings(strategy: str, options: argparse.Namespace) -> Chain:
    """The chain with the command's calibration sizes, in parts that calibrate and leave theirs at the default."""
    given = {"samples": options.samples, "length": options.calibration_length, "iters": options.iters}
    parts = []
    for part in parse(strategy).parts:
        usual = {each.name: each.default for each in fields(part)}
        new = {key: value for key, value in given.items() if key in usual and part.settings[key] == usual[key]}
        parts.append(replace(part, **new) if part.calibrates else part)
    return Chain(tuple(parts))


if __name__ == "__main__":
    main()
