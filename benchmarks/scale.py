"""What a large study costs the driver: 3 models x 12 strategies x 11 benchmarks x 2 formats through the real pipeline,
answered at once by a fake engine. Then, on paper, what 8 and 80 GPUs would take.

    python -m benchmarks.scale [--shared ../shared] [--limits 10 20] [--us-per-token 50] [--small] [--ray 8]

Planning, inputs, journals, commits, resume bookkeeping and statistics are the run's own; only the model is not there.
The fake engine counts the tokens that prefix trees would compute and answers from a hash; with --ray it does so in
worker processes of a local cluster, and the driver's time holds what sending and collecting costs. Each limit of items
per benchmark runs in a process of its own, so that growth of time and memory can be told from what every run costs.

Model time is not measured here: it is tokens times --us-per-token, and the default is an estimate for an 8B model in
bf16 on an H200 that has not been run. Writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared_data import linked

RESULTS = Path(__file__).parent / "results"
MODELS = ("model-a", "model-b", "model-c")
STRATEGIES = (
    "int8", "int4", "kv8", "kv4", "magnitude", "wanda", "w4a16", "w8a8", "gptq", "awq", "dtype:bfloat16", "rerun",
)  # fmt: skip
BENCHMARKS = (
    "crows-pairs", "dt-stereotyping", "discrim-eval", "discrim-eval-gen", "global-opinion-qa", "worldbench",
    "winobias", "winogender", "bbq", "bbq-race-x-gender", "bbq-race-x-ses",
)  # fmt: skip
WHOLE = MODELS, STRATEGIES, BENCHMARKS
SMALL = MODELS[:2], ("int8", "rerun"), ("crows-pairs", "discrim-eval-gen", "dt-stereotyping")
Grid = tuple[Sequence[str], Sequence[str], Sequence[str]]
NODES = ((1, 8), (10, 80))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--limits", type=int, nargs="+", default=[10, 20], help="items of each benchmark")
    parser.add_argument("--us-per-token", type=float, default=50.0, help="model time, assumed")
    parser.add_argument("--load-seconds", type=float, default=60.0, help="of one variant on one GPU, assumed")
    parser.add_argument("--small", action="store_true", help="2 models x 3 strategies x 3 benchmarks: a minute")
    parser.add_argument("--ray", type=int, default=0, metavar="WORKERS", help="over a local Ray cluster of so many")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.shared, options.limits[0], SMALL if options.small else WHOLE, options.ray)))
        return
    rows: list[dict[str, float]] = []
    for limit in options.limits:
        command = [sys.executable, "-m", "benchmarks.scale", "--child", "--shared", options.shared, "--limits", limit]
        command += [*["--small"] * options.small, "--ray", options.ray]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TILTMETER_SHARED": str(options.shared.resolve())}
        child = subprocess.run(list(map(str, command)), env=environment, stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(child.stdout.splitlines()[-1]))
        print(
            "{limit:>4} items each: {requests:,} requests in {cells:,} cells; driver {answering_seconds:.1f} s, "
            "statistics {statistics_seconds:.1f} s (CPU), peak {peak_mib:.0f} MiB".format(**rows[-1]),
            flush=True,
        )
    found = paper(rows, options.us_per_token, options.load_seconds)
    for name, value in found.items():
        print(f"{name}: {value:,.4g}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / (f"scale{'-small' * options.small}{'-ray' * bool(options.ray)}.json")).write_text(
        json.dumps({"rows": rows, **found}, indent=1) + "\n"
    )


def paper(rows: Sequence[dict[str, float]], us_per_token: float, load_seconds: float) -> dict[str, float]:
    """What the two largest runs say about one request and one cell, and what that makes of many GPUs."""
    one, two = rows[-2:]
    more = two["requests"] - one["requests"]
    driver = (two["answering_seconds"] - one["answering_seconds"]) / more
    fixed = max(0.0, two["answering_seconds"] - driver * two["requests"])
    model = us_per_token * 1e-6 * two["tokens_computed"] / two["requests"]
    whole = two["requests"] * two["whole_share"]
    found = {
        "driver_ms_per_request": 1000 * driver,
        "driver_ms_per_cell": 1000 * fixed / two["cells"],
        "model_ms_per_request_assumed": 1000 * model,
        "share_of_driver_on_one_gpu_percent": 100 * driver / (driver + model),
        "gpus_that_one_driver_feeds": model / driver,
        "requests_of_the_whole_study": whole,
    }
    for nodes, gpus in NODES:
        busy = max(whole * model / gpus, whole * driver) + fixed + -(-two["variants"] // gpus) * load_seconds
        found[f"hours_on_{nodes}_node_{gpus}_gpus"] = busy / 3600
    return found


def measure(shared: Path, limit: int, grid: Grid, workers: int) -> dict[str, float]:
    """CPU time and peak memory of one run of a grid with `limit` items of each benchmark."""
    models, strategies, benchmarks = grid
    from benchmarks.scale_fakes import Absent, AbsentWorker, Everywhere
    from tiltmeter import pipeline
    from tiltmeter.distributed import remote
    from tiltmeter.registry import build
    from tiltmeter.runs.store import started_cells
    from tiltmeter.study import make_study

    spent = {"statistics": 0.0}
    write_results = pipeline.write_results

    def timed(run: Path) -> Any:
        started = time.process_time()
        made = write_results(run)
        spent["statistics"] = time.process_time() - started
        return made

    loaders: list[Any] = []
    begin = pipeline._loader
    if workers:  # processes of their own, more of them than this machine has cores: the models are not there
        import ray

        remote.Worker = AbsentWorker  # type: ignore[misc]
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)

    def loader(study: Any, record: Any, path: Any, progress: Any, ray: str | None) -> Any:
        made = begin(study, record, path, progress, ray) if ray else Everywhere(study, record, path, progress)
        loaders.append(made)
        return made

    pipeline._loader = loader
    pipeline.write_results = timed  # type: ignore[assignment]
    data = linked(shared / "data")
    study = make_study(
        models=list(models), strategies=list(strategies), benchmarks=list(benchmarks), format="both",
        limit=limit, data=str(data), text_quality=False, batch_tokens=4096,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        summary = pipeline.run(study, Path(folder) / "run", ray="auto" if workers else None)
        seconds = time.process_time() - started
        requests = sum(cell.inputs.n_requests for cell in started_cells(Path(folder) / "run"))
    engines = [*Absent.engines, *(engine for loader in loaders for engine in getattr(loader, "_engines", {}).values())]
    if summary.failures:
        raise SystemExit(f"{len(summary.failures)} failures, the first: {summary.failures[0]}")
    asked = whole = 0
    for name in benchmarks:
        benchmark: Any = build("benchmark", name)
        everything = benchmark.load(data)
        whole += len(everything)
        asked += len(benchmark.subset(everything, limit, 0))
    return {
        "limit": limit,
        "variants": len(study.variants()),
        "cells": summary.computed,
        "workers": workers,
        "requests": requests,
        "tokens_computed": sum(engine.stats.tokens_computed for engine in engines),
        "whole_share": whole / asked,
        "answering_seconds": seconds - spent["statistics"] - sum(engine.seconds for engine in Absent.engines),
        "statistics_seconds": spent["statistics"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
