"""What every command costs before it does its work: processor time of whole processes, Python's own start included.

    python -m benchmarks.fixed [--times 5]
    python -m benchmarks.fixed --model FOLDER --data DIR [--source CHECKOUT] [--no-fidelity]

The built-in model is measured under int8 (20 items a benchmark) into a temporary folder; `--help`, `results` and `gate`
are called on it, and `run` up to its first committed answers, beside what importing torch and transformers' model code
takes alone. Prints seconds of user and system time, the least and the median of all calls (other processes only add to
them), and writes benchmarks/results/fixed.json.

With --model, instead: how much of a run of 100 items on a real model (crows-pairs under int8) is spent beside the
answers, twice into two folders: the second time the machine knows the model. What is unknown here goes to
`tiltmeter run`. Processor seconds of the run; the answers' are the wall seconds of its journal, so one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tiltmeter.demo.command import BASE, DATA

TILTMETER = [sys.executable, "-m", "tiltmeter"]
FIRST_ANSWERS = """
import os, sys
from tiltmeter.cli.commands import main
from tiltmeter.runs.store import Cell
Cell.commit = lambda *_, **__: os._exit(0)
main(sys.argv[1:])
"""
MODEL_CODE = "from transformers import AutoModelForCausalLM, LlamaForCausalLM"


def run_command(out: Path) -> list[str]:
    """What `tiltmeter` is given to measure the built-in model."""
    return ["run", str(BASE), "-s", "int8", "--limit", "20", "--data", str(DATA), "--out", str(out)]


def processor_seconds(command: list[str]) -> float:
    """User and system time of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def beside_the_answers(model: str, data: str, source: str | None, more: list[str]) -> None:
    """Processor seconds of whole runs, and of those the ones that the run's own journal gives to the answers."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TILTMETER_CACHE"] = str(Path(folder) / "cache")  # nothing is known beforehand
        if source:
            os.environ["PYTHONPATH"] = str(Path(source).resolve() / "src")
        for name in ("first", "second"):
            run = Path(folder) / name
            words = ["run", model, "-s", "int8", "-b", "crows-pairs", "--limit", "100", "--data", data, *more]
            whole = processor_seconds([*TILTMETER, *words, "--out", str(run)])
            answers = sum(json.loads(path.read_bytes())["seconds"] for path in run.glob("cells/*/done.json"))
            if not answers:
                raise SystemExit(f"the run failed: tiltmeter {' '.join(words)}")
            print(f"{name} run: {whole:.1f} s, {answers:.1f} of them answers, {whole - answers:.1f} beside them")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--model", help="a folder with a real model")
    parser.add_argument("--data", default="data", help="the datasets, for --model")
    parser.add_argument("--source", help="another checkout of tiltmeter to measure, for --model")
    options, more = parser.parse_known_args()
    if options.model:
        beside_the_answers(options.model, options.data, options.source, more)
        return
    times = options.times
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run([*TILTMETER, *run_command(run)], capture_output=True, check=True)
        first = [sys.executable, "-c", FIRST_ANSWERS]
        calls = {
            "--help": [*TILTMETER, "--help"],
            "results": [*TILTMETER, "results", str(run)],
            "gate": [*TILTMETER, "gate", str(run)],
            "import torch": [sys.executable, "-c", "import torch"],
            "import of transformers' model code": [sys.executable, "-c", MODEL_CODE],
            "the same through tiltmeter": [
                sys.executable,
                "-c",
                f"from tiltmeter.models.library import import_models; import_models(); {MODEL_CODE}",
            ],
        }
        found: dict[str, list[float]] = {}
        for turn in range(times):  # in turns: a machine that grows busy does so for all of them
            for name, command in calls.items():
                found.setdefault(name, []).append(processor_seconds(command))
            command = [*first, *run_command(Path(folder) / f"first-{turn}")]
            found.setdefault("run to its first answers", []).append(processor_seconds(command))
    for name, seconds in found.items():
        print(f"{name:36s} least {min(seconds):5.2f} s   median {statistics.median(seconds):5.2f} s")
    record = {
        "seconds": found,
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "transformers")}},
        "machine": platform.machine(),
    }
    Path(__file__).with_name("results").joinpath("fixed.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
