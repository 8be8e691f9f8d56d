"""run.json: what a run is made of, written before the first answer.

Study, versions, hardware, dataset hashes and notes, weight hashes by cell, the token budget. Nothing
secret: no environment variables, no tokens, no keys.
"""

from __future__ import annotations

import os
import platform
import threading
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import ValidationError

from tiltmeter.datasets.catalogue import datasets, describe
from tiltmeter.errors import UserError
from tiltmeter.files.whole import file_sha256
from tiltmeter.messages import Message, Text
from tiltmeter.runs.environments import adopt, note_cell
from tiltmeter.runs.store import CellId, Store, digest, read_json, write_json
from tiltmeter.schema import RunRecord
from tiltmeter.schema.reading import read
from tiltmeter.schema.run import SCHEMA, Hardware
from tiltmeter.study import Study

if TYPE_CHECKING:
    from tiltmeter.benchmarks.base import Benchmark

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
_writing = threading.RLock()
BROKEN = "copy the whole run folder again, or measure anew into another --out"


def versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> Hardware:
    """CPU, cores, threads, memory; GPUs with their names and memory."""
    import torch

    facts: Hardware = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    facts["memory_bytes"] = psutil.virtual_memory().total
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
            fetch = f"tiltmeter data fetch {benchmark.name}, or " if benchmark.name in datasets() else ""
            raise UserError(
                f"the data of {benchmark.name} is not in {data}: {', '.join(missing)} is missing",
                fix=f"{fetch}point --data at a folder that has it",
            )


def run_record(run: Path) -> RunRecord:
    """run.json. Raises UserError when the folder is no run, or one of another version, or damaged."""
    path = run / "run.json"
    content = read_json(path, fix=BROKEN)
    if content is None:
        raise UserError(
            f"{run} is not a run folder (it has no run.json)", fix="give the folder that `tiltmeter run … --out` wrote"
        )
    return read(RunRecord, content, where=str(path), fix=BROKEN, schema=SCHEMA)


def study_of(record: RunRecord, run: Path) -> Study:
    """The study a run was asked. Raises UserError when it does not fit."""
    try:
        return Study(**record.study)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{run / 'run.json'} does not fit: study.{place}: {first['msg']}", fix=BROKEN) from None


def made_from(run: Path) -> str:
    """Digest of what a document is made from: clocks may be set back, contents cannot."""
    record = run_record(run)
    finished = sorted(path.parent.name for path in (run / "cells").glob("*/done.json"))
    facts = [path for path in (*sorted((run / "variants").glob("*.json")), run / "failures.json") if path.is_file()]
    return digest([record.cells, record.study, finished, {path.name: file_sha256(path) for path in facts}])


def begin(store: Store, study: Study, benchmarks: list[Benchmark], data: Path) -> RunRecord:
    """Write (or update) run.json and return it. The token budget of the first start stays."""
    path = store.path / "run.json"
    record = run_record(store.path) if path.exists() else RunRecord(started=_now())
    if study.batch_tokens and record.batch_tokens not in (None, study.batch_tokens):
        raise UserError(
            f"this run was started with --batch-tokens {record.batch_tokens}: "
            "another budget would change its arithmetic",
            fix=f"leave --batch-tokens out, or give another --out than {store.path}",
        )
    if study.batch_tokens:
        record.batch_tokens = study.batch_tokens
    adopt(record, [name for name in record.cells if (store.path / "cells" / name / "answers.jsonl").exists()])
    record.study = study.model_dump(mode="json")
    record.versions = versions()
    record.hardware = hardware()
    record.data |= {b.name: describe(b.name, data) for b in benchmarks}
    write_record(path, record)
    return record


def remember_cell(store: Store, record: RunRecord, cell: CellId, notes: list[Text]) -> None:
    """Keep the order of cells and what must be said about them; the newest cell of a row is last."""
    known = [entry for entry in record.cells if entry != cell.folder]
    if [*known, cell.folder] == record.cells and (not notes or cell.folder in record.notes):
        return
    record.cells = [*known, cell.folder]
    if notes:
        record.notes[cell.folder] = list(notes)
    write_record(store.path / "run.json", record)


def remember_environment(store: Store, record: RunRecord, cell: CellId) -> Message | None:
    """That answers of a cell are computed by these versions on this hardware; what a person must be told of it."""
    with _writing:
        told = note_cell(record, cell.folder)
        write_record(store.path / "run.json", record)
    return told


def write_record(path: Path, record: RunRecord) -> None:
    """Whole, and by one thread at a time: the cells of a cluster are asked in several."""
    with _writing:
        write_json(path, record.as_json())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
