"""run.json: what a run is made of, written before the first answer.

Study, versions, hardware, dataset hashes and notes, weight hashes by cell, the token budget. Nothing
secret: no environment variables, no tokens, no keys.
"""

from __future__ import annotations

from tiltmeter.datasets.catalogue import describe

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tiltmeter.benchmarks.base import Benchmark
from tiltmeter.errors import UserError
from tiltmeter.runs.store import CellId, Store, read_json, write_json
from tiltmeter.study import Study

PACKAGES = (
    "tiltmeter",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "bitsandbytes",
    "llmcompressor",
    "compressed-tensors",
    "optimum-quanto",
    "hqq",
    "lm_eval",
    "vllm",
    "sglang",
    "gguf",
    "numpy",
    "scipy",
    "statsmodels",
)
SCHEMA = "tiltmeter/run/1"


def versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """CPU, cores, threads, memory; GPUs with their names and memory."""
    import torch

    facts: dict[str, Any] = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if hasattr(os, "sysconf"):
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts["gpus"] = [
        {"name": torch.cuda.get_device_name(i), "memory_bytes": torch.cuda.get_device_properties(i).total_memory}
        for i in range(torch.cuda.device_count())
    ]
    return facts


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def check_data(benchmarks: list[Benchmark], data: Path) -> None:
    """Raises UserError naming the first benchmark whose files are missing, with the fetch command."""
    for benchmark in benchmarks:
        missing = [name for name in benchmark.files if not (data / name).exists()]
        if missing:
            raise UserError(
                f"the data of {benchmark.name} is not in {data}: {', '.join(missing)} is missing",
                fix=f"tiltmeter data fetch {benchmark.name}, or point --data at a folder that has it",
            )


def begin(store: Store, study: Study, benchmarks: list[Benchmark], data: Path) -> dict[str, Any]:
    """Write (or update) run.json and return it. The token budget of the first start stays."""
    path = store.path / "run.json"
    record = read_json(path) or {"schema": SCHEMA, "started": _now(), "cells": [], "notes": {}, "batch_tokens": None}
    if study.batch_tokens and record["batch_tokens"] not in (None, study.batch_tokens):
        raise UserError(
            f"this run was started with --batch-tokens {record['batch_tokens']}: "
            f"another budget would change its arithmetic",
            fix=f"leave --batch-tokens out, or give another --out than {store.path}",
        )
    if study.batch_tokens:
        record["batch_tokens"] = study.batch_tokens
    record.update(
        study=study.model_dump(),
        versions=versions(),
        hardware=hardware(),
        data={**record.get("data", {}), **{b.name: describe(b.name, data) for b in benchmarks}},
    )
    write_json(path, record)
    return record


def remember_cell(store: Store, record: dict[str, Any], cell: CellId, notes: list[str]) -> None:
    """Keep the order of cells and what must be said about them; the newest cell of a row is last."""
    known = [entry for entry in record["cells"] if entry != cell.folder]
    if [*known, cell.folder] == record["cells"] and (not notes or cell.folder in record["notes"]):
        return
    record["cells"] = [*known, cell.folder]
    if notes:
        record["notes"][cell.folder] = notes
    write_json(store.path / "run.json", record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
