"""Reads per-item files: which tool wrote one is told by what it holds, never by its name.

    lm-evaluation-harness   JSON lines, `--log_samples`; or the folder they lie in (the newest file of each task)
    Inspect                 a log as .json, or .eval (a zip of JSON files)
    plain                   CSV with a header: item, score, and whatever else there is

Nothing in a file is executed or trusted: JSON and CSV by the standard library, with limits on what is read.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tiltmeter.benchmarks.logged import Line
from tiltmeter.errors import UserError

LARGEST_FILE = 4 * 2**30  # bytes, read line by line
LARGEST_WHOLE = 512 * 2**20  # bytes of one JSON document
LARGEST_LINE = 16 * 2**20  # characters
MOST_LINES = 2_000_000
MOST_PARTS = 1_000_000  # files in a zip
SAMPLES = re.compile(r"samples_(.+)_(\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # Inspect's own values of its letters
HOW = (
    "give lm-evaluation-harness's samples_*.jsonl (lm_eval --log_samples) or its folder, an Inspect log (.json, "
    ".eval), or a CSV file with the columns item and score"
)
ZSTD = 93  # the compression that zip files of Inspect have since 2025; Python reads it from 3.14 on


@dataclass(frozen=True)
class Log:
    """What one tool logged of one task; task: "" where the file does not say."""

    path: Path
    tool: str
    task: str
    lines: list[Line]


def read_logs(path: Path) -> list[Log]:
    """Every task that a file or folder holds. Raises UserError for what is none of the formats, or damaged."""
    if not path.exists():
        raise UserError(f"there is no file {path}", fix=HOW)
    if path.is_dir():
        return _folder(path)
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path} is larger than {LARGEST_FILE >> 30} GiB", fix="judge one task at a time")
    with _opened(path) as file:
        head = file.read(4)
    if head.startswith(b"PK"):
        return [_inspect(path, *_zip_parts(path))]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return [_json(path)]
    return [_table(path)]


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", fix="check its permissions") from error


def _folder(path: Path) -> list[Log]:
    """The newest samples file of each task of lm-evaluation-harness, in the folder or one below it; else one log."""
    newest: dict[str, tuple[str, Path]] = {}
    for file in sorted((*path.glob("*.jsonl"), *path.glob("*/*.jsonl"))):
        if found := SAMPLES.fullmatch(file.name):
            task, when = found.groups()
            newest[task] = max(newest.get(task, ("", file)), (when, file))
    if len({file.parent for _, file in newest.values()}) > 1:
        raise UserError(f"{path} holds the logs of several models", fix=f"name one of its folders: {path}/MODEL")
    if newest:
        return [log for _, file in newest.values() for log in read_logs(file)]
    logs = [file for file in sorted(path.iterdir()) if file.suffix in (".eval", ".json") and file.is_file()]
    if len(logs) == 1:
        return read_logs(logs[0])
    what = f"{len(logs)} logs" if logs else "no per-item file"
    raise UserError(f"the folder {path} holds {what}", fix="name the file" if logs else HOW)


def _json(path: Path) -> Log:
    """JSON lines of lm-evaluation-harness, or one JSON document."""
    lines = _lines(path)
    first = _parsed(path, 1, next(lines, ""), whole=True)
    if isinstance(first, dict) and {"doc", "doc_id"} <= first.keys():
        return _lm_eval(path)
    if path.stat().st_size > LARGEST_WHOLE:
        raise UserError(f"{path} is larger than {LARGEST_WHOLE >> 20} MiB", fix="log it as .eval, or fewer items")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {str(error)[:80]}", fix=HOW) from None
    if isinstance(content, dict) and "results" in content and "configs" in content:
        raise UserError(
            f"{path} holds lm-evaluation-harness's summary, not its items",
            fix="run lm_eval with --log_samples and give samples_TASK_*.jsonl, which lies beside it",
        )
    if isinstance(content, dict) and "eval" in content:
        return _inspect(path, content, content.get("samples") or [])
    raise UserError(f"{path} is none of the formats that are known", fix=HOW)


def _lines(path: Path) -> Iterator[str]:
    """Lines of text with something in them. Raises UserError for one that is too long, or not UTF-8."""
    count = 0
    with open(path, encoding="utf-8-sig") as file:
        try:
            while line := file.readline(LARGEST_LINE):
                if len(line) >= LARGEST_LINE:
                    raise UserError(f"{path}, line {count + 1}: longer than {LARGEST_LINE >> 20} MiB", fix=HOW)
                count += 1
                if count > MOST_LINES:
                    raise UserError(f"{path} has more than {MOST_LINES:,} lines", fix="judge one task at a time")
                if line.strip():
                    yield line
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text: {error.reason}", fix=HOW) from None


def _parsed(path: Path, number: int, line: str, *, whole: bool = False) -> Any:
    """One line of JSON; where it may be the beginning of a whole document, None for what is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        if whole:
            return None
        raise UserError(
            f"{path}, line {number}: not JSON ({str(error)[:80]})", fix="the file is cut off or damaged: log it anew"
        ) from None


def _lm_eval(path: Path) -> Log:
    """One line per item and filter; of several filters the first."""
    named = SAMPLES.fullmatch(path.name)
    found, chosen = [], None
    for number, text in enumerate(_lines(path), start=1):
        line = _parsed(path, number, text)
        if not isinstance(line, dict) or not isinstance(line.get("doc"), dict) or "doc_id" not in line:
            raise UserError(f"{path}, line {number}: not an item of lm-evaluation-harness", fix=HOW)
        chosen = line.get("filter") if chosen is None else chosen
        if line.get("filter") == chosen:
            found.append(_lm_eval_line(path, number, line))
    return Log(path, "lm-evaluation-harness", named.group(1) if named else path.stem, found)


def _lm_eval_line(path: Path, number: int, line: Mapping[str, Any]) -> Line:
    answers = line.get("filtered_resps") or []
    asked = line.get("arguments")
    calls = [asked[name] for name in asked] if isinstance(asked, dict) else []
    texts = [str(call.get("arg_1", "")) for call in calls if isinstance(call, dict)]
    nats = [_number(a[0]) for a in answers if isinstance(a, (list, tuple)) and a]
    options = tuple(zip(texts, nats)) if len(nats) == len(answers) == len(texts) else ()
    scores = {name: _number(line.get(name)) for name in line.get("metrics") or [] if _is_number(line.get(name))}
    text = answers[0] if len(answers) == 1 and isinstance(answers[0], str) else None
    digest = f"{line.get('doc_hash', '')} {line.get('prompt_hash', '')}"
    return Line(path, number, str(line["doc_id"]), line["doc"], 0, scores, options, text, digest)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _number(value: Any) -> float:
    """A number as JSON has it, or as text; NaN for anything else."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _zip_parts(path: Path) -> tuple[dict[str, Any], Iterator[Any]]:
    """(header, samples) of an Inspect .eval file."""
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path} is a damaged zip file: {error}", fix="copy it again") from None
    names = {member.filename: member for member in members}
    if "header.json" not in names and "_journal/start.json" not in names:
        raise UserError(f"{path} is a zip file, but no Inspect log", fix=HOW)
    if len(members) > MOST_PARTS or sum(member.file_size for member in members) > LARGEST_FILE:
        raise UserError(f"{path} unpacks to more than {LARGEST_FILE >> 30} GiB", fix="log fewer items")
    header = names.get("header.json") or names["_journal/start.json"]
    parts = [member for member in members if re.fullmatch(r"samples/[^/]+\.json", member.filename)]
    return _part(path, archive, header), (_part(path, archive, member) for member in parts)


def _part(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    """One JSON file of the zip; never more of it than it says, nor than is allowed."""
    if member.file_size > LARGEST_WHOLE:
        raise UserError(f"{path}: {member.filename} is larger than {LARGEST_WHOLE >> 20} MiB", fix="log fewer items")
    try:
        with archive.open(member) as file:
            return json.loads(file.read(member.file_size + 1))
    except NotImplementedError:
        kind = "Zstandard" if member.compress_type == ZSTD else "a method"
        raise UserError(
            f"{path} is compressed with {kind}, which this Python cannot read",
            fix=f"inspect log convert {path} --to json --output-dir DIR   (then judge the .json files)",
        ) from None
    except (ValueError, RecursionError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{path}: {member.filename} is damaged ({str(error)[:80]})", fix="copy it again") from None


def _inspect(path: Path, header: Any, samples: Any) -> Log:
    """Samples of an Inspect log: metadata are the item's fields, epochs its samples, every scorer a score.

    A dictionary of values gives one score per entry, SCORER.ENTRY. Letters count as Inspect counts them.
    """
    about = header.get("eval") if isinstance(header, dict) else None
    task = str(about.get("task", path.stem)) if isinstance(about, dict) else path.stem
    lines = []
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample, dict) or "id" not in sample:
            raise UserError(f"{path}, sample {number}: not a sample of Inspect", fix=HOW)
        metadata = sample.get("metadata")
        fields = metadata if isinstance(metadata, dict) else {}
        scores: dict[str, float] = {}
        for name, score in (sample.get("scores") or {}).items():
            value = score.get("value") if isinstance(score, dict) else None
            entries = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
            scores |= {entry: _grade(v) for entry, v in entries.items()}
        epoch = int(_number(sample.get("epoch", 1)) or 1)
        asked = hashlib.sha256(json.dumps([sample.get("input"), sample.get("target")]).encode()).hexdigest()
        lines.append(Line(path, number, str(sample["id"]), fields, epoch - 1, scores, asked=asked))
    return Log(path, "Inspect", task, lines)


def _grade(value: Any) -> float:
    return GRADES.get(value, _number(value)) if isinstance(value, str) else _number(value)


def _table(path: Path) -> Log:
    """A CSV file: column `item` names the items; `sample` their samples; every column of numbers is a score."""
    csv.field_size_limit(LARGEST_LINE)
    rows = csv.reader(_lines(path), strict=True)
    try:
        header = next(rows, [])
        if "item" not in header or len(set(header)) < len(header):
            found = ", ".join(map(repr, header[:8]))
            raise UserError(
                f"{path}: no CSV header with a column `item`, each name once (found: {found[:200]})", fix=HOW
            )
        lines = []
        for number, cells in enumerate(rows, start=1):
            if len(cells) != len(header):
                raise UserError(f"{path}, row {number}: {len(cells)} cells under {len(header)} columns", fix=HOW)
            fields = dict(zip(header, cells))
            scores = {name: _number(text) for name, text in fields.items() if name not in ("item", "sample")}
            sample = int(_number(fields.get("sample", "0")) or 0) if fields.get("sample", "0").isdigit() else 0
            lines.append(Line(path, number, fields["item"], fields, sample, scores))
    except csv.Error as error:
        raise UserError(f"{path} is not CSV: {error}", fix=HOW) from None
    return Log(path, "CSV", "", lines)
