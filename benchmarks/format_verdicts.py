"""One table of every strategy's verdicts on one model: the change and its sign, benchmark by benchmark.

    python -m benchmarks.format_verdicts MODEL --text FILE --data DIR --out RUN [-s w4a16 …] [-b crows-pairs …]

One `tiltmeter run` of all strategies of `benchmarks.formats`, with its calibration settings and its four fifths of the
text, then its results as Markdown. Called again it goes on where it was stopped; what failed keeps a dash. All
strategies are one family of comparisons: a verdict has to hold among them, so the same change can be told from chance
in a smaller run.

Writes benchmarks/results/verdicts-NAME.md (of --name) and prints the same lines.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.formats import EVERY, RESULTS, with_settings
from tiltmeter.results.document import read_document
from tiltmeter.schema.results import Row
from tiltmeter.strategies.chain import parse

BENCHMARKS = ("crows-pairs", "global-opinion-qa")
CALIBRATION = argparse.Namespace(samples=16, calibration_length=256, iters=50)
LAST = "awq", "autoround"  # they take most of the time


def told(row: Row | None) -> str:
    """One cell of the table: change and 95 % interval, or how far the groups moved and its 95 % limit where the verdict
    rests on that; then the verdict's sign."""
    if row is None or row.change is None:
        return "–"
    change = row.change
    sign = change.verdict.sign
    if spread := change.spread:
        return f"{spread.movement:.4f}, at most {spread.movement_high:.4f} {sign}"
    if change.ci is None:
        return sign
    low, high = change.ci
    digits = 1 if row.unit == "percent" else 3
    return f"{change.delta:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}] {sign}"


def table(run: Path, strategies: Sequence[str], benchmarks: Sequence[str]) -> list[str]:
    """Markdown lines: a strategy a line, a benchmark a column, from the stored answers of `run`."""
    document = read_document(run)
    rows = {(row.strategy, row.benchmark): row for row in document.rows}
    bases = [rows.get(("none", benchmark)) for benchmark in benchmarks]
    lines = ["| strategy | " + " | ".join(benchmarks) + " |", "|---|" + "---|" * len(benchmarks)]
    levels = ["–" if base is None or base.reason else f"{base.score:.4g} {base.unit}" for base in bases]
    lines.append("| `none` | " + " | ".join(levels) + " |")
    for strategy in strategies:
        canonical = with_settings(strategy, CALIBRATION).canonical
        cells = [told(rows.get((canonical, benchmark))) for benchmark in benchmarks]
        lines.append(f"| `{strategy}` | " + " | ".join(cells) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("-s", "--strategy", action="append", help="default: every one")
    parser.add_argument("-b", "--benchmark", action="append", help="default: " + ", ".join(BENCHMARKS))
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--name", default="", help="write benchmarks/results/verdicts-NAME.md")
    options = parser.parse_args(arguments)
    asked = options.strategy or EVERY
    ordered = sorted(asked, key=lambda name: (parse(name).parts[0].name in LAST, asked.index(name)))
    benchmarks = options.benchmark or BENCHMARKS
    text = options.text.read_text(encoding="utf-8")
    calibration = options.out.with_name(f"{options.out.name}.calibration.txt")
    calibration.write_text(text[: len(text) * 4 // 5], encoding="utf-8")
    words = ["run", options.model, "--data", options.data, "--out", options.out, "--limit", str(options.limit)]
    words += [word for name in ordered for word in ("-s", with_settings(name, CALIBRATION).canonical)]
    words += [word for name in benchmarks for word in ("-b", name)]
    words += ["--calibration", calibration, "--no-fidelity"]
    done = subprocess.run([sys.executable, "-m", "tiltmeter", *map(str, words)], check=False)
    if done.returncode == 2:  # refused: it has said what to type
        sys.exit(2)
    lines = table(options.out, asked, benchmarks)
    print(*lines, sep="\n")
    if options.name:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"verdicts-{options.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
