"""What the models of a run are asked: one file of inputs per benchmark, format, decoding, model and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tiltmeter.benchmarks.base import Benchmark, Item
from tiltmeter.errors import UserError
from tiltmeter.messages import Text
from tiltmeter.runs.loading import Loader
from tiltmeter.runs.plan import ways
from tiltmeter.runs.store import Store
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.base import VariantFailed
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.runs.progress import Progress


@dataclass(frozen=True)
class Asked:
    """One written file of inputs, and what it holds."""

    benchmark: str
    format: str
    decoding: str
    n_samples: int
    inputs: str  # its hash
    partial: bool
    notes: list[Text]


class Questions:
    """Written once per model and seed: every strategy of a model is asked the same, but for those with a salt."""

    def __init__(
        self, store: Store, study: Study, benchmarks: Sequence[Benchmark], progress: Progress, loader: Loader
    ) -> None:
        self._store, self._study, self._benchmarks = store, study, benchmarks
        self._progress, self._loader = progress, loader
        self._written: dict[tuple[str, int], list[Asked]] = {}
        self.specs: Sequence[VariantSpec] = ()  # all that will ask

    def of(self, spec: VariantSpec) -> list[Asked]:
        """What a variant is asked, in the order of the study's formats."""
        pair = self._pair(spec)
        if pair not in self._written:
            self._write(pair)
        formats: list[str] = list(self._study.formats)
        return sorted(self._written[pair], key=lambda asked: formats.index(asked.format))

    def _pair(self, spec: VariantSpec) -> tuple[str, int]:
        seed = self._study.seed
        return spec.source, seed_for(seed, spec.chain.salt) if spec.chain.salt else seed

    def _write(self, wanted: tuple[str, int]) -> None:
        """For everyone at once: to read a benchmark's file can take longer than to write what one model is asked. The
        items of one benchmark are in memory at a time. What cannot be asked of another model is said in its turn."""
        open_pairs = (pair for pair in (wanted, *map(self._pair, self.specs)) if pair not in self._written)
        written: dict[tuple[str, int], list[Asked]] = {pair: [] for pair in open_pairs}
        for benchmark in self._benchmarks:
            items, partial = self._items_of(benchmark)
            for pair in list(written):
                try:
                    written[pair].extend(self._files(pair, benchmark, items, partial))
                except (UserError, VariantFailed):
                    if pair == wanted:
                        raise
                    del written[pair]
        self._written |= written

    def _files(self, pair: tuple[str, int], benchmark: Benchmark, items: list[Item], partial: bool) -> Iterator[Asked]:
        """The benchmark's inputs in every format and decoding."""
        source, seed = pair
        identity = self._loader.identity(source)
        for cell_format, decoding in ways(self._study, benchmark):
            render, notes = identity.renderer(cell_format)
            n_samples = self._study.samples if decoding == "sampling" else 1
            rows = (
                (item, benchmark.requests(item, render, decoding=decoding, n_samples=n_samples, seed=seed))
                for item in items
            )
            inputs = self._store.write_inputs(rows)
            yield Asked(benchmark.name, cell_format, decoding, n_samples, inputs, partial, notes)

    def _items_of(self, benchmark: Benchmark) -> tuple[list[Item], bool]:
        """The study's items of a benchmark, and whether they are a part of it."""
        study = self._study
        everything = benchmark.load(Path(study.data).expanduser())
        items = benchmark.subset(everything, study.limit_of(benchmark.name), study.seed)
        partial = len(items) < len(everything)
        if missing := benchmark.too_few(items, everything, study.seed):
            self._progress.warn(str(missing))
        if study.orders == "all":
            items = benchmark.all_orders(items)
        if study.robust:
            items = items + benchmark.robust_items(items)
        return items, partial
