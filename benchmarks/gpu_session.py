"""What is done on a card that is lent by the minute: one command per visit, several processes at a time.

    TILTMETER_SHARED=.carry python3 -m benchmarks.gpu_session checks|protocol|formats|profile … [--seconds 400]

Checks whose milliseconds nobody reads run side by side, each group a process: most of them wait for the host. Those
that time something follow alone. Everything that a process prints and writes comes back from $OUT, also when the time
is up: gpu_smoke.json, gpu.json, gpu_formats.json, gpu_profile.txt, log.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

OUT = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
SIDE_BY_SIDE = (
    ("environment", "attention", "decode_kernel", "sampling"),
    ("captured_texts",),
    ("float32_scores", "float32_texts"),
    ("bfloat16_methods",),
    ("repeats", "memory"),
    ("out_of_memory",),
    ("strategies",),
    ("resume",),
)
ALONE = (("step_times", "launches", "attention_plans"),)


class Visit:
    """Processes under one deadline."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._scratch = Path(tempfile.mkdtemp())
        self._log = (OUT / "log.txt").open("a")
        site = self._scratch / "site"
        wheels = sorted(Path(".carry/wheels").glob("*.whl"))
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--no-compile",
            "--target",
            site,
        ]
        subprocess.run([*pip, *wheels], check=True)
        path = os.pathsep.join([str(site), str(Path("src").resolve()), str(Path.cwd())])
        self._environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "2"}

    def left(self) -> float:
        return max(1.0, self._ends - time.monotonic())

    def run(self, commands: Sequence[Sequence[str]]) -> list[Path]:
        """All of them at once; where each has written. What is late is stopped."""
        started, folders = [], []
        for number, command in enumerate(commands):
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
            folders.append(folder)
            output = (folder / "printed.txt").open("w")
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**self._environment, "OUT": str(folder)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            started.append((process, number))
        for process, number in started:
            try:
                process.wait(self.left())
            except subprocess.TimeoutExpired:
                process.kill()
                self.say(f"stopped: {' '.join(commands[number])}")
        for command, folder in zip(commands, folders, strict=True):
            self.say(f"$ {' '.join(command)}\n{(folder / 'printed.txt').read_text()[-6000:]}")
        return folders

    def alone(self, command: Sequence[str]) -> None:
        """One process; all that it has written comes back."""
        [folder] = self.run([command])
        for written in folder.iterdir():
            if written.name != "printed.txt":
                (OUT / written.name).write_bytes(written.read_bytes())

    def say(self, text: str) -> None:
        print(text, flush=True)
        print(text, file=self._log, flush=True)


def checks(visit: Visit, options: argparse.Namespace) -> None:
    found: dict[str, dict[str, object]] = {}
    wanted = [[name for name in group if name in (options.checks or group)] for group in (*SIDE_BY_SIDE, *ALONE)]
    together, alone = wanted[: len(SIDE_BY_SIDE)], wanted[len(SIDE_BY_SIDE) :]
    for groups in (together, *([group] for group in alone)):
        for folder in visit.run([["benchmarks.gpu_smoke", "--only", *group] for group in groups if group]):
            written = folder / "gpu_smoke.json"
            found |= json.loads(written.read_text()) if written.exists() else {}
            (OUT / "gpu_smoke.json").write_text(json.dumps(found, indent=1) + "\n")
    visit.say(f"passed: {[name for name, each in found.items() if each['passed']]}")
    visit.say(f"failed: {[name for name, each in found.items() if not each['passed']]}")


def protocol(visit: Visit, options: argparse.Namespace) -> None:
    visit.alone(["benchmarks.gpu_protocol", "--share", str(options.share), "--peers"])


def formats(visit: Visit, options: argparse.Namespace) -> None:
    visit.alone(["benchmarks.gpu_formats"])


def kernels(visit: Visit, options: argparse.Namespace) -> None:
    visit.alone(["benchmarks.gpu_profile"])


WHAT = {"checks": checks, "protocol": protocol, "formats": formats, "profile": kernels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", choices=list(WHAT))
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--checks", nargs="*", help="only these")
    parser.add_argument("--share", type=float, default=1.0, help="of the protocol's items")
    options = parser.parse_args()
    visit = Visit(options.seconds)
    for what in options.what:
        WHAT[what](visit, options)


if __name__ == "__main__":
    main()
