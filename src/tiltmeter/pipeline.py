"""The whole story of a run: variants x benchmarks -> answers -> results.

For every model and strategy: load it once, prove that it acted, ask every unfinished cell batch by
batch (a batch is committed before the next begins), then measure text quality. Statistics are made
from the stored answers at the end, by ``tiltmeter.results``. A cell or a variant that cannot be
computed is recorded with its reason and the rest goes on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiltmeter import environment
from tiltmeter.benchmarks.base import Benchmark, Item
from tiltmeter.errors import UserError
from tiltmeter.loading import Loader
from tiltmeter.registry import build
from tiltmeter.scoring.backends.base import BackendFailed
from tiltmeter.scoring.requests import Answer
from tiltmeter.seeds import seed_for
from tiltmeter.store import Cell, CellId, Store, digest, read_json, variant_file, write_json
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.progress import Progress
    from tiltmeter.strategies.chain import Chain

@dataclass
class RunSummary:
    """What a run did: folder, cells finished now and before, failures as {model, strategy, …, reason}."""

    path: Path
    computed: int = 0
    reused: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)


def run(study: Study, out: Path, progress: Progress | None = None) -> RunSummary:
    """Compute every unfinished cell of the study into `out`, then its results.

    Raises UserError for a mistake in the study, missing data, a base model that cannot be loaded, or a
    folder that another process writes. Everything finished before stays.
    """
    from tiltmeter.progress import Silent

    progress = progress or Silent()
    specs = study.variants()
    benchmarks = [build("benchmark", name) for name in study.benchmark_names()]
    data = Path(study.data).expanduser()
    with Store(out) as store:
        environment.check_data(benchmarks, data)
        record = environment.begin(store, study, benchmarks, data)
        work = _Work(store, study, benchmarks, record, progress)
        summary = RunSummary(out)
        work.check(specs)
        for spec in specs:
            work.variant(spec, summary)
        if study.text_quality:
            from tiltmeter.text_quality import judge_answers

            try:
                judge_answers(store, study, work.loader)
            except BackendFailed as error:  # a served base that is gone: all else of the run stands
                work.fail(summary, specs[0], None, f"text quality: {error}")
        work.loader.release()
        write_json(out / "failures.json", summary.failures)
        from tiltmeter.results import write_results

        progress.note("statistics …")
        write_results(out)
    return summary


@dataclass(frozen=True)
class _Asked:
    """One written file of inputs, and what it holds."""

    benchmark: str
    format: str
    decoding: str
    n_samples: int
    inputs: str  # its hash
    partial: bool
    notes: list[str]


class _Work:
    def __init__(
        self, store: Store, study: Study, benchmarks: list[Benchmark], record: dict[str, Any], progress: Progress
    ) -> None:
        self.store, self.study, self.benchmarks = store, study, benchmarks
        self.record, self.progress = record, progress
        self.loader = Loader(study, record, store.path / "run.json", progress)
        self._written: dict[tuple[str, int], list[_Asked]] = {}

    def check(self, specs: list[VariantSpec]) -> None:
        """Raises UserError for an absent model, tokenizer, chat template or GPU before anything is computed."""
        from tiltmeter.scoring.prompts import renderer

        for source in dict.fromkeys(spec.source for spec in specs):
            tokenizer = self.loader.identity(source).tokenizer
            for cell_format in self.study.formats:
                renderer(cell_format, tokenizer)

    def variant(self, spec: VariantSpec, summary: RunSummary) -> None:
        """Ask everything that is still open for one variant."""
        from tiltmeter.strategies.base import VariantFailed

        try:
            open_cells = self._open_cells(spec, summary)
            file = variant_file(self.store.path, spec.model, spec.strategy)
            quality_missing = self.study.text_quality and "text_quality" not in (read_json(file) or {})
            if not open_cells and not quality_missing:
                return
            variant = self.loader.load(spec)
        except (UserError, VariantFailed) as error:
            if spec.is_base and isinstance(error, UserError):
                raise
            self.fail(summary, spec, None, str(error))
            return
        facts = read_json(file) or {}
        facts.update(
            model=spec.model,
            strategy=spec.strategy,
            settings=dict(variant.settings) | dict(self.loader.identity(spec.source).settings),
            proof=variant.proof,
            notes=variant.notes,
            dtype=variant.dtype,
            device=variant.device,
            weight_hash=variant.weight_hash,
        )
        write_json(file, facts)
        for cell in open_cells:
            try:
                self._ask(cell, spec.chain.salt)
                summary.computed += 1
            except UserError:
                raise
            except Exception as error:  # one broken cell must not cost the others; it is named in the run
                if self.progress.debug:
                    raise
                self.fail(summary, spec, cell.id, f"{type(error).__name__}: {error}")
        if quality_missing:
            from tiltmeter.text_quality import measure_text

            facts = read_json(file)
            try:
                facts["text_quality"] = measure_text(variant, self.loader.engine(), self.study)
            except BackendFailed as error:
                self.fail(summary, spec, None, f"text quality: {error}")
                return
            write_json(file, facts)

    def fail(self, summary: RunSummary, spec: VariantSpec, cell: CellId | None, reason: str) -> None:
        cells = [cell] if cell else []
        summary.failures.append(
            {
                "model": spec.model,
                "strategy": spec.strategy,
                "reason": reason,
                "cells": [f"{c.format}-{c.decoding} {c.benchmark}" for c in cells] or "all",
            }
        )
        self.progress.warn(f"{spec.model} · {spec.strategy}: {reason}")

    def _open_cells(self, spec: VariantSpec, summary: RunSummary) -> list[Cell]:
        """Cells without done.json, their inputs written. The tokenizer suffices: no weights are loaded."""
        chain = spec.chain
        identity = self.loader.identity(spec.source)
        seed = seed_for(self.study.seed, chain.salt) if chain.salt else self.study.seed
        result = []
        for asked in self._asked(spec.source, seed):
            cell = Cell(
                self.store.path,
                CellId(
                    model=spec.model,
                    strategy=spec.strategy,
                    settings=self._settings(chain) | dict(identity.settings),
                    format=asked.format,
                    decoding=asked.decoding,
                    benchmark=asked.benchmark,
                    weight_hash=identity.weight_hash,
                    inputs=asked.inputs,
                    dtype=identity.dtype,
                    n_samples=asked.n_samples,
                    partial=asked.partial,
                ),
            )
            environment.remember_cell(self.store, self.record, cell.id, asked.notes)
            if cell.done is None:
                result.append(cell)
            else:
                summary.reused += 1
        return result

    def _asked(self, source: str, seed: int) -> list[_Asked]:
        """What one model is asked under one seed, written once: every strategy of it is asked the same."""
        if (source, seed) not in self._written:
            self._written[source, seed] = [
                asked for benchmark in self.benchmarks for asked in self._write_inputs(source, seed, benchmark)
            ]
        formats: list[str] = list(self.study.formats)
        return sorted(self._written[source, seed], key=lambda asked: formats.index(asked.format))

    def _write_inputs(self, source: str, seed: int, benchmark: Benchmark) -> Iterator[_Asked]:
        """The benchmark's inputs in every format and decoding. Its items are in memory only here."""
        from tiltmeter.scoring.prompts import renderer

        items, partial = self._items_of(benchmark)
        for cell_format in self.study.formats:
            render, notes = renderer(cell_format, self.loader.identity(source).tokenizer)
            if cell_format not in benchmark.formats:
                continue
            for decoding in self.study.decodings:
                if decoding not in benchmark.decodings:
                    if decoding == "sampling" and "greedy" in self.study.decodings:
                        continue
                    decoding = "greedy"
                n_samples = self.study.samples if decoding == "sampling" else 1
                rows = (
                    (item, benchmark.requests(item, render, decoding=decoding, n_samples=n_samples, seed=seed))
                    for item in items
                )
                inputs = self.store.write_inputs(rows)
                yield _Asked(benchmark.name, cell_format, decoding, n_samples, inputs, partial, notes)

    def _settings(self, chain: Chain) -> dict[str, Any]:
        """The chain's full settings; with the calibration text they depend on, by content, and the run's seed."""
        from tiltmeter.strategies._calibration import BUILT_IN

        settings = dict(chain.settings)
        if any(hasattr(part, "calibration") for part in chain.parts):
            path = Path(self.study.calibration).expanduser() if self.study.calibration else BUILT_IN
            text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else self.study.calibration
            settings["run"] = {"calibration_text": text, "seed": self.study.seed}
        return settings

    def _items_of(self, benchmark: Benchmark) -> tuple[list[Item], bool]:
        """The study's items of a benchmark, and whether they are a part of it."""
        everything = benchmark.load(Path(self.study.data).expanduser())
        items = benchmark.subset(everything, self.study.limit_of(benchmark.name), self.study.seed)
        partial = len(items) < len(everything)
        if self.study.robust:
            items = items + benchmark.robust_items(items)
        return items, partial

    def _ask(self, cell: Cell, salt: str) -> None:
        """Every request of the cell that has no committed answer yet, batch by batch."""
        from tiltmeter.scoring.engine import is_out_of_memory

        engine = self.loader.engine()
        cell.start()
        answered = {index for batch in cell.batches() for index, _ in batch["rows"]}
        plan = self._halved(cell, engine.plan(cell.inputs.requests(), salt=salt))
        with self.progress.cell(cell.id, cell.inputs.n_requests, len(answered)) as bar:
            queue = [batch for batch in plan if not answered.issuperset(batch)]
            while queue:
                batch = queue.pop(0)
                started, before = time.perf_counter(), engine.stats.tokens_asked
                try:
                    answers: list[Answer] = engine.answer(cell.inputs.requests_at(batch))
                except Exception as error:
                    if not is_out_of_memory(error) or len(batch) == 1:
                        raise
                    self._remember_halving(cell, batch)
                    queue = [batch[: len(batch) // 2], batch[len(batch) // 2 :], *queue]
                    continue
                cell.commit(
                    list(zip(batch, answers)),
                    seconds=time.perf_counter() - started,
                    tokens=engine.stats.tokens_asked - before,
                    notes=list(engine.notes),
                )
                bar.advance(len(batch), engine.stats)
        cell.finish()

    def _halved(self, cell: Cell, plan: list[list[int]]) -> list[list[int]]:
        """The plan with the halvings that earlier out-of-memory errors wrote down."""
        halved = {digest(batch) for batch in read_json(cell.path / "halved.json", [])}

        def split(batch: list[int]) -> Iterator[list[int]]:
            if digest(batch) in halved:
                yield from split(batch[: len(batch) // 2])
                yield from split(batch[len(batch) // 2 :])
            else:
                yield batch

        return [part for batch in plan for part in split(batch)]

    def _remember_halving(self, cell: Cell, batch: list[int]) -> None:
        write_json(cell.path / "halved.json", [*read_json(cell.path / "halved.json", []), batch])
        self.progress.warn(f"out of memory: halving a batch of {len(batch)} in {cell.id.benchmark}")
