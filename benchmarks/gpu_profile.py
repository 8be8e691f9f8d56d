"""Where a card's time goes: kernels of scoring and of captured decoding steps of the 8B shape.

    TILTMETER_SHARED=.carry python -m benchmarks.gpu_profile [--layers 32]           (see gpu_carry)

Per part: seconds of the host, seconds that kernels ran, and the twenty kernels that took most; $OUT/gpu_profile.txt.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_decoding import Decoding
from benchmarks.gpu_models import SHAPES
from benchmarks.gpu_protocol import LLAMA_8B
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.methods import Trees
from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.writing import Writing

OUT = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
SHOWN = 20
STEPS = 33  # of decoding, after the prefill's


class Profiles(Decoding):
    def scoring(self, variant: LoadedVariant) -> Callable[[], object]:
        requests = self.requests(variant, "discrim-eval", 140)
        engine = Engine(variant, batch_tokens=4096)
        return lambda: engine.answer(requests)

    def steps(self, variant: LoadedVariant, rows: int, heat: float, way: str) -> Callable[[], object]:
        trees = Trees(variant, sparse=True, decoding=way)  # type: ignore[arg-type]
        prompts = [[1, 5, 6, 7 + row // 9000, 20 + row] for row in range(rows)]

        def write() -> None:
            writings = [[Writing(Generation("", STEPS, heat, 1.0, row), frozenset())] for row in range(rows)]
            with torch.inference_mode():
                trees.write(prompts, writings, rows=rows, budget=4096)

        return write

    def shown(self, call: Callable[[], object]) -> str:
        """One call, after one that warms up and one that is timed."""
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            call()
            self.wait()
            seconds.append(time.perf_counter() - started)
        kinds = [ProfilerActivity.CUDA if self.on_card else ProfilerActivity.CPU]
        with profile(activities=kinds) as seen:
            call()
            self.wait()
        rows = seen.key_averages()
        busy = {
            row.key: (row.device_time_total if self.on_card else row.self_cpu_time_total, row.count) for row in rows
        }
        lines = [f"host {seconds[1]:.3f} s, kernels {sum(time for time, _ in busy.values()) / 1e6:.3f} s"]
        for key, (microseconds, count) in sorted(busy.items(), key=lambda row: -row[1][0])[:SHOWN]:
            lines.append(f"{microseconds / 1000:10.2f} ms {count:7d} x  {key[:150]}")
        return "\n".join(lines)

    def wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--rows", type=int, nargs="*", default=[512, 1024])
    options = parser.parse_args()
    SHAPES["8b"] = {**LLAMA_8B, "num_hidden_layers": options.layers}
    profiles = Profiles(options.shared, options.device)
    variant = profiles.variant(
        "8b" if profiles.on_card else "15m", torch.bfloat16 if profiles.on_card else torch.float32
    )
    way = "captured" if profiles.on_card else "parts"
    parts: dict[str, Callable[[], object]] = {"scoring of discrim-eval": profiles.scoring(variant)}
    for rows in options.rows:
        for heat in (0.0, 1.0):
            parts[f"{STEPS} steps of {rows} rows, temperature {heat:g}"] = profiles.steps(variant, rows, heat, way)
    OUT.mkdir(parents=True, exist_ok=True)
    text = ""
    for name, call in parts.items():
        text += f"{name}: {profiles.shown(call)}\n\n"
        (OUT / "gpu_profile.txt").write_text(text)
    print(text, flush=True)


if __name__ == "__main__":
    main()
