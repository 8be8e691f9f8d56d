"""Does an item cost the same among 1,000 as among 100,000? Time per item and peak memory of the engine.

    python -m benchmarks.flat [--shared ../shared] [--sizes 1000 10000 100000]

Items are sentences of the CrowS-Pairs data with a number put in front, so that none is repeated; the model is
tinystories-656k in fp32 with one thread. Each size runs in a process of its own; planning and reading the items from
disk, as a run does, are part of the time.
Writes benchmarks/results/flat.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
BATCH_TOKENS = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.shared, options.sizes[0])))
        return
    rows = []
    for size in options.sizes:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.flat", "--child", "--shared", str(options.shared), "--sizes", str(size)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        rows.append(json.loads(child.stdout.splitlines()[-1]))
        print("{items:>8,} items {microseconds_per_item:7.0f} us per item  peak {peak_mib:6.0f} MiB".format(**rows[-1]))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "flat.json").write_text(json.dumps(rows, indent=1) + "\n")


def measure(shared: Path, size: int) -> dict[str, float]:
    """CPU time per item and peak memory for `size` items; answers are dropped as they come."""
    import torch

    from tiltmeter.benchmarks.base import Item
    from tiltmeter.benchmarks.crows_pairs import CrowsPairs
    from tiltmeter.runs.inputs import Inputs, write_inputs
    from tiltmeter.scoring.engine import Engine
    from tiltmeter.scoring.prompts import renderer
    from tiltmeter.scoring.requests import SequenceLogprob
    from tiltmeter.strategies.chain import parse
    from tiltmeter.variants import apply

    torch.set_num_threads(1)
    variant = apply.load(str(shared / "models" / "tinystories-656k"), parse("none"), device="cpu")
    engine = Engine(variant, batch_tokens=BATCH_TOKENS)
    benchmark = CrowsPairs()
    render, _ = renderer("plain", variant.tokenizer)
    items = itertools.cycle(benchmark.load(shared / "data"))
    texts = (
        request.text
        for item in items
        for request in benchmark.requests(item, render, decoding="greedy", n_samples=1, seed=0)
    )
    rows = (
        (Item(str(number), "", {}, {}), (SequenceLogprob(f"{number}. {text}"),))
        for number, text in zip(range(size), texts)
    )
    with tempfile.TemporaryDirectory() as folder:
        inputs = Inputs(Path(folder) / f"{write_inputs(Path(folder), rows)}.jsonl")
        engine.answer(inputs.requests_at(range(4)))
        started = time.process_time()
        for batch in engine.plan(inputs.requests()):
            engine.answer(inputs.requests_at(batch))
        seconds = time.process_time() - started
    return {
        "items": size,
        "microseconds_per_item": 1e6 * seconds / size,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
