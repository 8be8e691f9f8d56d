"""A results document as the report's parts see it: rows with names, verdict signs and printed numbers.

Nothing is computed here: values are selected, ordered, counted and formatted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from tiltmeter.benchmarks.base import Benchmark, GroupWords
from tiltmeter.decisions.controls import controls_of, is_control
from tiltmeter.messages import Text
from tiltmeter.printed import NONE, defined, digits, interval, number, signed
from tiltmeter.registry import known
from tiltmeter.report.words import Told, Words
from tiltmeter.schema import Document, Place, Row, Variant, Verdict
from tiltmeter.schema.place import NONE as NO_STRATEGY
from tiltmeter.schema.place import is_base
from tiltmeter.schema.results import Missing

Counts = dict[Verdict | None, int]  # None: rows without a verdict


@dataclass(frozen=True)
class Panel:
    """Rows asked the same way: one model, format, decoding."""

    model: str
    format: str
    decoding: str
    strategies: tuple[str, ...]
    benchmarks: tuple[str, ...]


def is_toy(model: str) -> bool:
    """The built-in demonstration model: its world is invented, and the page must say so."""
    return "tiltmeter/demo/" in model.replace("\\", "/")


class View:
    """Read access to one results document in one language."""

    def __init__(self, document: Document, words: Words) -> None:
        self.document, self.words = document, words
        self.rows, self.run, self.variants = document.rows, document.run, document.variants
        self._number = {row.place: number for number, row in enumerate(self.rows)}
        self._rows = {row.place: row for row in self.rows}

    @cached_property
    def controls(self) -> frozenset[str]:
        """Checkpoints and endpoints that are the base itself in another engine."""
        return controls_of(self.variants)

    @cached_property
    def compared(self) -> list[Row]:
        """Rows that have a change."""
        return [row for row in self.rows if row.change]

    @cached_property
    def accelerated(self) -> list[Row]:
        """Rows that have a change and measure an acceleration: controls are left out."""
        return [row for row in self.compared if not is_control(row.strategy, self.controls)]

    @cached_property
    def models(self) -> list[str]:
        return list(dict.fromkeys(row.model for row in self.rows))

    @cached_property
    def benchmarks(self) -> list[str]:
        return list(dict.fromkeys(row.benchmark for row in self.rows))

    @cached_property
    def strategies(self) -> list[str]:
        """Strategies of the variants, the base left out, in the run's order."""
        return list(dict.fromkeys(row.strategy for row in self.rows if not row.place.is_base))

    def base_of(self, row: Row) -> Row | None:
        return self._rows.get(row.place.base)

    def place(self, row: Row) -> int:
        """Position in the document; names the row in links and in the examples' data."""
        return self._number[row.place]

    def row_id(self, row: Row) -> str:
        return f"row-{self.place(row)}"

    def panels(self) -> Iterator[Panel]:
        """Models in the run's order, then ways of asking."""
        asked: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            asked.setdefault((row.model, row.format, row.decoding), []).append(row)
        order = {model: place for place, model in enumerate(self.models)}
        for key in sorted(asked, key=lambda key: (order[key[0]], key[1] != "plain", key[2] != "greedy")):
            yield Panel(
                *key,
                tuple(dict.fromkeys(row.strategy for row in asked[key] if not row.place.is_base)),
                tuple(dict.fromkeys(row.benchmark for row in asked[key])),
            )

    def cell(self, panel: Panel, strategy: str, benchmark: str) -> Row | None:
        return self._rows.get(Place(panel.model, strategy, panel.format, panel.decoding, benchmark))

    def base_cell(self, panel: Panel, benchmark: str) -> Row | None:
        return self.cell(panel, NO_STRATEGY, benchmark)

    def counts(self, rows: Sequence[Row] | None = None) -> Counts:
        """Verdict -> number of rows, in the order of verdicts; rows without one under None."""
        found = Counter(row.verdict for row in (self.compared if rows is None else rows))
        return {verdict: found[verdict] for verdict in (*Verdict, None) if found[verdict]}

    def sign(self, verdict: Verdict | None) -> str:
        return verdict.sign if verdict else NONE

    def colour(self, verdict: Verdict | None) -> str:
        return verdict.colour if verdict else Verdict.NOT_EXERCISED.colour

    def verdict_words(self, verdict: Verdict | None) -> str:
        return self.words(f"verdict.{verdict or 'none'}")

    def asked(self, row: Row | Panel | Missing) -> str:
        """plain · greedy, in words."""
        return f"{self.words.name('format', row.format)} · {self.words.name('decoding', row.decoding)}"

    @cached_property
    def asked_one_way(self) -> bool:
        return len({row.place.asked for row in self.rows}) < 2

    def short(self, model: str) -> str:
        """A model's name without its folder or owner, unless two would then be the same."""
        if is_toy(model):
            return self.words("answer.demo_model")
        last = model.rstrip("/").rsplit("/", 1)[-1]
        return last if [other.rstrip("/").rsplit("/", 1)[-1] for other in self.models].count(last) == 1 else model

    def strategy(self, name: str) -> str:
        return self.words("strategy.none") if is_base(name) else name

    def variant_name(self, variant: Variant | Row) -> str:
        """The strategy; the model's name too where the run has several."""
        name = self.strategy(variant.strategy)
        return f"{self.short(variant.model)} · {name}" if len(self.models) > 1 else name

    # words of benchmarks

    def group_words(self, benchmark: str) -> GroupWords:
        """What a change means for a group; the general words for a benchmark that is not installed here."""
        cls: type[Benchmark] | None = known("benchmark").get(benchmark)
        return cls.words if cls else GroupWords()

    def attribute(self, benchmark: str, name: str) -> str:
        """What readers call an attribute of a benchmark's groups."""
        own = self.group_words(benchmark).attributes.get(name)
        return str(self.told(own)) if own else self.words.name("attribute", name)

    def group(self, benchmark: str, name: str) -> str:
        """What readers call a group of a benchmark."""
        own = self.group_words(benchmark).groups.get(name)
        return str(self.told(own)) if own else self.words.name("group", name)

    # stored sentences

    def told(self, text: Text | None) -> Told:
        """A sentence in the report's language, models by their short names."""
        return self.words.told(text, self._short_names)

    @cached_property
    def _short_names(self) -> dict[str, str]:
        return {model: self.short(model) for model in self.models}

    def reason(self, row: Row) -> Told:
        """Why the row has its verdict."""
        return self.told(row.change.reason) if row.change else Told("")

    # printed numbers

    def score(self, row: Row) -> str:
        return number(row.score, digits(row.unit))

    def delta(self, row: Row) -> str:
        return signed(row.change.delta, digits(row.unit)) if row.change else NONE

    def ci(self, row: Row) -> str:
        return interval(row.change.ci, digits(row.unit)) if row.change else NONE

    def ci_or_none(self, row: Row) -> str:
        """The interval, or words that there is none: for places without a column of its own."""
        found = self.ci(row)
        return self.words("word.no_interval") if found == NONE else found

    def unit(self, row: Row) -> str:
        """Unit of a change: points where the score is in percent."""
        return self.words("unit.points") if row.unit == "percent" else self.words.name("unit", row.unit)

    def has_change(self, row: Row) -> bool:
        return row.change is not None and defined(row.change.delta)

    def spread(self, row: Row) -> str:
        """Base -> variant of the noise-corrected spread the verdict rests on; empty where it rests on the score."""
        spread = row.change.spread if row.change else None
        if spread is None or not (defined(spread.base) and defined(spread.variant)):
            return ""
        return f"{number(spread.base, digits(spread.unit))} → {number(spread.variant, digits(spread.unit))}"

    def rests_on_companion(self, row: Row) -> bool:
        return row.change is not None and row.change.rests_on == "spread" and defined(row.change.companion_delta)

    def label(self, row: Row) -> str:
        """model · strategy · benchmark (· how asked, where that differs within the run)."""
        parts = [self.short(row.model)] if len(self.models) > 1 else []
        parts += [self.strategy(row.strategy), row.benchmark]
        return " · ".join(parts if self.asked_one_way else [*parts, self.asked(row)])

    def sentence(self, row: Row) -> str:
        """The row in one line, for screen readers and tooltips: change, interval, verdict."""
        return self.words(
            "row.sentence",
            label=self.label(row),
            delta=self.delta(row),
            unit=self.unit(row),
            ci=self.ci(row),
            verdict=self.verdict_words(row.verdict),
        )
