"""Does peak memory grow with the number of items? DiscrimEval, base and rerun, with 1,000 and all 9,450 items.

    python -m benchmarks.memory [--shared ../shared]

Each size runs in a process of its own on tinystories-656k (fp32, CPU); what is compared is the peak resident
memory of that process. Prints one line per size and writes benchmarks/results/memory.json.

    python -m benchmarks.memory --model FOLDER [--data ../shared/data] [--items 24]

What one model needs while it scores and writes (crows-pairs and dt-stereotyping, base alone), beside what it may need:
1.5 times its weights and the batch that `tiltmeter.scoring.budget` states, over a process that has imported everything.
Exit status 1 where it needs more.
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


ONE_MODEL = """
import json, resource, sys
from pathlib import Path
from tiltmeter.pipeline import run
from tiltmeter.runs.record import run_record
from tiltmeter.scoring.budget import bytes_per_token
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply
model, data, items, out, tiny = sys.argv[1:]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def study(of, limit):
    return make_study(models=[of], benchmarks=["crows-pairs", "dt-stereotyping"], data=data, limit=limit,
                      dtype="float32", device="cpu", draws=100)
run(study(tiny, 4), Path(out) / "imports")
before = peak()
run(study(model, int(items)), Path(out) / "run")
after = peak()
tokens = run_record(Path(out) / "run").batch_tokens
variant = apply.load(model, parse("none"), device="cpu", dtype="float32")
weights = sum(each.nbytes for each in variant.model.parameters())
print(json.dumps({"imported": before, "peak": after, "weights": weights, "batch_tokens": tokens,
                  "batch": tokens * bytes_per_token(variant)}))
"""


def one_model(model: Path, shared: Path, data: Path, items: int) -> int:
    """Prints what a model needed and may need, in MiB; the exit status."""
    tiny = shared / "models" / "tinystories-656k"
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", ONE_MODEL, str(model), str(data), str(items), out, str(tiny)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    mib = {name: value / 2**20 for name, value in found.items()}
    needed, allowed = mib["peak"] - mib["imported"], 1.5 * mib["weights"] + mib["batch"]
    print(f"{model.name}: float32 weights {mib['weights']:,.0f} MiB, batch of {found['batch_tokens']:,} tokens")
    print(f"peak {mib['peak']:,.0f} MiB, of which {mib['imported']:,.0f} MiB before it was loaded: {needed:,.0f} MiB")
    print(f"allowed: 1.5 x weights + {mib['batch']:,.0f} MiB of the batch = {allowed:,.0f} MiB")
    return int(needed > allowed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--items", type=int, default=24)
    asked = parser.parse_args()
    shared = asked.shared.resolve()
    if asked.model:
        sys.exit(one_model(asked.model, shared, asked.data or shared / "data", asked.items))
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
