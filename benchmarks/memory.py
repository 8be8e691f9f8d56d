"""Does peak memory grow with the number of items? DiscrimEval, base and rerun, with 1,000 and all 9,450 items.

    python -m benchmarks.memory [--shared ../shared]

Each size runs in a process of its own on tinystories-656k (fp32, CPU); what is compared is the peak resident
memory of that process. Prints one line per size and writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import resource, sys
from pathlib import Path
from tiltmeter.pipeline import run
from tiltmeter.study import make_study
model, data, limit, out = sys.argv[1:]
run(make_study(models=[model], strategies=["rerun"], benchmarks=["discrim-eval"], data=data, limit=int(limit),
               text_quality=False, batch_tokens=2048, draws=200), Path(out))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mib(shared: Path, limit: int) -> float:
    """Peak resident memory of one run, MiB."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                CHILD,
                str(shared / "models" / "tinystories-656k"),
                str(shared / "data"),
                str(limit),
                f"{out}/run",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    shared = parser.parse_args().shared.resolve()
    found = {}
    for limit in (1_000, 9_450):
        found[str(limit)] = round(peak_mib(shared, limit), 1)
        print(f"{limit:>6} items: peak {found[str(limit)]:,.1f} MiB")
    growth = found["9450"] - found["1000"]
    print(f"8,450 more items cost {growth:,.1f} MiB: {growth * 1024 / 8450:.2f} KiB each")
    result = {
        "what": "peak resident memory, discrim-eval, base and rerun compared, tinystories-656k, fp32",
        "peak_mib": found,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    Path("benchmarks/results/memory.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
