"""The real model against the engines a user would pick, interleaved in one run: docs/engine.md's table.

    python -m benchmarks.peers FOLDER --gguf F32.gguf --llama PYTHON --vllm PYTHON [--threads 1 2] [--rounds 2]

FOLDER holds real weights, a real vocabulary and real end tokens (SmolLM2-135M-Instruct); the GGUF file the same
weights in float32; PYTHON are the interpreters of the environments that `make engines` sets up. Every round asks each
engine the same token ids, one after the other, while the others wait. A ratio is the peer's time over tiltmeter's in
the same round: CPU time with one thread, which other processes cannot take away; wall time with more. vLLM drops its
cached prefixes before each round; tiltmeter may keep the one prefix that all prompts of a piece of work share.
All log-probabilities must agree within 0.01 nats; shown is the largest difference, and the share of equal greedy texts.
Writes benchmarks/results/peers-NAME.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
APART = 0.01  # nats: beyond it the engines do not compute the same thing


class Child:
    """One engine in its own environment, loaded once and asked piece by piece."""

    def __init__(self, name: str, python: str, source: str, options: argparse.Namespace, threads: int) -> None:
        words = [python, "-m", "benchmarks.peers", options.folder, "--serve", name, "--source", source]
        words += ["--shared", str(options.shared), "--scale", str(options.scale)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.name, self.process = (
            name,
            subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
        )
        self._until("ready")

    def _until(self, word: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return
        raise SystemExit(f"{self.name} ended: see above")

    def ask(self, number: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        with tempfile.NamedTemporaryFile() as file:
            self.process.stdin.write(f"{number} {file.name}\n")
            self.process.stdin.flush()
            self._until(f"answered {number}")
            return json.loads(Path(file.name).read_text())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def measured(options: argparse.Namespace, threads: int) -> list[dict[str, Any]]:
    """One row per piece of work, all engines asked in turn."""
    from transformers import AutoTokenizer

    from benchmarks.engine_peers import real_work

    work = real_work(options.shared, AutoTokenizer.from_pretrained(options.folder), options.scale)
    wanted = [("tiltmeter", sys.executable, options.folder)]
    wanted += [("llama.cpp", options.llama, options.gguf)] if options.llama else []
    wanted += [("vllm", options.vllm, options.folder)] if options.vllm else []
    children = [Child(*each, options, threads) for each in wanted]
    clock = "cpu" if threads == 1 else "wall"
    rows = []
    for number, piece in enumerate(work):
        if options.only not in piece.name:
            continue
        rounds = [{child.name: child.ask(number) for child in children} for _ in range(options.rounds)]
        row: dict[str, Any] = {"name": piece.name, "requests": len(piece.requests), "target": piece.target}
        row["seconds"] = {child.name: [each[child.name][clock] for each in rounds] for child in children}
        row["against"] = {child.name: against(rounds, child.name, clock, piece.requests[0]) for child in children[1:]}
        rows.append(row)
        print(line(row), flush=True)
    for child in children:
        child.close()
    return rows


def against(rounds: list[dict[str, Any]], peer: str, clock: str, request: Any) -> dict[str, float]:
    """Ratio with its range, and how far apart the answers are."""
    ratios = [each[peer][clock] / each["tiltmeter"][clock] for each in rounds]
    found = {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    pairs = list(zip(rounds[0]["tiltmeter"]["answers"], rounds[0][peer]["answers"], strict=True))
    if isinstance(pairs[0][0], str):
        if not request.temperature:
            found["equal"] = sum(a == b for a, b in pairs) / len(pairs)
    else:
        found["apart"] = max(abs(a - b) for a, b in pairs)
        if found["apart"] > APART:
            raise SystemExit(f"{peer} computes something else: {found['apart']:.3g} nats apart")
    return found


def line(row: dict[str, Any]) -> str:
    """A row of docs/engine.md."""
    cells = [row["name"], str(row["requests"]), f"{statistics.median(row['seconds']['tiltmeter']):.1f} s"]
    for peer in row["against"].values():
        same = (
            f"{peer['equal']:.0%} equal" if "equal" in peer else f"{peer['apart']:.0e} nats" if "apart" in peer else "–"
        )
        cells += [f"{peer['ratio']:.2f}x ({peer['low']:.2f}-{peer['high']:.2f})", same]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--gguf")
    parser.add_argument("--llama", help="python of the environment with llama-cpp-python")
    parser.add_argument("--vllm", help="python of the environment with vLLM")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="work whose name contains this")
    parser.add_argument("--name", default="smollm2-135m")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        from benchmarks.engine_peers import serve

        serve(options.serve, options.folder, options.source, options.shared, options.scale)
        return
    from benchmarks.run import processor

    found: dict[str, Any] = {"cpu": processor(), "cores": os.cpu_count(), "scale": options.scale}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"peers-{options.name}.json"
    for threads in options.threads:
        print(f"\n{threads} thread(s), load {os.getloadavg()[0]:.1f}", flush=True)
        found[f"threads_{threads}"] = {"load": os.getloadavg()[0], "work": measured(options, threads)}
        path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
