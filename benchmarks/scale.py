"""What a large study costs the driver: 3 models x 12 strategies x 11 benchmarks x 2 formats through the real pipeline,
answered at once by a fake engine. Then, on paper, what 8 and 80 GPUs would take.

    python -m benchmarks.scale [--shared ../shared] [--limits 10 20] [--us-per-token 50] [--small]

Planning, inputs, journals, commits, resume bookkeeping and statistics are the run's own; only the model is not there.
The fake engine counts the tokens that prefix trees would compute and answers from a hash. Each limit of items per
benchmark runs in a process of its own, so that growth of time and memory can be told from what every run costs.

Model time is not measured here: it is tokens times --us-per-token, and the default is an estimate for an 8B model in
bf16 on an H200 that has not been run. Writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
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
TEMPLATE = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}[assistant]"
NODES = ((1, 8), (10, 80))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--limits", type=int, nargs="+", default=[10, 20], help="items of each benchmark")
    parser.add_argument("--us-per-token", type=float, default=50.0, help="model time, assumed")
    parser.add_argument("--load-seconds", type=float, default=60.0, help="of one variant on one GPU, assumed")
    parser.add_argument("--small", action="store_true", help="2 models x 3 strategies x 3 benchmarks: a minute")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.shared, options.limits[0], SMALL if options.small else WHOLE)))
        return
    rows: list[dict[str, float]] = []
    for limit in options.limits:
        command = [sys.executable, "-m", "benchmarks.scale", "--child", "--shared", options.shared, "--limits", limit]
        command += ["--small"] * options.small
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
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
    (RESULTS / ("scale-small.json" if options.small else "scale.json")).write_text(
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


class Counting:
    """An engine that answers from hashes and counts what prefix trees would compute."""

    def __init__(self, tokenizer: Any, batch_tokens: int) -> None:
        from tiltmeter.scoring.engine import Stats

        self._tokenizer, self._budget = tokenizer, batch_tokens
        self.stats, self.notes, self.n_requests, self.seconds = Stats(), [], 0, 0.0
        self.outcomes: dict[str, Any] = {}  # it tests nothing
        self.rows = 1

    def plan(self, requests: Iterable[Any], salt: str = "") -> list[list[int]]:
        from tiltmeter.scoring import plan as planning
        from tiltmeter.scoring.prompts import encode
        from tiltmeter.scoring.reference import text_of

        kinds: list[type] = []

        def ids() -> Iterable[list[int]]:
            for request in requests:
                kinds.append(type(request))
                yield encode(self._tokenizer, text_of(request))

        with planning.tokens_on_disk(ids()) as tokens:
            return planning.plan(kinds, tokens, self._budget, salt)

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        from tiltmeter.scoring.prompts import encode
        from tiltmeter.scoring.reference import text_of
        from tiltmeter.scoring.requests import Generation, GenerationAnswer, OptionAnswer, OptionProbs, SequenceAnswer
        from tiltmeter.scoring.trees.prefix_tree import common_prefix

        started = time.process_time()
        tokens = [encode(self._tokenizer, text_of(request)) for request in requests]
        before: list[int] = []
        for ids in sorted(tokens):
            self.stats.tokens_computed += len(ids) - common_prefix(before, ids)
            before = ids
        self.n_requests += len(requests)
        found: list[Any] = []
        for request, ids in zip(requests, tokens, strict=True):
            digest = hashlib.sha256(repr(request).encode()).digest()
            nats = -1 - digest[0] / 64
            self.stats.tokens_asked += len(ids)
            if isinstance(request, Generation):
                self.stats.tokens_computed += request.max_new_tokens
                self.stats.tokens_asked += request.max_new_tokens
                words = ("I agree", "I disagree", "Yes", "No", "12")[digest[1] % 5]
                found.append(GenerationAnswer(words, words, request.max_new_tokens, "length"))
            elif isinstance(request, OptionProbs):
                rows = [[nats - place - form for form in range(len(f))] for place, f in enumerate(request.options)]
                found.append(OptionAnswer(tuple(map(tuple, rows)), len(ids)))
            else:
                found.append(SequenceAnswer(nats * len(ids), len(ids)))
        self.seconds += time.process_time() - started  # a worker's, not the driver's
        return found


def measure(shared: Path, limit: int, grid: Grid) -> dict[str, float]:
    """CPU time and peak memory of one run of a grid with `limit` items of each benchmark."""
    models, strategies, benchmarks = grid
    from transformers import AutoTokenizer

    from tiltmeter import pipeline
    from tiltmeter.backends.base import Identity
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.registry import build
    from tiltmeter.runs.loading import Loader
    from tiltmeter.study import make_study

    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    tokenizer.chat_template = TEMPLATE
    engines: list[Counting] = []

    class Absent:
        """A backend without models."""

        def identity(self, source: str) -> Identity:
            return Identity(tokenizer, hashlib.sha256(source.encode()).hexdigest(), "float32")

        def load(self, spec: Any) -> LoadedVariant:
            proof = {"summary": "simulated", "probe_logprobs": [0.0]}
            weights = self.identity(spec.source).weight_hash
            return LoadedVariant(
                spec.model, spec.strategy, None, tokenizer, "cpu", "float32", frozenset([2]), 4096, weights, proof=proof
            )  # type: ignore[arg-type]

        def engine(self, variant: LoadedVariant, batch_tokens: int) -> Counting:
            engines.append(Counting(tokenizer, batch_tokens))
            return engines[-1]

        def release(self, variant: LoadedVariant) -> None:
            pass

    class Everywhere(Loader):
        def _backend(self, source: str) -> Any:
            return Absent()

    spent = {"statistics": 0.0}
    write_results = pipeline.write_results

    def timed(run: Path) -> Any:
        started = time.process_time()
        made = write_results(run)
        spent["statistics"] = time.process_time() - started
        return made

    pipeline._loader = lambda study, record, path, progress, ray: Everywhere(study, record, path, progress)  # type: ignore[assignment]
    pipeline.write_results = timed  # type: ignore[assignment]
    data = linked(shared / "data")
    study = make_study(
        models=list(models), strategies=list(strategies), benchmarks=list(benchmarks), format="both",
        limit=limit, data=str(data), text_quality=False, batch_tokens=4096,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        summary = pipeline.run(study, Path(folder) / "run")
        seconds = time.process_time() - started
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
        "requests": sum(engine.n_requests for engine in engines),
        "tokens_computed": sum(engine.stats.tokens_computed for engine in engines),
        "whole_share": whole / asked,
        "answering_seconds": seconds - spent["statistics"] - sum(engine.seconds for engine in engines),
        "statistics_seconds": spent["statistics"],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
