"""The report at full size: 3 models x 9 strategies x 6 benchmarks x 2 formats, about 900,000 item rows.

    python tests/report/big_run.py --data ../shared/data [--keep DIR]

Writes a run folder with made-up answers to the real prompts, builds its report in a fresh process and opens it in
Chromium. Prints what design asks: build time and peak memory, file size, first view, and the slowest filter.
Not part of the test suite: it takes minutes and about 2 GB of disk.
"""

# ruff: noqa: E501 (lines of JavaScript)
from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import report_synthetic
from made_documents import revised

from tiltmeter.registry import build
from tiltmeter.runs.store import Cell, CellId, Store, write_json
from tiltmeter.schema import RunRecord
from tiltmeter.scoring.requests import Generation, GenerationAnswer, OptionAnswer, OptionProbs, SequenceAnswer

MODELS = ("example/llama-7b", "example/llama-8b", "example/mistral-7b")
STRATEGIES = ("int8", "int4", "awq", "kv4:read=transformers", "kv8", "wanda", "wanda-2:4", "rerun")  # and the base: 9
FORMATS = ("plain", "chat")
BATCH = 2000
WORDS = (
    "yes",
    "no",
    "I agree.",
    "I disagree.",
    "the",
    "answer",
    "is",
    "woman",
    "man",
    "5 million",
    "because",
    "people",
)


def answer_to(request: Any, rng: np.random.Generator) -> Any:
    if isinstance(request, Generation):
        text = " ".join(rng.choice(WORDS, 60))
        return GenerationAnswer(text=text + "</s>", clean=text, n_tokens=60, stopped="eos")
    if isinstance(request, OptionProbs):
        logs = np.log(rng.dirichlet(np.ones(len(request.options))))
        return OptionAnswer(
            tuple((float(log),) + (None,) * (len(forms) - 1) for log, forms in zip(logs, request.options)), 1
        )
    return SequenceAnswer(float(-40 * rng.random()), 12)


def write(folder: Path, data: Path) -> int:
    """The run folder; returns the number of item rows."""
    made = report_synthetic.document(MODELS, STRATEGIES, FORMATS, ("greedy",))
    rng = np.random.default_rng(0)
    inputs: dict[tuple[str, str], tuple[str, list[Any], list[str]]] = {}
    cells, n_rows = [], 0
    with Store(folder) as store:
        rows = []
        for row in made.rows:
            name, shape = row.benchmark, row.format
            if (name, shape) not in inputs:
                benchmark = build("benchmark", name)
                items = benchmark.load(data)
                asked = [
                    (
                        item,
                        benchmark.requests(
                            item, lambda p, s=shape: f"[{s}] {p.plain}", decoding="greedy", n_samples=1, seed=0
                        ),
                    )
                    for item in items
                ]
                inputs[name, shape] = (
                    store.write_inputs(asked),
                    [r for _, rs in asked for r in rs],
                    [i.id for i in items],
                )
            key, requests, ids = inputs[name, shape]
            cell = Cell(
                folder,
                CellId(
                    model=row.model,
                    strategy=row.strategy,
                    settings={},
                    format=shape,
                    decoding="greedy",
                    benchmark=name,
                    weight_hash=row.model,
                    inputs=key,
                    dtype="bfloat16",
                    n_samples=1,
                    partial=False,
                ),
            )
            cell.start()
            for start in range(0, len(requests), BATCH):
                cell.commit(
                    [(start + i, answer_to(request, rng)) for i, request in enumerate(requests[start : start + BATCH])],
                    seconds=1.0,
                    tokens=1,
                    notes=[],
                )
            cell.finish()
            cells.append(cell.id.folder)
            n_rows += len(ids)
            examples = [
                {"id": item, "base": "yes", "variant": "no", "toward": int(rng.integers(-1, 2)), "shift": 1.0}
                for item in rng.choice(ids, min(200, len(ids)), replace=False)
            ]
            rows.append(revised(row, {"flip_examples": examples}) if row.change else row)
        record = RunRecord.model_validate({**made.run.as_json(), "cells": cells, "notes": {}})
        write_json(folder / "run.json", record.as_json())
        write_json(folder / "results.json", made.model_copy(update={"rows": tuple(rows)}).as_document())
    return n_rows


def look(page: Path) -> dict[str, float]:
    """First paint, load, opening the flips browser and the slowest of some filters, in milliseconds."""
    from chromium import browser, resize

    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as driver:
        resize(driver, "wide")
        driver.get(page.as_uri())
        time.sleep(2)
        seen = driver.execute_script("""
          const paint = performance.getEntriesByName('first-contentful-paint')[0], nav = performance.getEntriesByType('navigation')[0];
          return { first_view_ms: paint ? paint.startTime : null, loaded_ms: nav.loadEventEnd };""")
        seen |= driver.execute_script("""
          const timed = (act) => { const from = performance.now(); act(); document.body.offsetHeight; return performance.now() - from; };
          const open = timed(() => document.getElementById('flips-open').click());
          const form = document.querySelector('#browser form'), slow = [];
          for (const [name, value] of [['benchmark', 'discrim-eval'], ['search', 'woman'], ['search', 'w'], ['strategy', 'int4'],
                                       ['search', ''], ['benchmark', ''], ['strategy', '']]) {
            slow.push(timed(() => { form.elements[name].value = value; form.dispatchEvent(new Event('input', { bubbles: true })); }));
          }
          return { open_flips_ms: open, slowest_filter_ms: Math.max(...slow), elements: document.querySelectorAll('*').length,
                   examples: document.getElementById('flips-count').textContent };""")
        return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="tiltmeter-big-"))
    try:
        rows = None if (folder / "results.json").exists() else write(folder, chosen.data)
        started = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, pathlib, tiltmeter.report as r; r.build_report(pathlib.Path(sys.argv[1]))",
                str(folder),
            ],
            check=True,
        )
        seconds = time.perf_counter() - started
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        page = folder / "report.html"
        print(
            json.dumps(
                {
                    "item_rows": rows,
                    "build_s": round(seconds, 1),
                    "build_cpu_s": round(spent.ru_utime + spent.ru_stime, 1),
                    "peak_mib": round(peak),
                    "file_mb": round(page.stat().st_size / 1e6, 1),
                    **look(page),
                },
                indent=1,
            )
        )
    finally:
        if not chosen.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
