"""Makes the one folder that the GPU scripts need on a machine that reaches nothing: .carry, ignored by git.

    python -m benchmarks.gpu_carry [--shared ../shared]

Data files (without the extra sets), two tokenizers, one trained toy model and the wheels that images with torch and
transformers lack. Prints its size; 64 MiB is what such machines take in. Then, over there, in this order:

    python -m pip install --no-index --find-links .carry/wheels pydantic
    TILTMETER_SHARED=.carry python -m benchmarks.gpu_smoke
    TILTMETER_SHARED=.carry python -m benchmarks.gpu_protocol --share 0.05
    TILTMETER_SHARED=.carry python -m benchmarks.gpu_protocol
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

CARRY = Path(".carry")
PARTS = ("tokenizers/llama2", "models/tinystories-656k", "models/stories260k")
WHEELS = ("pydantic",)
MOST_BYTES = 64 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    shared = parser.parse_args().shared.resolve()
    shutil.rmtree(CARRY, ignore_errors=True)
    shutil.copytree(shared / "data", CARRY / "data", ignore=shutil.ignore_patterns("extra"))
    for part in PARTS:
        shutil.copytree(shared / part, CARRY / part)
    pip = [sys.executable, "-m", "pip", "download", "-q", "-c", "constraints.txt", "-d", CARRY / "wheels", *WHEELS]
    subprocess.run(pip, check=True)
    size = sum(path.stat().st_size for path in CARRY.rglob("*") if path.is_file())
    print(f"{CARRY}: {size / 2**20:.1f} MiB of {MOST_BYTES / 2**20:.0f}")
    if size > MOST_BYTES:
        sys.exit("too large to carry")


if __name__ == "__main__":
    main()
