"""Speed against peers, interleaved in one run, with one thread and with two; ratios with their spread.

    python -m benchmarks.run [--shared ../shared] [--shape llama-135m] [--rounds 3] [--scale 1] [--threads 1 2]

Every round times each peer and tiltmeter on the same work, one after the other, so that a slow minute of a shared
machine hits all of them. A ratio is the peer's time over tiltmeter's in the same round; printed are the median and the
range. With one thread the process's CPU time is compared, which other processes cannot take from it; with more, wall
time. Batch sizes of the peers are the best of a short trial; generation's trial is given to tiltmeter too. All must
agree on the numbers (1e-3 nats; the share of equal greedy texts is recorded). Generation takes minutes, so it gets
half the rounds.
Writes benchmarks/results/speed-SHAPE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--shape", default="llama-135m")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="measure only work whose name contains this; other rows are kept")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options)))
        return
    found: dict[str, Any] = {
        "machine": {"cpu": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "shape": options.shape,
        "scale": options.scale,
        "rounds": options.rounds,
        "load_before": os.getloadavg()[0],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"speed-{options.shape}.json"
    before = json.loads(path.read_text()) if options.only and path.exists() else {}
    found |= {name: value for name, value in before.items() if name.startswith("threads_")}
    for threads in options.threads:
        command = [
            sys.executable,
            "-m",
            "benchmarks.run",
            "--child",
            "--shared",
            str(options.shared),
            "--shape",
            options.shape,
            "--rounds",
            str(options.rounds),
            "--scale",
            str(options.scale),
            "--threads",
            str(threads),
            "--only",
            options.only,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        name = f"threads_{threads}"
        found[name] = merged(before.get(name), json.loads(child.stdout.splitlines()[-1]))
        found["load_after"] = os.getloadavg()[0]
        path.write_text(json.dumps(found, indent=1) + "\n")  # kept, should the next number of threads be interrupted
        print(f"\n{options.shape}, {threads} thread(s)\n{table(found[name])}", flush=True)
    print(f"\nwritten: {path}")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All work with the number of threads this process was started with."""
    import torch
    import transformers

    from benchmarks.speed_work import all_work, random_variant
    from tiltmeter.scoring.engine import Engine

    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(options.threads[0])
    clock = time.process_time if options.threads[0] == 1 else time.perf_counter
    variant = random_variant(options.shared, options.shape)
    engine = Engine(variant)
    rows: list[dict[str, Any]] = []
    best: dict[str, int] = {}  # generate's best batch size, greedy and sampled
    for work in all_work(options.shared, variant.tokenizer, options.scale):
        if options.only in work.name:
            rows.append(_time_work(variant, engine, work, options.rounds, clock, best))
            print(table({"work": rows[-1:]}), file=sys.stderr, flush=True)
    bounds = _bounds(variant.model, engine.batch_tokens, clock)
    return {"batch_tokens": engine.batch_tokens, "notes": engine.notes, "bounds": bounds, "work": rows}


def _time_work(
    variant: Any, engine: Any, work: Any, rounds: int, clock: Callable[[], float], known: dict[str, int]
) -> dict[str, Any]:
    from benchmarks import speed_peers
    from tiltmeter.scoring.requests import Generation

    def ours(requests: Sequence[Any]) -> list[Any]:
        answers: list[Any] = [None] * len(requests)
        for batch in engine.plan(requests):
            for index, answer in zip(batch, engine.answer([requests[i] for i in batch]), strict=True):
                answers[index] = answer
        return answers

    ours(work.requests[:2])  # the self-test, once per loaded variant
    generates = isinstance(work.requests[0], Generation)
    peers: dict[str, Callable[[Sequence[Any]], list[Any]]] = {}
    best = 1
    if generates:
        rounds = max(1, rounds // 2)
        sizes = {size: (lambda asked, size=size: speed_peers.generate(variant, asked, size)) for size in (16, 32, 64)}
        kind = f"generate at temperature {work.requests[0].temperature}"
        if kind not in known:
            trial = [replace(request, max_new_tokens=30) for request in work.requests]
            known[kind] = min(sizes, key=lambda size: _seconds(sizes[size], trial, clock)[0])
            ours(trial)  # so that everyone has met work of this kind before
        best = known[kind]
        peers["generate"] = sizes[best]
    elif work.against == "lm-eval":
        harness = {size: speed_peers.LmEval(variant, size) for size in (8, 16, 32)}
        trials = {
            size: [_seconds(peer, work.requests[::4], clock)[0] for _ in range(2)] for size, peer in harness.items()
        }
        best = min(trials, key=lambda size: min(trials[size]))
        peers["lm-eval"] = harness[best]
    if work.against == "loop" or work.name.startswith("CrowS"):
        peers["loop"] = lambda asked: speed_peers.loop(variant, asked)
    times: dict[str, list[float]] = {name: [] for name in [*peers, "tiltmeter"]}
    answers: dict[str, list[Any]] = {}
    asked, computed = engine.stats.tokens_asked, engine.stats.tokens_computed
    peak = []
    for _ in range(rounds):
        for name, peer in peers.items():
            seconds, answers[name] = _seconds(peer, work.requests, clock)
            times[name].append(seconds)
        seconds, answers["tiltmeter"] = _seconds(ours, work.requests, clock)
        times["tiltmeter"].append(seconds)
        peak.append(gemm_peak(clock))
    asked, computed = (
        (now - then) // rounds
        for now, then in ((engine.stats.tokens_asked, asked), (engine.stats.tokens_computed, computed))
    )
    ratios = [peer / own for peer, own in zip(times[work.against], times["tiltmeter"], strict=True)]
    model_flops = _flops(variant, work, computed)
    return {
        "name": work.name,
        "against": work.against,
        "target": work.target,
        "requests": len(work.requests),
        "peer_batch_size": best,
        "seconds": times,
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "tokens_asked": asked,
        "tokens_computed": computed,
        "gemm_peak_gflops": statistics.median(peak) / 1e9,
        "share_of_gemm_peak": statistics.median(
            model_flops / own / best_flops for own, best_flops in zip(times["tiltmeter"], peak, strict=True)
        ),
        "agreement": _agreement(variant, work, answers),
    }


def _seconds(
    call: Callable[[Sequence[Any]], list[Any]], requests: Sequence[Any], clock: Callable[[], float]
) -> tuple[float, list[Any]]:
    started = clock()
    found = call(requests)
    return clock() - started, found


def _agreement(variant: Any, work: Any, answers: dict[str, list[Any]]) -> dict[str, float]:
    """Peers against tiltmeter: largest difference in nats, or the share of greedy texts that are equal."""
    ours = answers.pop("tiltmeter")
    if hasattr(ours[0], "text"):
        if work.requests[0].temperature:
            return {}  # another random generator: nothing to compare
        decode = variant.tokenizer.decode
        return {
            name: sum(decode(ids) == answer.text for ids, answer in zip(theirs, ours, strict=True)) / len(ours)
            for name, theirs in answers.items()
        }
    flat = [
        a.logprob if hasattr(a, "logprob") else value
        for a in ours
        for value in ([None] if hasattr(a, "logprob") else [forms[0] for forms in a.logprobs])
    ]
    largest = {name: max(abs(x - y) for x, y in zip(theirs, flat, strict=True)) for name, theirs in answers.items()}
    if max(largest.values()) > 1e-3:
        raise SystemExit(f"{work.name}: the peers do not compute the same numbers: {largest}")
    return largest


def _flops(variant: Any, work: Any, computed: int) -> float:
    """FLOP of the matrix products that tiltmeter did: not of rows that the last layer leaves out."""
    from tiltmeter.scoring.kernels.last_layer import last_layer
    from tiltmeter.scoring.requests import SequenceLogprob

    read = _head_rows(variant, work)
    left_out = 0 if isinstance(work.requests[0], SequenceLogprob) else computed - read
    last = 2.0 * sum(p.numel() for network in last_layer(variant.model).networks for p in network.parameters())
    return computed * _body_flops(variant.model) + read * _head_flops(variant.model) - left_out * last


def _body_flops(model: Any) -> float:
    """FLOP per token in the decoder's linear layers (attention scores not counted)."""
    return 2.0 * sum(p.numel() for name, p in model.model.layers.named_parameters() if name.endswith("proj.weight"))


def _head_flops(model: Any) -> float:
    return 2.0 * model.config.hidden_size * model.config.vocab_size


def _head_rows(variant: Any, work: Any) -> int:
    """Rows that tiltmeter sends through the output layer."""
    from benchmarks.speed_peers import token_ids
    from tiltmeter.scoring.requests import Generation, SequenceLogprob

    ids = token_ids(variant, work.requests)
    if isinstance(work.requests[0], Generation):
        return sum(request.max_new_tokens for request in work.requests)
    if isinstance(work.requests[0], SequenceLogprob):  # every token with a successor, shared ones once
        return len({tuple(sequence[:end]) for sequence in ids for end in range(1, len(sequence))})
    return len({tuple(sequence) for sequence in ids})


def _bounds(model: Any, rows: int, clock: Callable[[], float]) -> dict[str, float]:
    """Shares of GEMM peak that `rows` tokens in one row reach without tiltmeter: what a method that runs the model's
    own code works under. `linear_layers`: nothing but the model's matrix products, in its order; `forward`: the model.
    """
    import torch

    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {layer.in_features: torch.randn(rows, layer.in_features) for layer in layers}
    ids = torch.arange(rows)[None] % model.config.vocab_size
    flops = rows * (_body_flops(model) + _head_flops(model))
    found: dict[str, list[float]] = {"linear_layers": [], "forward": []}
    with torch.inference_mode():
        for _ in range(7):
            peak = gemm_peak(clock)
            started = clock()
            for layer in layers:
                layer(inputs[layer.in_features])
            middle = clock()
            model(ids, use_cache=False)
            found["linear_layers"].append(flops / (middle - started) / peak)
            found["forward"].append(flops / (clock() - middle) / peak)
    return {"rows": rows, **{name: statistics.median(shares) for name, shares in found.items()}}


def gemm_peak(clock: Callable[[], float]) -> float:
    """FLOP/s of a plain matrix product with 512 rows."""
    import torch

    rows, weight = torch.randn(512, 576), torch.randn(576, 1536)
    best = 0.0
    for _ in range(5):
        started = clock()
        for _ in range(40):
            rows @ weight
        best = max(best, 40 * 2.0 * 512 * 576 * 1536 / (clock() - started))
    return best


def merged(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """`now`, with the rows of `before` that were not measured again: each is a run of its own against its peers."""
    if before is None:
        return now
    again = {row["name"]: row for row in now["work"]}
    return {**now, "work": [again.get(row["name"], row) for row in before["work"]]}


def table(result: dict[str, Any]) -> str:
    """One line per work, and what the model alone reaches."""
    lines = [f"{'work':44} {'against':16} {'ratio':>6} {'range':>13} {'goal':>5} {'of peak':>8} {'computed':>15}"]
    for row in result["work"]:
        low, high = row["ratio_range"]
        share = row["tokens_computed"] / row["tokens_asked"]
        lines.append(
            f"{row['name']:44} {row['against']:9}{'batch ' + str(row['peer_batch_size']):>8}"
            f" {row['ratio']:5.2f}x {low:5.2f} - {high:5.2f} {row['target']:4.4g}x"
            f" {row['share_of_gemm_peak']:7.0%} {share:15.1%}"
        )
    if bounds := result.get("bounds"):
        lines.append(
            "without tiltmeter, {rows} tokens in one row: {forward:.0%} of peak through the model, "
            "{linear_layers:.0%} through nothing but its linear layers".format(**bounds)
        )
    return "\n".join(lines)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
