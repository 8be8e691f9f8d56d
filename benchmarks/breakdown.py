"""Where tiltmeter's time goes: share of each kind of operation, one thread, for the two kinds of scoring.

    python -m benchmarks.breakdown [--shared ../shared] [--shape llama-135m] [--scale 0.25]

Prints what docs/engine.md quotes, and writes benchmarks/results/breakdown-SHAPE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed_work import all_work, random_variant
from tiltmeter.scoring.engine import Engine

RESULTS = Path(__file__).parent / "results"
WORK = ("CrowS-Pairs log-likelihood", "DiscrimEval first token")
KINDS = {  # the first that an operator's name begins with
    "matrix products": ("mm", "addmm", "bmm"),
    "attention": ("_scaled_dot_product",),
    "log-sum-exp": ("logsumexp", "exp", "log", "amax"),
    "gathering and copying": ("index", "_index", "cat", "copy_", "gather", "fill_"),
    "norms, rotary, gating": ("mul", "add", "silu", "pow", "neg", "mean", "sum", "rsqrt", "div", "cos", "sin"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--shape", default="llama-135m")
    parser.add_argument("--scale", type=float, default=0.25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    variant = random_variant(options.shared, options.shape)
    engine = Engine(variant)
    found: dict[str, Any] = {"linear layers alone, GFLOP/s at rows": linear_rates(variant.model)}
    print("linear layers alone: " + ", ".join(
        f"{rate:.0f} GFLOP/s at {rows} rows" for rows, rate in found["linear layers alone, GFLOP/s at rows"].items()))
    for work in all_work(options.shared, variant, options.scale):
        if work.name in WORK:
            found[work.name] = shares(engine, work.requests)
            print(f"{work.name}: " + ", ".join(f"{kind} {share:.0%}" for kind, share in found[work.name].items()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"breakdown-{options.shape}.json").write_text(json.dumps(found, indent=1) + "\n")


@torch.inference_mode()
def linear_rates(model: torch.nn.Module, all_rows: Sequence[int] = (30, 80, 512)) -> dict[int, float]:
    """GFLOP/s of all linear layers in the model's order, by rows: 30 are 6 prompts x 5 samples, 80 are 16 x 5."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    flops = sum(2.0 * layer.weight.numel() for layer in layers)
    rates = {}
    for rows in all_rows:
        inputs = {layer.in_features: torch.randn(rows, layer.in_features) for layer in layers}
        best = float("inf")
        for _ in range(7):
            started = time.process_time()
            for layer in layers:
                layer(inputs[layer.in_features])
            best = min(best, time.process_time() - started)
        rates[rows] = rows * flops / best / 1e9
    return rates


def shares(engine: Engine, requests: Any) -> dict[str, float]:
    """Share of the operators' own time by kind, largest first; `other` is what no kind names."""
    engine.answer(requests[:2])  # the self-test
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for batch in engine.plan(requests):
            engine.answer([requests[index] for index in batch])
    times: dict[str, float] = {}
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if name.startswith(names)), "other")
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total
    whole = sum(times.values())
    return {kind: time / whole for kind, time in sorted(times.items(), key=lambda each: -each[1])}


if __name__ == "__main__":
    main()
