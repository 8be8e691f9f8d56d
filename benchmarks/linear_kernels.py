"""What a float32 linear layer costs by torch's own product, by MKL's and by oneDNN's with weights laid out beforehand.

    python -m benchmarks.linear_kernels [--rows 16 64 128 1024] [--shapes 49152x576 1536x576]

One thread, CPU time, the best of three rounds; shapes are outputs x inputs (SmolLM2-135M's). Which is fastest depends
on the processor's maker.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

SMOLLM2 = ("576x576", "1536x576", "576x1536", "49152x576")


def milliseconds(work: Callable[[], object], times: int) -> float:
    work()
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - started) / times)
    return 1e3 * best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 64, 128, 1024])
    parser.add_argument("--shapes", nargs="+", default=list(SMOLLM2))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'layer':>12} {'rows':>5} {'torch, ms':>10} {'MKL':>6} {'oneDNN':>7}")
    for shape in options.shapes:
        for rows in options.rows:
            own, mkl, onednn = timed(torch.randn(*map(int, shape.split("x"))), rows)
            print(f"{shape:>12} {rows:>5} {own:10.3f} {own / mkl:5.2f}x {own / onednn:6.2f}x", flush=True)


def timed(weight: torch.Tensor, rows: int) -> list[float]:
    """Milliseconds of each way for `rows` rows."""
    x = torch.randn(rows, weight.shape[1])
    for_mkl = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
    for_onednn = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    ways = (
        lambda: torch.nn.functional.linear(x, weight),
        lambda: torch.ops.mkl._mkl_linear(x, for_mkl, weight, None, rows),
        lambda: torch.ops.mkldnn._linear_pointwise(x, for_onednn, None, "none", [], ""),
    )
    return [milliseconds(way, max(2, int(2e9 / (rows * weight.numel())))) for way in ways]


if __name__ == "__main__":
    main()
