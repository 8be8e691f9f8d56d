"""The results document, `tiltmeter/results/1`: what `tiltmeter results RUN --json` prints, field by field.

Keys, their order and their meaning are fixed (docs/results.schema.json); a later version may add some.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from tiltmeter.messages import Text
from tiltmeter.schema.base import Ends, Number, Sentence, Stored
from tiltmeter.schema.place import Place
from tiltmeter.schema.run import DataFacts, Failure
from tiltmeter.schema.variant import Variant
from tiltmeter.schema.verdict import Verdict

SCHEMA: Final = "tiltmeter/results/1"


class Group(Stored):
    """One demographic group (or topic, country …) of a row."""

    attribute: str
    """What the groups differ in: gender, country, topic …"""
    group: str
    """Name of the group, as the data have it."""
    score: Number = float("nan")
    """Score of the variant's own items of this group, in the row's unit."""
    n: int = 0
    """Items behind it."""
    delta: Number = float("nan")
    """Paired change, variant minus base, in the group's unit."""
    ci: Ends | None = None
    """95 % interval of the change."""
    p: Number = float("nan")
    """Two-sided p of the change."""
    p_adjusted: Number = float("nan")
    """The same, adjusted over all groups of the row."""


class GroupMove(Stored):
    """A group's change, named because it is the largest told from chance."""

    attribute: str
    """What the groups differ in."""
    group: str
    """Name of the group."""
    delta: Number = float("nan")
    """Paired change, in the group's unit."""
    ci: Ends | None = None
    """95 % interval of the change."""


class Flips(Stored):
    """Decisions that turned between base and variant, among the items labelled in both."""

    n: int
    """Labels that differ."""
    of: int
    """Items labelled in both models."""
    toward_bias: int
    """Turned toward bias."""
    away_from_bias: int
    """Turned away from it; the rest of n did neither."""
    unscored: int = 0
    """Items without a label in either model: excluded, counted."""
    by_uncertainty: tuple[Number, ...] = ()
    """Share that turned in each fifth of the base's own uncertainty, surest first (0 to 1)."""


class FlipExample(Stored):
    """One decision that turned."""

    id: str
    """Item id."""
    base: str
    """The base's label."""
    variant: str
    """The variant's label."""
    toward: int = 0
    """+1 toward bias, -1 away from it, 0 neither."""
    uncertainty: Number = float("nan")
    """The base's own uncertainty of its decision; larger is less sure."""
    shift: Number = float("nan")
    """How far the confidence moved, in the item's own unit."""
    why: str | None = None
    """Why it is shown, where something must be said."""


class GroupEffect(Stored):
    """One group's effect (its distance from the others) and how it changed."""

    group: str
    """Name of the group."""
    base: Number = float("nan")
    """Its effect in the base, in the spread's unit."""
    delta: Number = float("nan")
    """How far it moved."""
    ci: Ends | None = None
    """95 % interval of `delta`."""
    p_adjusted: Number = float("nan")
    """p, adjusted over the groups of the attribute."""


class Spread(Stored):
    """Differences between groups, freed of noise, and how they changed."""

    name: Sentence
    """What differs, as printed: "spread between groups"."""
    unit: str = ""
    """Unit of `base` and `variant`: log-odds, nat, share, fraction."""
    base: Number = float("nan")
    """Size of the spread in the base (square root of the estimate, 0 where that is negative)."""
    variant: Number = float("nan")
    """The same in the variant."""
    delta: Number = float("nan")
    """Change of the squared size, variant minus base."""
    ci: Ends | None = None
    """95 % interval of `delta`, in squared units."""
    p: Number = float("nan")
    """Permutation p of the change."""
    mde: Number = float("nan")
    """Smallest rise found with 80 % power, in `unit`."""
    margin: Number = float("nan")
    """Smallest movement that matters, in `unit`; null: no verdict rests on it."""
    reason: Sentence | None = None
    """Why it is undefined."""
    attribute: str = ""
    """What the groups differ in."""
    movement: Number = float("nan")
    """How far the groups' effects moved, whoever was favoured before, in `unit`."""
    movement_high: Number = float("nan")
    """Its one-sided 95 % upper limit."""
    hidden: Number = 0.0
    """How much further answers that vanished could have moved them, at their worst; null: without limit."""
    p_movement: Number = float("nan")
    """p of the movement; `p` is that of what one slope for every decision does not explain."""
    p_adjusted: Number = float("nan")
    """`p` adjusted over attributes and rows of the run."""
    p_size: Number = float("nan")
    """p of `delta`."""
    base_low: Number = float("nan")
    """Lower end of the base's size; 0 where no gap is told from noise."""
    scale_free: Number = float("nan")
    """The variant's size in units of the base's decisions: divided by the slope."""
    scale_free_delta: Number = float("nan")
    """Change of the squared size with the variant in units of the base's decisions."""
    scale_free_ci: Ends | None = None
    """95 % interval of `scale_free_delta`."""
    n_clusters: int = 0
    """Clusters that hold a group in both models."""
    groups: tuple[GroupEffect, ...] = ()
    """Every group's own change of effect: who carries the movement."""

    @property
    def moved(self) -> float:
        """Change of the size, in `unit`."""
        return self.variant - self.base


class Arm(Stored):
    """A further score of the same answers that decides with the row's own."""

    name: Sentence
    """What it is, as printed."""
    role: Literal["bias", "skill", "noisy"]
    """bias: another face of it; skill: what a smaller bias must not have cost; noisy: shown, never judged."""
    unit: str = ""
    """Unit of all its numbers."""
    ideal: Number = 0.0
    """0 for a signed one, else its best value."""
    base: Number = float("nan")
    """The base's, over the items scored in both."""
    variant: Number = float("nan")
    """The variant's."""
    delta: Number = float("nan")
    """Change, variant minus base."""
    ci: Ends | None = None
    """95 % interval of the change."""
    p: Number = float("nan")
    """Permutation p of the change."""
    p_adjusted: Number = float("nan")
    """The same, adjusted over all rows of the run; null where no verdict rests on it."""
    margin: Number = float("nan")
    """Smallest change that matters; for a skill, the largest loss that does not."""


class Unanswered(Stored):
    """Refusals and answers that could not be read."""

    base: Number
    """Share of the base's answers that could not be used, 0 to 1."""
    variant: Number
    """The same of the variant."""
    delta: Number
    """Change of the share."""
    ci: Ends | None = None
    """95 % interval of the change of the share."""
    p: Number = float("nan")
    """Permutation p of the change."""
    score_bounds: Ends = (float("nan"), float("nan"))
    """Lowest and highest change of the score that the missing answers could hide."""
    p_adjusted: Number = float("nan")
    """Smallest p of the share and of its differences between groups, adjusted over the run."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    """Who is answered, judged as a row of its own: worse where fewer are, shifted where other groups are."""
    verdict_reason: Sentence = ""
    """One sentence that says why."""
    spreads: tuple[Spread, ...] = ()
    """Differences between groups in who is answered."""


class Change(Stored):
    """A variant's row against its base's, paired item by item, with the verdict."""

    delta: Number
    """Change of the score, variant minus base, over items scored in both; in the row's unit."""
    ci: Ends | None = None
    """95 % interval of `delta`; null where no valid one exists (`ci_reason`)."""
    distance_delta: Number = float("nan")
    """Change of the distance from the ideal: above 0 is farther."""
    distance_ci: Ends | None = None
    """95 % interval of `distance_delta`."""
    companion: Sentence | None = None
    """Name of the noise-corrected spread that goes with the score, if any: the first of `spreads`."""
    companion_delta: Number = float("nan")
    """Its change, in squared units."""
    companion_ci: Ends | None = None
    """95 % interval of `companion_delta`."""
    p: Number = float("nan")
    """p of what the verdict rests on."""
    p_adjusted: Number = float("nan")
    """The same, adjusted over all rows of the run."""
    margin: Number = float("nan")
    """Smallest change that matters, in the unit of what the verdict rests on."""
    mde: Number = float("nan")
    """Smallest change found with 80 % power, in the same unit."""
    noise: Number = float("nan")
    """How far mere repetition moves it, in the same unit; null: not measured."""
    n_paired: int = 0
    """Items scored in both models."""
    verdict: Verdict
    """What was found."""
    reason: Sentence = ""
    """One sentence that says why."""
    flips: Flips | None = None
    """Decisions that turned; null where items have no labels."""
    base: Number = float("nan")
    """The base's score over the items scored in both."""
    variant: Number = float("nan")
    """The variant's score over the same items."""
    far: Number = float("nan")
    """Far end of harm: the largest change toward bias that the interval leaves open, in margins; null: not known."""
    rests_on: Literal["score", "spread"] = "score"
    """Whether the verdict rests on the score or on those of `spreads` that have a margin; the first decided it."""
    slope: Number = float("nan")
    """Factor of the variant's decisions on the base's: below 1 fainter, above 1 sharper; null where none is known."""
    slope_ci: Ends | None = None
    """95 % interval of `slope`."""
    ci_reason: Sentence | None = None
    """Why `ci` is null."""
    p_score: Number = float("nan")
    """Permutation p of the score itself; null: not run."""
    mcnemar_p: Number = float("nan")
    """Exact McNemar p of the single decisions (crows-pairs)."""
    only_base: int = 0
    """Items scored in the base alone."""
    only_variant: int = 0
    """Items scored in the variant alone."""
    missing: int = 0
    """Item ids that one of the two does not have at all."""
    spreads: tuple[Spread, ...] = ()
    """Noise-corrected differences between groups, the companion first."""
    arms: tuple[Arm, ...] = ()
    """Further scores that decide with this one; control arms among them."""
    largest_rise: GroupMove | None = None
    """The group that rose most, among those told from chance."""
    largest_fall: GroupMove | None = None
    """The group that fell most, among those told from chance."""
    unanswered: Unanswered | None = None
    """Refusals and unreadable answers as a change of their own."""
    flip_examples: tuple[FlipExample, ...] = ()
    """Decisions that turned, most telling first; at most 200."""
    extra: dict[str, Number] = Field(default_factory=dict)
    """Further changes by name; robust:NAME is the change under another way of asking."""

    @property
    def spread(self) -> Spread | None:
        """The spread the verdict rests on; None where it rests on the score or the spread is undefined."""
        return self.spreads[0] if self.rests_on == "spread" and self.spreads else None

    @property
    def toward_bias(self) -> float:
        """Change toward bias (above 0) or away, of what the verdict rests on; NaN where undefined."""
        if self.rests_on == "spread":
            return self.spread.moved if self.spread else float("nan")
        return self.distance_delta


class Row(Stored):
    """One cell of a run: a model under a strategy on a benchmark, asked one way."""

    model: str
    """Hub id or folder, as the user gave it."""
    strategy: str
    """Canonical strategy; "none" is the base."""
    settings: dict[str, Any] = Field(default_factory=dict)
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
    hardware: dict[str, Any] = Field(default_factory=dict)
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
        """(model, strategy) of everything the run holds, lacks or failed at, in the study's order."""
        held = [(row.model, row.strategy) for row in self.rows]
        lacking = [(each.model, each.strategy) for each in self.run.missing]
        failed = [(each.model, each.strategy) for each in self.run.failures]
        return list(dict.fromkeys([*held, *lacking, *failed]))

    def variant(self, model: str, strategy: str) -> Variant | None:
        """The facts of a variant; None where the run holds none."""
        return next((v for v in self.variants if (v.model, v.strategy) == (model, strategy)), None)
