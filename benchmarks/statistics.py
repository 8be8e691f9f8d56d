"""How long all statistics of a run take: one model, eight strategies, ten benchmarks at full size, 10,000 draws.

    python -m benchmarks.statistics [--strategies 8] [--workers 2]

The data are simulated at the benchmarks' real sizes (validation/populations.py); half of the strategies move something,
which is dearer, because their p is resolved further. Prints seconds of processor time, so that what other work on the
machine takes is not counted.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from validation.populations import Scenario
from validation.run import POPULATIONS

from tiltmeter.analysis.change import Change
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.seeds import seed_for


def one(benchmark: str, strategy: int) -> tuple[Change, float]:
    """One comparison with its seconds of processor time; making the data is not counted."""
    moved = strategy % 2 == 1
    scenario = Scenario("timing", 0.2, "real" if moved else "N1", effect=0.3 if moved else 0.0, base=0.4)
    rng = np.random.default_rng(seed_for("timing", benchmark, strategy))
    comparison = POPULATIONS[benchmark](rng, scenario)
    start = time.process_time()
    return compare(comparison, seed=0), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    cells = [(benchmark, strategy) for benchmark in POPULATIONS for strategy in range(given.strategies)]
    with ProcessPoolExecutor(given.workers) as pool:
        found = list(pool.map(one, *zip(*cells, strict=True)))
    start = time.process_time()
    settle(
        [
            Row("m", f"s{strategy}", "plain", "greedy", benchmark, change)
            for (benchmark, strategy), (change, _) in zip(cells, found, strict=True)
        ]
    )
    judging = time.process_time() - start
    for benchmark in POPULATIONS:
        took = sum(seconds for (name, _), (_, seconds) in zip(cells, found, strict=True) if name == benchmark)
        print(f"{benchmark:20} {took:6.1f} s for {given.strategies} strategies")
    work = sum(seconds for _, seconds in found) + judging
    print(f"{'all':20} {work:6.1f} s, {work / given.workers:.1f} s on {given.workers} cores, judging included")


if __name__ == "__main__":
    main()
