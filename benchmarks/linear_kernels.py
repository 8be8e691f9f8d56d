"""What a float32 linear layer costs by torch's own product, by MKL's and by oneDNN's with weights laid out beforehand.

    python -m benchmarks.linear_kernels [--rows 2 8 16 64 128] [--shapes 49152x576 1536x576] [--threads 1]

Wall time on an idle machine, the best of three rounds; shapes are outputs x inputs (SmolLM2-135M's). Every round goes
through as many layers of one shape as no cache holds together, as a model's forward does: a layer asked again and again
would find its weights in the cache. Which is fastest depends on the processor's maker.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

SMOLLM2 = ("576x576", "1536x576", "576x1536", "49152x576")
NO_CACHE_HOLDS = 2**27  # bytes
Product = Callable[[torch.Tensor], torch.Tensor]


def milliseconds(layers: list[Product], x: torch.Tensor) -> float:
    """Of one layer."""
    best = float("inf")
    for _ in range(4):  # the first is the trial
        started = time.perf_counter()
        for layer in layers:
            layer(x)
        best = min(best, time.perf_counter() - started)
    return 1e3 * best / len(layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 8, 16, 64, 128])
    parser.add_argument("--shapes", nargs="+", default=list(SMOLLM2))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'layer':>12} {'rows':>5} {'torch, ms':>10} {'MKL':>6} {'oneDNN':>7}")
    for shape in options.shapes:
        for rows in options.rows:
            own, mkl, onednn = timed(*map(int, shape.split("x")), rows)
            print(f"{shape:>12} {rows:>5} {own:10.3f} {own / mkl:5.2f}x {own / onednn:6.2f}x", flush=True)


def timed(outputs: int, inputs: int, rows: int) -> list[float]:
    """Milliseconds of each way for `rows` rows."""
    x = torch.randn(rows, inputs)
    weights = [torch.randn(outputs, inputs) for _ in range(-(-NO_CACHE_HOLDS // (4 * outputs * inputs)))]
    return [milliseconds([way(weight, rows) for weight in weights], x) for way in (by_torch, by_mkl, by_onednn)]


def by_torch(weight: torch.Tensor, rows: int) -> Product:
    return lambda x: torch.nn.functional.linear(x, weight)


def by_mkl(weight: torch.Tensor, rows: int) -> Product:
    laid_out = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
    return lambda x: torch.ops.mkl._mkl_linear(x, laid_out, weight, None, rows)


def by_onednn(weight: torch.Tensor, rows: int) -> Product:
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, laid_out, None, "none", [], "")


if __name__ == "__main__":
    main()
