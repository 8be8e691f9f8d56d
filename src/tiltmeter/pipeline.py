"""The whole story of a run: variants x benchmarks -> answers -> results.

For every model and strategy: load it once, prove that it acted, ask every unfinished cell batch by
batch (a batch is committed before the next begins), then measure text quality. Statistics are made
from the stored answers at the end, by ``tiltmeter.results.computed``. A cell or a variant that cannot be
computed is recorded with its reason and the rest goes on.

Who answers is the loader's business: this process (``tiltmeter.runs.loading``) or the workers of a Ray
cluster (``tiltmeter.distributed.cluster``). What is asked, and every file of the run, is this module's.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tiltmeter.backends.base import BackendFailed
from tiltmeter.benchmarks.base import Benchmark
from tiltmeter.distributed.cluster import connect
from tiltmeter.errors import UserError
from tiltmeter.models.address import is_address
from tiltmeter.registry import build
from tiltmeter.results.computed import write_results
from tiltmeter.runs import record as run_record
from tiltmeter.runs.fidelity import Beside, forget
from tiltmeter.runs.loading import Loader
from tiltmeter.runs.progress import Silent
from tiltmeter.runs.questions import Questions
from tiltmeter.runs.spending import estimate, taken
from tiltmeter.runs.store import (
    Cell,
    CellId,
    Store,
    digest,
    read_json,
    started_cells,
    stored_variant,
    variant_file,
    write_json,
    write_variant,
)
from tiltmeter.runs.summary import RunSummary
from tiltmeter.runs.text_quality import judge_answers, measure_text, text_key
from tiltmeter.schema import Failure, Proof, RunRecord, Variant
from tiltmeter.schema.run import cell_of
from tiltmeter.strategies.base import VariantFailed
from tiltmeter.strategies.calibration import BUILT_IN, Calibrated
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.runs.progress import Progress
    from tiltmeter.strategies.chain import Chain


WITHOUT_BASE = "check the model, and whether its libraries know it; --debug shows where it fails"


@dataclass(frozen=True)
class _Job:
    """One variant: what is still open for it, and what came of it so far."""

    spec: VariantSpec
    cells: list[Cell]
    text: bool  # whether its text quality is missing
    summary: RunSummary
    key: str = ""  # what its facts belong to: weights, strategy, settings, dtype
    stale: bool = False  # whether the facts in the folder are none, or belong to another key
    fidelity: str = ""  # key of the fidelity that is missing (of the base: that any of its variants misses)

    def __bool__(self) -> bool:
        return bool(self.cells) or self.text or self.stale or bool(self.fidelity)


def run(study: Study, out: Path, progress: Progress | None = None, ray: str | None = None) -> RunSummary:
    """Compute every unfinished cell of the study into `out`, then its results.

    `ray` is the address of a Ray cluster that computes (`tiltmeter.distributed.cluster`), no part of the study:
    a run may be begun with it and finished without. Raises UserError for a mistake in the study, missing data,
    a base model that cannot be loaded, a cluster out of reach, or a folder that another process writes.
    Everything finished before stays.
    """
    progress = progress or Silent()
    specs = study.variants()
    benchmarks = [build("benchmark", name) for name in study.benchmark_names()]
    data = Path(study.data).expanduser()
    with Store(out) as store:
        run_record.check_data(benchmarks, data)
        record = run_record.begin(store, study, benchmarks, data)
        summary = RunSummary(out)
        with _loader(study, record, out / "run.json", progress, ray) as loader:
            work = _Work(store, study, benchmarks, record, progress, loader)
            work.check(specs)
            work.count_spent(specs)
            for part in loader.each(work.variant, map(work.job, specs)):
                summary.add(part)
            forget(out)
            if study.text_quality:
                judge_answers(store, study, loader, lambda reason: work.fail(summary, specs[0], None, reason))
        write_json(out / "failures.json", [failure.as_json() for failure in summary.failures])
        progress.note("statistics …")
        write_results(out)
    return summary


def _loader(study: Study, record: RunRecord, path: Path, progress: Progress, ray: str | None) -> Loader:
    if ray is None:
        return Loader(study, record, path, progress)
    return connect(ray, study, record, path, progress)


def reason_of(error: Exception) -> str:
    """Why something could not be computed: the error's own text, after the name of an unexpected kind."""
    expected = isinstance(error, (UserError, VariantFailed, BackendFailed))
    return str(error) if expected else f"{type(error).__name__}: {error}"


class _Work:
    def __init__(
        self,
        store: Store,
        study: Study,
        benchmarks: list[Benchmark],
        record: RunRecord,
        progress: Progress,
        loader: Loader,
    ) -> None:
        self.store, self.study = store, study
        self.record, self.progress, self.loader = record, progress, loader
        self._questions = Questions(store, study, benchmarks, progress, loader)
        self._beside = Beside(store.path, study, self._key, self._questions.of)

    def check(self, specs: list[VariantSpec]) -> None:
        """Raises UserError for an absent model, tokenizer, chat template or GPU before anything is computed."""
        self._beside.specs = self._questions.specs = specs
        of_weights: dict[str, str] = {}
        for source in dict.fromkeys(spec.source for spec in specs):
            identity = self.loader.identity(source)
            for cell_format in self.study.formats:
                identity.renderer(cell_format)
            if source in self.study.models:
                other = of_weights.setdefault(identity.weight_hash, source)
                if other != source:  # answers are kept by weights: the two would share every cell, and one row be lost
                    raise UserError(
                        f"{other} and {source} hold the same weights and tokenizer",
                        fix="name one of them; the same model asked twice is: -s rerun",
                    )

    def count_spent(self, specs: list[VariantSpec]) -> None:
        """What served models have taken in this folder so far, where a budget asks for it."""
        if self.study.budget is not None:
            served = {spec.strategy for spec in specs if is_address(spec.source)}
            cells = [cell for cell in started_cells(self.store.path) if cell.id.strategy in served]
            self.loader.spending.spent = taken(cells)

    def job(self, spec: VariantSpec) -> _Job:
        """What is still open for one variant: its inputs are written, none of its weights is read."""
        summary = RunSummary(self.store.path)
        try:
            cells = self._open_cells(spec, summary)
        except (UserError, VariantFailed) as error:
            self._cannot_load(spec, error, summary)
            return _Job(spec, [], False, summary)
        key = self._key(spec)
        facts = stored_variant(self.store.path, spec.model, spec.strategy)
        stale = facts is None or facts.key != key
        measured = None if stale or facts is None else facts.text_quality
        text = self.study.text_quality and (measured is None or measured.key != digest([key, text_key(self.study)]))
        return _Job(spec, cells, text, summary, key, stale, self._beside.lacking(spec))

    def _key(self, spec: VariantSpec) -> str:
        """What a variant's facts belong to."""
        identity = self.loader.identity(spec.source)
        settings = {**self._settings(spec.chain), **identity.settings}
        return digest([identity.weight_hash, spec.strategy, settings, identity.dtype])

    def variant(self, job: _Job) -> RunSummary:
        """Ask everything that is still open for one variant. Several may run at a time, each in a thread."""
        spec, summary = job.spec, job.summary
        if not job:
            return summary
        if job.stale:  # proof, text quality and speed of other weights, settings or dtype
            variant_file(self.store.path, spec.model, spec.strategy).unlink(missing_ok=True)
        if is_address(spec.source) and job.cells:
            self.progress.note(estimate(spec.source, job.cells))
        try:
            variant = self.loader.load(spec)
        except Exception as error:  # whatever a library raises on one variant must not cost the others
            if self.progress.debug and not isinstance(error, (UserError, VariantFailed)):
                raise
            self._cannot_load(spec, error, summary)
            return summary
        known = stored_variant(self.store.path, spec.model, spec.strategy)
        facts = Variant(
            model=spec.model,
            strategy=spec.strategy,
            settings=dict(variant.settings) | dict(self.loader.identity(spec.source).settings),
            proof=Proof.of(variant.proof),
            notes=tuple(variant.notes),
            dtype=variant.dtype,
            device=variant.device,
            weight_hash=variant.weight_hash,
            key=job.key,
            text_quality=known.text_quality if known else None,
            speed=known.speed if known else None,
            fidelity=known.fidelity if known else None,
        )
        write_variant(self.store.path, facts)
        for cell in job.cells:
            try:
                self._ask(cell, spec)
                summary.computed += 1
            except UserError:
                raise
            except Exception as error:  # one broken cell must not cost the others; it is named in the run
                if self.progress.debug:
                    raise
                self.fail(summary, spec, cell.id, reason_of(error))
        if job.fidelity:
            self.progress.note(f"{spec.strategy} · fidelity …")
            try:
                measured = self._beside.measured(spec, job.fidelity, variant)
                facts = facts if spec.is_base else facts.but(fidelity=measured)
                write_variant(self.store.path, facts)
            except Exception as error:  # all else of the run stands without it
                if self.progress.debug:
                    raise
                self.fail(summary, spec, None, f"fidelity: {reason_of(error)}")
        if job.text:
            try:
                quality = measure_text(variant, self.loader.engine(spec), self.study)
            except UserError:
                raise
            except Exception as error:  # all else of the run stands without it
                if self.progress.debug:
                    raise
                self.fail(summary, spec, None, f"text quality: {reason_of(error)}")
                return summary
            quality = quality.model_copy(update={"key": digest([job.key, text_key(self.study)])})
            write_variant(self.store.path, facts.model_copy(update={"text_quality": quality}))
        return summary

    def _cannot_load(self, spec: VariantSpec, error: Exception, summary: RunSummary) -> None:
        """A variant is given up, and named; without its base nothing can be compared, whatever the reason."""
        if spec.is_base and isinstance(error, UserError):
            raise error
        if spec.is_base:
            raise UserError(f"{spec.model} cannot be loaded: {reason_of(error)}", fix=WITHOUT_BASE) from error
        self.fail(summary, spec, None, reason_of(error))

    def fail(self, summary: RunSummary, spec: VariantSpec, cell: CellId | None, reason: str) -> None:
        cells: tuple[str, ...] | Literal["all"] = "all"
        if cell:
            cells = (cell_of(cell.place),)
        summary.failures.append(Failure(model=spec.model, strategy=spec.strategy, reason=reason, cells=cells))
        self.progress.warn(f"{spec.model} · {spec.strategy}: {reason}")

    def _open_cells(self, spec: VariantSpec, summary: RunSummary) -> list[Cell]:
        """Cells without done.json, their inputs written. The tokenizer suffices: no weights are loaded."""
        chain = spec.chain
        identity = self.loader.identity(spec.source)
        result = []
        for asked in self._questions.of(spec):
            cell = Cell(
                self.store.path,
                CellId(
                    model=spec.model,
                    strategy=spec.strategy,
                    settings={**self._settings(chain), **identity.settings},
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
            run_record.remember_cell(self.store, self.record, cell.id, asked.notes)
            if cell.done is None:
                result.append(cell)
            else:
                summary.reused += 1
        return result

    def _settings(self, chain: Chain) -> Mapping[str, object]:
        """The chain's full settings; with the calibration text they depend on, by content, and the run's seed."""
        settings: dict[str, object] = {**chain.settings}
        if any(isinstance(part, Calibrated) for part in chain.parts):
            path = Path(self.study.calibration).expanduser() if self.study.calibration else BUILT_IN
            text = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else self.study.calibration
            settings["run"] = {"calibration_text": text, "seed": self.study.seed}
        return settings

    def _ask(self, cell: Cell, spec: VariantSpec) -> None:
        """Every request of the cell that has no committed answer yet, batch by batch."""
        from tiltmeter.scoring.engine import is_out_of_memory

        engine = self.loader.engine(spec)
        cell.start()
        answered = {index for batch in cell.batches() for index, _ in batch["rows"]}
        plan = self._halved(cell, self.loader.plan(spec, cell.inputs))
        with self.progress.cell(cell.id, cell.inputs.n_requests, len(answered)) as bar:
            queue = deque(batch for batch in plan if not answered.issuperset(batch))
            if queue and (other := run_record.remember_environment(self.store, self.record, cell.id)):
                self.progress.warn(str(other))
            for batch, found in self.loader.answers(spec, queue, cell.inputs.requests_at):
                if isinstance(found, Exception):
                    if not is_out_of_memory(found) or len(batch) == 1:
                        raise found
                    del found  # with it goes what the failed batch held
                    self._remember_halving(cell, batch)
                    queue.extendleft([batch[len(batch) // 2 :], batch[: len(batch) // 2]])
                    continue
                cell.commit(
                    list(zip(batch, found.answers)), seconds=found.seconds, tokens=found.tokens_asked, notes=found.notes
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
