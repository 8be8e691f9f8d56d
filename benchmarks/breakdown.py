"""Where tiltmeter's time goes, and what it would be if the matrix products ran at GEMM peak.

    python -m benchmarks.breakdown [--shared ../shared] [--shape llama-135m | --model FOLDER] [--scale 1] [--threads 1]

Processor seconds with one thread, wall seconds (of an idle machine) with more. Prints what docs/engine.md quotes, and
writes benchmarks/results/breakdown-SHAPE.json (SHAPE-THREADS where that is not one). Clocks stand around the model, its
linear layers, the engine's attention, its log-sum-exp and its choice of tokens; what is left of the model is its
own element-wise code.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.run import gemm_peak
from benchmarks.speed_work import all_work, random_variant
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.kernels.blockwise import Blockwise
from tiltmeter.scoring.kernels.elementwise import Elementwise
from tiltmeter.scoring.kernels.packed_linear import PAYS_AFTER_TOKENS, PackedLinears
from tiltmeter.scoring.trees import tree_generation, tree_scoring
from tiltmeter.scoring.trees.decode_store import DecodeStore
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

RESULTS = Path(__file__).parent / "results"
WORK = ("CrowS-Pairs log-likelihood", "DiscrimEval first token", "DT generation, 150 new tokens")
CLOCK: list[Callable[[], float]] = [time.process_time]
MODEL, LINEAR, ATTENTION, RESULT = "model", "matrix products", "attention", "log-sum-exp or choice of tokens"


def now() -> float:
    """Seconds by the clock that suits the number of threads."""
    return CLOCK[0]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--shape", default="llama-135m")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--model", help="a real model's folder, instead of a shape")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.threads > 1:
        CLOCK.clear()
        CLOCK.append(time.perf_counter)
    name = Path(options.model).name if options.model else options.shape
    variant = (
        apply.load(options.model, parse("none")) if options.model else random_variant(options.shared, options.shape)
    )
    rates = linear_rates(variant.model, (30, 80, 128, 512, 1024))
    found: dict[str, Any] = {"linear layers alone, GFLOP/s at rows": rates}
    for rows, (plain, packed) in rates.items():
        print(f"linear layers alone at {rows} rows: {plain:.0f} GFLOP/s, with packed weights {packed:.0f}")
    rows = 1024
    own, in_place = forward_seconds(variant.model, rows)
    found["seconds of a forward: own element-wise code, in place"] = rows, own, in_place
    print(f"one row of {rows} tokens through the model: {own:.3f} s, with element-wise code in place {in_place:.3f} s")
    engine = Engine(variant)
    for work in all_work(options.shared, variant.tokenizer, options.scale):
        if work.name in WORK:
            answer_all(engine, work.requests)  # the self-test, and weights are packed
            found[work.name] = shares = measured(engine, work.requests)
            print(f"{work.name}: " + ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items()))
    RESULTS.mkdir(exist_ok=True)
    suffix = f"-{options.threads}" if options.threads > 1 else ""
    (RESULTS / f"breakdown-{name}{suffix}.json").write_text(json.dumps(found, indent=1) + "\n")


@torch.inference_mode()
def linear_rates(model: torch.nn.Module, all_rows: Sequence[int]) -> dict[int, tuple[float, float]]:
    """GFLOP/s of all linear layers in the model's order, as they are and packed, by rows: 30 are 6 prompts x 5 samples,
    80 are 16 x 5."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    flops = sum(2.0 * layer.weight.numel() for layer in layers)
    rates = {}
    for rows in all_rows:
        packed = PackedLinears(model)
        for _ in range(-(-PAYS_AFTER_TOKENS // rows)):
            with packed.expecting(rows):
                pass
        inputs = {layer.in_features: torch.randn(rows, layer.in_features) for layer in layers}

        def seconds(inputs: dict[int, torch.Tensor] = inputs) -> float:
            best = float("inf")
            for _ in range(7):
                started = now()
                for layer in layers:
                    layer(inputs[layer.in_features])
                best = min(best, now() - started)
            return best

        plain = seconds()
        with packed.expecting(rows):
            rates[rows] = (rows * flops / plain / 1e9, rows * flops / seconds() / 1e9)
    return rates


@torch.inference_mode()
def forward_seconds(model: Any, rows: int) -> tuple[float, float]:
    """CPU seconds of one row of tokens through the model: with its own element-wise code, and with that in place."""
    ids = torch.arange(rows)[None] % model.config.vocab_size
    elementwise = Elementwise(model)

    def seconds() -> float:
        started = now()
        model(ids, use_cache=False, logits_to_keep=1)
        return now() - started

    own, in_place = [], []
    for _ in range(7):
        own.append(seconds())
        with elementwise.replaced():
            in_place.append(seconds())
    return min(own), min(in_place)


def measured(engine: Engine, requests: Any) -> dict[str, float]:
    """Shares of the whole time by kind, and three shares of GEMM peak: reached; with matrix products at peak; with
    those and nothing but the model's own code beside them."""
    times: dict[str, float] = defaultdict(float)
    flops = [0.0]
    with clocks(engine.variant.model, times, flops):
        started = now()
        answer_all(engine, requests)
        whole = now() - started
    own = times[MODEL] - times[LINEAR] - times[ATTENTION]
    at_peak = flops[0] / gemm_peak(now)
    kinds = {
        LINEAR: times[LINEAR],
        "the model's element-wise code": own,
        ATTENTION: times[ATTENTION],
        RESULT: times[RESULT],
        "trees, masks, tokens": whole - times[MODEL] - times[RESULT],
    }
    return {
        **{kind: seconds / whole for kind, seconds in kinds.items()},
        "reached of GEMM peak": at_peak / whole,
        "with matrix products at peak": at_peak / (at_peak + whole - times[LINEAR]),
        "with nothing beside them but the model's own code": at_peak / (at_peak + own),
    }


def answer_all(engine: Engine, requests: Any) -> None:
    for batch in engine.plan(requests):
        engine.answer([requests[index] for index in batch])


@contextmanager
def clocks(model: Any, times: dict[str, float], flops: list[float]) -> Iterator[None]:
    """Inside, `times` adds up seconds per kind, and `flops` what the linear layers compute."""
    started: dict[Any, float] = {}

    def enter(module: Any, _inputs: Any) -> None:
        started[module] = now()

    def leave(module: Any, inputs: Any, _output: Any) -> None:
        times[LINEAR] += now() - started[module]
        flops[0] += 2.0 * module.weight.numel() * inputs[0].numel() / module.in_features

    def timed(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = now()
            try:
                return function(*arguments, **named)
            finally:
                times[kind] += now() - began

        return call

    hooks = [
        hook
        for module in model.modules()
        if isinstance(module, torch.nn.Linear)
        for hook in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))
    ]
    model.forward = timed(MODEL, model.forward)
    with ExitStack() as patches:
        for kind, owner, name in (
            (ATTENTION, Blockwise, "__call__"),
            (ATTENTION, DecodeStore, "attend"),
            (ATTENTION, DecodeStore, "update"),
            (RESULT, tree_scoring, "_logprobs"),
            (RESULT, tree_generation, "extend"),
        ):
            patches.enter_context(patch.object(owner, name, timed(kind, getattr(owner, name))))
        try:
            yield
        finally:
            del model.forward
            for hook in hooks:
                hook.remove()


if __name__ == "__main__":
    main()
