"""What a study would ask, cost and be able to find: told before anything is downloaded, loaded or computed.

    requests   counted from the items as they will be asked; unknown where the data are absent
    tokens     a sample of the requests, by the model's tokenizer where it is on this machine, else 4 characters a
               token; prefixes that requests share are counted in every request, though they are computed once
    time       2 x parameters x tokens, at the rate that a product of the model's own shape reaches here in a moment's
               measurement (many rows for reading, few for writing); an order of magnitude
    change     `compare` on imagined answers of the same items, of which about 5 % turn, at the level that the
               correction leaves to one hypothesis: the smallest true change found with 80 % power

Nothing is refused. What could not be judged at this size is said.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tiltmeter.analysis.change import Change
from tiltmeter.analysis.compare import compare
from tiltmeter.analysis.judge_all import Row, settle
from tiltmeter.benchmarks.base import NAN, Benchmark, Decoding, Item
from tiltmeter.benchmarks.imagined import imagined_outcomes
from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.registry import build
from tiltmeter.runs.plan import ways
from tiltmeter.scoring.requests import Format, Generation, Prompt, Request, SequenceLogprob
from tiltmeter.seeds import seed_for
from tiltmeter.study import Study

SAMPLE = 64  # requests whose tokens are counted, per benchmark and format
CHARACTERS = 4  # a token of English, where no tokenizer is at hand
DRAWS = 200  # a standard error to 5 %
SECONDS = 0.15  # of each measurement
READING_ROWS, WRITING_ROWS = 512, 64  # rows of a product: a batch of prompts; sequences written side by side


@dataclass(frozen=True)
class Part:
    """One benchmark asked one way, per variant."""

    benchmark: Benchmark
    format: Format
    decoding: Decoding
    n_items: int
    n_requests: int  # 0: unknown, the data are absent
    read_tokens: float  # NaN: unknown
    written_tokens: float  # at most
    mde: float  # in `unit`; NaN: unknown
    unit: str
    warning: Text | None  # why no verdict could be given


@dataclass(frozen=True)
class Forecast:
    """variants: base included; weight_bytes, seconds: NaN where the model is not on this machine."""

    study: Study
    n_variants: int
    parts: tuple[Part, ...]
    weight_bytes: float
    seconds: float
    free_bytes: float  # memory that is free here
    family: int  # rows that are compared: the correction counts at least as many hypotheses

    @property
    def n_cells(self) -> int:
        return self.n_variants * len(self.parts)

    @property
    def n_requests(self) -> int:
        return self.n_variants * sum(part.n_requests for part in self.parts)

    @property
    def tokens(self) -> tuple[float, float]:
        """Read, and written at most, of all variants; NaN where a part of them is unknown."""
        return (
            self.n_variants * sum(part.read_tokens for part in self.parts),
            self.n_variants * sum(part.written_tokens for part in self.parts),
        )


def forecast(study: Study) -> Forecast:
    """The plan of a study. Its time goes into reading the data and into the smallest changes of large benchmarks.

    Raises UserError for what the study itself gets wrong: an unknown strategy or benchmark, a malformed data file.
    """
    specs = study.variants()
    folder = next(
        (Path(m).expanduser() for m in study.models if (Path(m).expanduser() / "config.json").is_file()), None
    )
    tokenizer = _tokenizer(folder, study.models[0]) if folder else None
    parts: list[Part] = []
    judged: list[Row] = []
    for name in study.benchmark_names():
        benchmark = build("benchmark", name)
        items = _items(study, benchmark)
        change = _imagined_change(study, benchmark, items) if items else None
        for text_format, decoding in ways(study, benchmark):
            parts.append(_part(study, benchmark, items, text_format, decoding, tokenizer))
            for spec in specs:
                if change is not None and not spec.is_base:
                    judged.append(Row(spec.model, spec.strategy, text_format, decoding, name, change))
    settled = settle(judged, method=study.correction) if judged else []
    found = {(row.benchmark, row.format, row.decoding): change for row, change in zip(judged, settled)}
    parts = [_told(part, found.get((part.benchmark.name, part.format, part.decoding))) for part in parts]
    weights, seconds = NAN, NAN
    if folder:
        weights, seconds = _cost(folder, parts, len(specs))
    free = float(psutil.virtual_memory().available)
    return Forecast(study, len(specs), tuple(parts), weights, seconds, free, len(judged))


def _items(study: Study, benchmark: Benchmark) -> list[Item]:
    """The items as they will be asked; none where their data are absent."""
    data = Path(study.data).expanduser()
    if not all((data / file).is_file() for file in benchmark.files):
        return []
    items = benchmark.subset(benchmark.load(data), study.limit_of(benchmark.name), study.seed)
    return benchmark.all_orders(items) if study.orders == "all" else items


def _part(
    study: Study, benchmark: Benchmark, items: Sequence[Item], text_format: Format, decoding: Decoding, tokenizer: Any
) -> Part:
    n_samples = study.samples if decoding == "sampling" else 1
    if not items:
        limit = study.limit_of(benchmark.name) or benchmark.n_items
        return Part(benchmark, text_format, decoding, min(limit, benchmark.n_items), 0, NAN, NAN, NAN, "", None)

    def render(prompt: Prompt) -> str:
        return prompt.plain

    rng = np.random.default_rng(seed_for(study.seed, "forecast", benchmark.name))
    chosen = sorted(int(i) for i in rng.permutation(len(items))[:SAMPLE])
    asked = [
        benchmark.requests(items[i], render, decoding=decoding, n_samples=n_samples, seed=study.seed) for i in chosen
    ]
    scale = len(items) / len(chosen)
    requests = [request for each in asked for request in each]
    read = sum(_length(request, tokenizer) for request in requests) * scale
    written = sum(r.max_new_tokens for r in requests if isinstance(r, Generation)) * scale
    return Part(
        benchmark, text_format, decoding, len(items), round(len(requests) * scale), read, written, NAN, "", None
    )


def _length(request: Request, tokenizer: Any) -> float:
    text = request.text if isinstance(request, SequenceLogprob) else request.prompt
    return len(tokenizer(text)["input_ids"]) if tokenizer else len(text) / CHARACTERS


def _tokenizer(folder: Path, model: str) -> Any:
    from tiltmeter.models.reading import load_tokenizer

    try:
        return load_tokenizer(folder, model)
    except UserError:
        return None  # the run itself says why


def _imagined_change(study: Study, benchmark: Benchmark, items: Sequence[Item]) -> Change | None:
    seed = seed_for(study.seed, "imagined", benchmark.name)
    base, variant = imagined_outcomes(benchmark, items, seed=seed)
    if base is None or variant is None:
        return None
    margin = study.margins.get(benchmark.name, benchmark.margin)
    return compare(benchmark.comparison(base, variant, margin=margin), seed=study.seed, draws=DRAWS)


def _told(part: Part, change: Change | None) -> Part:
    if change is None:
        return part
    spread = change.companion if change.rests_on == "spread" else None
    usable = change.n_clusters if change.n_usable is None else change.n_usable
    warning: Text | None = None
    if change.n_paired < change.minimum_paired:
        warning = say("forecast.few_items", n=change.n_paired, least=change.minimum_paired)
    elif change.rests_on != "spread" and usable < change.fewest_clusters:
        warning = say("forecast.few_clusters", n=usable, least=change.fewest_clusters)
    elif spread is not None and (spread.reason or spread.n_clusters < spread.fewest_clusters):
        warning = say("forecast.few_clusters", n=spread.n_clusters, least=spread.fewest_clusters)
    elif math.isfinite(change.mde) and change.mde > change.margin:
        warning = say("forecast.above_margin", margin=f"{change.margin:g}")
    return replace(part, mde=change.mde, unit=spread.unit if spread else part.benchmark.unit, warning=warning)


def _cost(folder: Path, parts: Sequence[Part], variants: int) -> tuple[float, float]:
    """(bytes of the weights in float32, seconds of all variants) of the model in a folder; NaN where unknown."""
    parameters = _parameters(folder)
    if not parameters:
        return NAN, NAN
    width = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("hidden_size") or 1024
    read = sum(part.read_tokens for part in parts)
    written = sum(part.written_tokens for part in parts)
    fast, slow = (_flops(rows, min(int(width), 8192)) for rows in (READING_ROWS, WRITING_ROWS))
    return 4.0 * parameters, variants * 2 * parameters * (read / fast + written / slow)


def _parameters(folder: Path) -> int:
    """Entries of all tensors, from the headers of the safetensors files; 0 where there are none."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < 100 * 2**20 else {}
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def _flops(rows: int, width: int) -> float:
    """Floating-point operations a second of (rows, width) x (width, 4 width) here, were nobody else computing.

    On a CPU by the processor time of torch's threads, else a busy machine would look slow for good.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.ones(rows, width, device=device), torch.ones(width, 4 * width, device=device)
    (a @ b)[0, 0].item()  # the first loads kernels
    until, times, of_processor, started = time.perf_counter() + SECONDS, 0, time.process_time(), time.perf_counter()
    while time.perf_counter() < until:
        (a @ b)[0, 0].item()  # waits for the device
        times += 1
    seconds = time.perf_counter() - started
    if device == "cpu":
        seconds = min(seconds, (time.process_time() - of_processor) / torch.get_num_threads())
    return times * 2 * rows * width * 4 * width / max(seconds, 1e-9)
