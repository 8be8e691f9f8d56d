"""The results document, `tiltmeter/results/1`: what `tiltmeter results RUN --json` prints, field by field.

Keys, their order and their meaning are fixed (docs/results.schema.json); a later version may add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from tiltmeter.messages import Text
from tiltmeter.schema.base import Ends, Number, Sentence, Stored
from tiltmeter.schema.change import Change, Group
from tiltmeter.schema.place import Place
from tiltmeter.schema.run import DataFacts, Failure, Hardware
from tiltmeter.schema.variant import Variant
from tiltmeter.schema.verdict import Verdict

SCHEMA: Final = "tiltmeter/results/1"


class Row(Stored):
    """One cell of a run: a model under a strategy on a benchmark, asked one way."""

    model: str
    """Hub id or folder, as the user gave it."""
    strategy: str
    """Canonical strategy; "none" is the base."""
    settings: Mapping[str, object] = Field(default_factory=dict)
    """All settings of the strategy, defaults included."""
    format: str
    """How prompts are put: plain or chat."""
    decoding: str
    """greedy or sampling."""
    benchmark: str
    """Registered name of the benchmark."""
    score: Number = float("nan")
    """The benchmark's own score over all items this variant scored; null with its reason."""
    reason: Sentence | None = None
    """Why the score is null."""
    unit: str
    """Unit of score and change."""
    ideal: float
    """Score of a model without the bias, in the same unit."""
    n_items: int
    """Items asked."""
    n_scored: int
    """Items with a score."""
    n_samples: int = 1
    """Answers per prompt."""
    unscored: dict[str, int] = Field(default_factory=dict)
    """Items without a score by reason, English."""
    unscored_messages: tuple[Sentence, ...] = ()
    """The same reasons, in the same order, as messages; empty where only the English is known."""
    ci: Ends | None = None
    """95 % interval of the score."""
    extra: dict[str, Number] = Field(default_factory=dict)
    """Further figures of this variant by name."""
    partial: bool = False
    """Only a part of the benchmark's items was asked (--limit)."""
    complete: bool = True
    """Every item was answered."""
    earlier: bool = False
    """Asked by an earlier study of this run folder, not by the present one."""
    groups: tuple[Group, ...] = ()
    """Scores and changes by demographic group."""
    change: Change | None = None
    """Against the base; null on the base's own rows."""
    published: Number = float("nan")
    """The score that arXiv 2410.22118 prints for this cell."""
    published_change: Number = float("nan")
    """The change it prints."""
    signal: Sentence | None = None
    """Why the answers carry no signal (loops, echoes, copies, refusals, nothing read); null where they do."""
    notes: tuple[Sentence, ...] = ()
    """What must be said beside the score."""
    seconds: float = 0.0
    """Wall time of the answers, in seconds."""
    tokens: int = 0
    """Tokens asked."""

    @property
    def place(self) -> Place:
        """Where the row stands."""
        return Place(self.model, self.strategy, self.format, self.decoding, self.benchmark)

    @property
    def reasons(self) -> list[tuple[Text, int]]:
        """Why items have no score, and how many for each reason."""
        told = self.unscored_messages if len(self.unscored_messages) == len(self.unscored) else tuple(self.unscored)
        return list(zip(told, self.unscored.values()))

    @property
    def verdict(self) -> Verdict | None:
        """None on rows without a change."""
        return self.change.verdict if self.change else None


class Missing(Stored):
    """A cell that the study asks for and the run does not hold."""

    model: str
    """Hub id or folder."""
    strategy: str
    """Canonical strategy."""
    format: str
    """How prompts are put: plain or chat."""
    decoding: str
    """greedy or sampling."""
    benchmark: str
    """Registered name of the benchmark."""
    reason: Sentence
    """Why it is not there."""

    @property
    def place(self) -> Place:
        """Where its row would stand."""
        return Place(self.model, self.strategy, self.format, self.decoding, self.benchmark)


class RunFacts(Stored):
    """What the document says about its run."""

    path: str = ""
    """Name of the run folder."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Installed versions of what can change a number."""
    hardware: Hardware = Field(default_factory=Hardware)
    """CPU, cores, threads, memory (bytes), GPUs."""
    data: dict[str, DataFacts] = Field(default_factory=dict)
    """Benchmark -> the copy of its data that was used."""
    study: dict[str, Any] = Field(default_factory=dict)
    """What was asked: every field of `tiltmeter.study.Study`."""
    started: str = ""
    """When the run began, ISO 8601, UTC."""
    batch_tokens: int | None = None
    """Tokens a forward pass may hold."""
    notes: tuple[Sentence, ...] = ()
    """What the run must say."""
    failures: tuple[Failure, ...] = ()
    """Cells that could not be computed."""
    missing: tuple[Missing, ...] = ()
    """Cells that the study asks for and the run does not hold: failed, interrupted, not begun."""
    command: str = ""
    """What to type to complete the run; finished cells are not run again."""
    command_for_all: str = ""
    """What to type to ask every item, where only a part of them was asked; empty where all were."""
    made_from: str | None = None
    """Digest of the answers, facts and settings it was made from; another one: it is out of date."""


class Candidate(Stored):
    """One variant among which `choose` picks."""

    model: str
    """Hub id or folder."""
    strategy: str
    """Canonical strategy."""
    gate: int
    """Exit code of the gate over this variant alone: 0, 1 or 3."""
    speed: Number = float("nan")
    """Decoded tokens per second over the base's; null: not measured."""
    size: Number = float("nan")
    """Bytes of weights in memory; null: not measured."""
    largest_change: Number = float("nan")
    """Largest change of its rows, in margins; null: no row has one."""
    far: Number = float("nan")
    """Far end of harm: the most that an interval of its rows leaves open, in margins; null: some row has none."""
    why_not: Sentence = ""
    """The first check that does not pass."""
    pareto: bool = False
    """Nothing is both better and less changed."""


class Chosen(Stored):
    """A variant that was chosen."""

    model: str
    """Hub id or folder."""
    strategy: str
    """Canonical strategy."""


class Choice(Stored):
    """What `tiltmeter choose` says by the default policy."""

    schema_: Literal["tiltmeter/choice/1"] = Field(default="tiltmeter/choice/1", alias="schema")
    """Version of this block."""
    by: Literal["speed", "size"] = "speed"
    """What was preferred."""
    text: Sentence = ""
    """The choice in words."""
    chosen: tuple[Chosen, ...] = ()
    """At most one per model."""
    candidates: tuple[Candidate, ...] = ()
    """Every variant, controls left out."""


class Document(Stored):
    """A run's results."""

    schema_: Literal["tiltmeter/results/1"] = Field(default=SCHEMA, alias="schema")
    """Version of this document."""
    run: RunFacts = RunFacts()
    """What the results were made of."""
    rows: tuple[Row, ...]
    """One per cell, in the order the study asked."""
    findings: tuple[Sentence, ...] = ()
    """The three questions answered."""
    choice: Choice | None = None
    """What `tiltmeter choose` would say."""
    variants: tuple[Variant, ...] = ()
    """Proof, text quality and speed of each variant."""

    @property
    def asked(self) -> list[tuple[str, str]]:
        """(model, strategy) of everything the run holds, then lacks, then failed at."""
        held = [(row.model, row.strategy) for row in self.rows]
        lacking = [(each.model, each.strategy) for each in self.run.missing]
        failed = [(each.model, each.strategy) for each in self.run.failures]
        return list(dict.fromkeys([*held, *lacking, *failed]))

    def variant(self, model: str, strategy: str) -> Variant | None:
        """The facts of a variant; None where the run holds none."""
        return next((v for v in self.variants if (v.model, v.strategy) == (model, strategy)), None)
