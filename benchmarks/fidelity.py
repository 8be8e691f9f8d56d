"""What fidelity costs: the base's logits kept, and one variant held to them, on a real model.

    python -m benchmarks.fidelity MODEL [--strategy magnitude:sparsity=0.3] [--text FILE] [--run RUN]

The text part alone (1,024 positions), or with the prompts of a run's benchmarks. Prints processor seconds, which do not
depend on who else uses the machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiltmeter.runs.fidelity import beside_base, keep_base, spots
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants.apply import load


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """(what it gives, processor seconds)."""
    started = time.process_time()
    found = work()
    return found, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--strategy", default="magnitude:sparsity=0.3")
    parser.add_argument("--text", default=None)
    parser.add_argument("--run", type=Path, default=None, help="a run folder whose prompts are read as well")
    given = parser.parse_args()
    asked = {path.stem: path.stem for path in sorted((given.run / "inputs").glob("*.jsonl"))} if given.run else {}
    study = make_study(models=(given.model,), text=given.text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base.f32"
        base = load(given.model, parse("none"), device="cpu")
        places = spots(base, study, given.run or Path(folder), asked)
        _, of_base = timed(lambda: keep_base(base, places, path))
        itself, of_itself = timed(lambda: beside_base(base, places, path))
        variant = load(given.model, parse(given.strategy), device="cpu")
        found, of_variant = timed(lambda: beside_base(variant, places, path))
        prompts = sum(bool(s.of) for s in places)
        read = sum(len(s.tokens) for s in places)
        print(f"{prompts} prompts of {len(asked)} benchmarks and formats; {read:,} tokens read")
        print(f"{sum(len(s.positions) for s in places):,} positions, {path.stat().st_size / 2**20:.0f} MiB kept")
    print(f"base kept {of_base:.1f} s, itself beside it {of_itself:.1f} s, {given.strategy} {of_variant:.1f} s")
    print(f"itself: mean {itself.text.mean} nats/token, largest {itself.text.largest}")
    of = found.text
    print(
        f"{given.strategy}: mean {of.mean:.4g} nats/token, median {of.median:.4g}, p99 {of.p99:.4g}, "
        f"largest {of.largest:.4g}, same top token {100 * of.same_top:.1f} %, perplexity x {of.perplexity_ratio:.3f}"
    )


if __name__ == "__main__":
    main()
