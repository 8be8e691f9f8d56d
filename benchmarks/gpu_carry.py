"""Makes the one folder that the GPU scripts need on a machine that reaches nothing: .carry, ignored by git.

    python -m benchmarks.gpu_carry [--shared ../shared]

Data files (without the extra sets), two tokenizers, one trained toy model and the wheels that images with torch and
transformers lack. Prints its size; 64 MiB is what such machines take in. Then, over there, in this order:

    TILTMETER_SHARED=.carry python3 -m benchmarks.gpu_session checks     # every check of gpu_smoke, side by side
    TILTMETER_SHARED=.carry python3 -m benchmarks.gpu_session protocol   # the whole: minutes
    TILTMETER_SHARED=.carry python3 -m benchmarks.gpu_session formats    # INT8, INT4, FP8 and 2:4 on the 8B shape

The wheels are for Python 3.12 on x86-64 Linux; of bitsandbytes only the library for CUDA 13 is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

CARRY = Path(".carry")
PARTS = ("tokenizers/llama2", "models/tinystories-656k", "models/stories260k")
WHEELS = (
    "pydantic",
    "pydantic_core",
    "annotated-types",
    "typing-inspection",
    "bitsandbytes",
    "compressed-tensors",
    "loguru",
    "termcolor",
    "optimum-quanto",
    "torchao",
)
BUILT = ("hqq",)  # published as source: nothing of it is compiled
PLATFORMS = [f"manylinux{name}_x86_64" for name in ("_2_28", "_2_27", "_2_24", "_2_17", "2014", "1")]
MOST_BYTES = 64 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    shared = parser.parse_args().shared.resolve()
    shutil.rmtree(CARRY, ignore_errors=True)
    shutil.copytree(shared / "data", CARRY / "data", ignore=shutil.ignore_patterns("extra"))
    for part in PARTS:
        shutil.copytree(shared / part, CARRY / part)
    wheels = CARRY / "wheels"
    pip = [sys.executable, "-m", "pip"]
    there = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    there += [part for platform in PLATFORMS for part in ("--platform", platform)]
    pinned = {line.partition("==")[0]: line.split()[0] for line in Path("constraints.txt").read_text().splitlines()}
    fetched = [pinned.get(name, name) for name in WHEELS]
    subprocess.run([*pip, "download", "-q", "--no-deps", *there, "-d", wheels, *fetched], check=True)
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", wheels, *(pinned[name] for name in BUILT)], check=True)
    for wheel in wheels.glob("bitsandbytes-*"):
        keep_one_library(wheel, "libbitsandbytes_cuda130.so")
    size = sum(path.stat().st_size for path in CARRY.rglob("*") if path.is_file())
    print(f"{CARRY}: {size / 2**20:.1f} MiB of {MOST_BYTES / 2**20:.0f}, which the checkout shares")
    if size > MOST_BYTES:
        sys.exit("too large to carry")


def keep_one_library(wheel: Path, kept: str) -> None:
    """Leave compiled libraries for other cards out: nine tenths of that wheel."""
    slim = wheel.with_suffix(".slim")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as out:
        for name in whole.namelist():
            if not name.endswith(".so") or name.endswith((kept, "_cpu.so")):
                out.writestr(name, whole.read(name))
    slim.replace(wheel)


if __name__ == "__main__":
    main()
