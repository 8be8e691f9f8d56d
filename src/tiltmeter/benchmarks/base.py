"""What a benchmark is: data -> items -> prompts -> requests -> answers -> outcomes -> bias score.

A benchmark is one file with one registered class. It knows its data files, its prompts and its
score; it knows no model, tokenizer or GPU. Statistics (intervals, tests, verdicts) are built from
its outcomes by ``tiltmeter.analysis``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from tiltmeter.analysis.types import Comparison
from tiltmeter.datasets.catalogue import Dataset
from tiltmeter.messages import Message, Text, say
from tiltmeter.schema.item import Item as Item  # told on: benchmarks import it from here
from tiltmeter.scoring.requests import Answer, Format, Generation, GenerationAnswer, Render, Request
from tiltmeter.seeds import seed_for

Decoding = Literal["greedy", "sampling"]
NAN = float("nan")
RISES, FALLS, MEANING = (Message(f"groups.{what}.other") for what in ("rises", "falls", "meaning"))


@dataclass(frozen=True, slots=True)
class Sample:
    """What one answer (or one set of answers) says about one item.

    score: the item's score in the benchmark's item unit; NaN when unscored, with `reason`.
    label: the categorical outcome ("agree", "woman", "yes", "B" …) or None.
    values: further numbers by name; NaN where undefined. A vector is a tuple of floats.
    """

    score: float
    label: str | None = None
    reason: Text | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One item under one variant: one Sample per sample index (greedy: exactly one).

    uncertainty: the model's own uncertainty about this item, in [0, 1] (1 = undecided), NaN when the
        protocol does not show it; used to sort flips.
    """

    item: str
    cluster: str
    groups: Mapping[str, str]
    samples: tuple[Sample, ...]
    uncertainty: float = NAN
    variation: str = ""
    counted: bool = True

    @property
    def score(self) -> float:
        """Mean over scored samples; NaN when none is."""
        scored = [s.score for s in self.samples if not math.isnan(s.score)]
        return sum(scored) / len(scored) if scored else NAN

    @property
    def reason(self) -> Text | None:
        """Why the item is unscored (its first sample's reason), None when scored."""
        return (
            next((s.reason for s in self.samples if s.reason), Message("unscored.nothing"))
            if math.isnan(self.score)
            else None
        )


@dataclass(frozen=True)
class GroupScore:
    """Score of one demographic group: attribute, group, value (NaN: undefined), items behind it."""

    attribute: str
    group: str
    score: float
    n: int


@dataclass(frozen=True)
class Score:
    """A benchmark's result for one variant.

    value: bias score in the benchmark's unit, NaN with `reason`; extra: named further numbers (NaN
    allowed); unscored: reason -> number of items (each item counted once); n_items, n_scored: items.
    """

    value: float
    n_items: int
    n_scored: int
    reason: Text | None = None
    unscored: Mapping[Text, int] = field(default_factory=dict)
    extra: Mapping[str, float] = field(default_factory=dict)
    groups: tuple[GroupScore, ...] = ()
    notes: tuple[Text, ...] = ()  # why an extra column or a group is absent


@dataclass(frozen=True)
class GroupWords:
    """What the change of a group's value means, in the words of the report.

    Attributes:
        rises, falls: what happened to a group whose value rose or fell: "is chosen more often".
        meaning: one sentence under the chart of groups: what lies to the right.
        unit: of a group's change; None: the score's.
        attributes: name of an attribute in `Item.groups` -> what readers call it; common ones are known.
        groups: name of a group, a value in `Item.groups` -> what readers call it; else the name stands as it is.
        not_people: attributes whose groups are no people (topics): they are not named in the answer to "for whom?".
    """

    rises: Text = RISES
    falls: Text = FALLS
    meaning: Text = MEANING
    unit: Text | None = None
    attributes: Mapping[str, Text] = field(default_factory=dict)
    groups: Mapping[str, Text] = field(default_factory=dict)
    not_people: tuple[str, ...] = ()


class Benchmark(ABC):
    """Base of all benchmarks. Class attributes are printed by ``tiltmeter list`` and the report.

    Sentences (`title`, `limits`, `words`) are text, or `tiltmeter.messages.translated(english, zh=chinese)`.
    """

    name: ClassVar[str]
    title: ClassVar[Text]  # one line: the question it asks
    source: ClassVar[str]  # paper and address
    licence: ClassVar[str]
    n_items: ClassVar[int]  # in the full published data
    unit: ClassVar[str]
    ideal: ClassVar[float]
    margin: ClassVar[float]  # smallest effect of interest (design section 5), in `margin_unit`
    margin_unit: ClassVar[str]
    limits: ClassVar[Text]  # known validity limits, one or two sentences
    words: ClassVar[GroupWords] = GroupWords()  # what a change means for a group
    formats: ClassVar[tuple[Format, ...]] = ("plain", "chat")
    decodings: ClassVar[tuple[Decoding, ...]] = ("greedy",)
    request_kind: ClassVar[Literal["sequence", "options", "generation"]]  # decides which variants are incomparable
    whole_clusters: ClassVar[bool] = False  # the score needs whole clusters (--limit keeps them whole)
    files: ClassVar[tuple[str, ...]]  # paths under the data folder
    strength: ClassVar[str | None] = None  # entry of Sample.values by which an item leans toward the bias; None: score
    by_default: ClassVar[bool] = True  # False: runs only where it is named (`-b NAME`, `-b all`)
    dataset: ClassVar[Dataset | None] = None  # where `tiltmeter data fetch` finds them; None: put there by hand

    @abstractmethod
    def load(self, data: Path) -> list[Item]:
        """All items, file order. Raises UserError naming file, row and column of a malformed row."""

    @abstractmethod
    def requests(
        self, item: Item, render: Render, *, decoding: Decoding, n_samples: int, seed: int
    ) -> tuple[Request, ...]:
        """The item's requests. Sampled requests carry seed_for(seed, item.id, sample index)."""

    @abstractmethod
    def outcome(self, item: Item, answers: Sequence[Answer]) -> Outcome:
        """What the answers (in the order of `requests`) say. Never raises on what a model wrote."""

    @abstractmethod
    def score(self, outcomes: Sequence[Outcome]) -> Score:
        """The published score with its extra columns, from outcomes with variation == ""."""

    def comparison(self, base: Sequence[Outcome], variant: Sequence[Outcome], *, margin: float) -> Comparison:
        """The paired data of two models as arrays for ``tiltmeter.analysis.compare``.

        `base` and `variant` are aligned: same item in the same place (items that only one has are left out
        before). `margin` is the smallest effect of interest, in `margin_unit`.
        """
        raise NotImplementedError(f"{self.name} states no comparison")

    def robust_items(self, items: Sequence[Item]) -> list[Item]:
        """Further items for ``--robust`` (option order, control prompt …), each with `variation` set."""
        return []

    def all_orders(self, items: Sequence[Item]) -> list[Item]:
        """The items, each to be asked in every order of its options (`--orders all`); as they are where it has none."""
        return list(items)

    def subset(self, items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
        """About `limit` items, balanced over clusters, the same for every model; None keeps all.

        Clusters are put in a seeded order and items are dealt round-robin from them; where the score
        needs whole clusters, the fewest whole clusters that hold `limit` items are kept. File order is kept.
        """
        if limit is None or limit >= len(items):
            return list(items)
        clusters: dict[str, list[int]] = {}
        for index, item in enumerate(items):
            clusters.setdefault(item.cluster, []).append(index)
        rng = np.random.default_rng(seed_for(seed, "limit", self.name))
        names = [list(clusters)[i] for i in rng.permutation(len(clusters))]
        kept: list[int] = []
        if self.whole_clusters:
            for name in names:
                if len(kept) >= limit:
                    break
                kept.extend(clusters[name])
        else:
            shuffled = {name: [clusters[name][i] for i in rng.permutation(len(clusters[name]))] for name in names}
            for depth in range(max(map(len, clusters.values()))):
                kept.extend(members[depth] for name in names if depth < len(members := shuffled[name]))
            kept = kept[:limit]
        return [items[index] for index in sorted(kept)]

    def imagined(self, item: Item, rng: np.random.Generator) -> str | None:
        """A text such as a model might write, for a plan (`imagined`); None: nothing can be told before a run."""
        return None

    def too_few(self, items: Sequence[Item], everything: Sequence[Item], seed: int) -> Text | None:
        """What a subset cannot give, with the limit that would do; None where it gives all. Said before anything runs.

        items: what `subset` kept of `everything` under `seed`.
        """
        return None


def unscored_counts(outcomes: Sequence[Outcome]) -> dict[Text, int]:
    """Reason -> number of items without a score, most frequent first."""
    return dict(Counter(o.reason for o in outcomes if o.reason is not None).most_common())


def nothing_scored(outcomes: Sequence[Outcome]) -> Message:
    """The reason of a score without a single scored item: what happened most often."""
    counts = unscored_counts(outcomes)
    if not counts:
        return say("unscored.no_items")
    reason, count = next(iter(counts.items()))
    return say("unscored.none_scored", reason=reason, count=f"{count:,}", n=f"{len(outcomes):,}")


def mean(values: Sequence[float]) -> float:
    """Mean of the numbers that are not NaN; NaN when there are none."""
    scored = [value for value in values if not math.isnan(value)]
    return sum(scored) / len(scored) if scored else NAN


NO_ANSWER = Message("unscored.no_answer")


def failure(answer: Answer, value: object) -> Text | None:
    """Why an answer has no `value` (its text, its logprobs), None when it has."""
    return answer.error or (NO_ANSWER if value is None else None)


def generations(
    text: str, item: Item, *, max_new_tokens: int, decoding: Decoding, n_samples: int, seed: int
) -> tuple[Generation, ...]:
    """Greedy: one request. Sampling (temperature 1, top-p 1): `n_samples`, each with a seed of its own."""
    if decoding == "greedy":
        return (Generation(text, max_new_tokens),)
    return tuple(
        Generation(text, max_new_tokens, temperature=1.0, top_p=1.0, seed=seed_for(seed, item.id, index))
        for index in range(n_samples)
    )


def text_values(answer: GenerationAnswer) -> dict[str, float]:
    """Form of a generated answer: words a person sees, whether it ended by itself, whether it is empty (0 or 1)."""
    clean = answer.clean or ""
    return {
        "words": float(len(clean.split())),
        "ended": float(answer.stopped == "eos"),
        "empty": float(not clean.strip()),
    }


def text_extra(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Words per answer, and percent of answers that ended with an end token or are empty: confounds of any score."""
    values = [sample.values for outcome in outcomes for sample in outcome.samples if "words" in sample.values]
    return {
        "words_per_answer": mean([v["words"] for v in values]),
        "eos_percent": 100 * mean([v["ended"] for v in values]),
        "empty_percent": 100 * mean([v["empty"] for v in values]),
    }


def sample_indices(outcomes: Sequence[Outcome]) -> range:
    """0 .. number of samples - 1 (one when greedy)."""
    return range(max((len(outcome.samples) for outcome in outcomes), default=0))


def samples_at(outcomes: Sequence[Outcome], index: int) -> list[Sample]:
    """One sample index over all items."""
    return [outcome.samples[index] for outcome in outcomes if index < len(outcome.samples)]


def mean_over_indices(outcomes: Sequence[Outcome], statistic: Callable[[list[Sample]], float]) -> float:
    """Mean of a statistic computed for each sample index apart; NaN when one index has none (no index is dropped)."""
    values = [statistic(samples_at(outcomes, index)) for index in sample_indices(outcomes)]
    return sum(values) / len(values) if values else NAN


def value_mean(outcomes: Sequence[Outcome], name: str) -> float:
    """Mean of one entry of `Sample.values` over all samples that have it."""
    return mean([sample.values[name] for outcome in outcomes for sample in outcome.samples if name in sample.values])


def group_means(outcomes: Sequence[Outcome], attribute: str) -> tuple[GroupScore, ...]:
    """Mean item score of every group of one attribute over its scored items, in the order the groups appear."""
    scores: dict[str, list[float]] = {}
    for outcome in outcomes:
        if attribute in outcome.groups:
            scores.setdefault(outcome.groups[attribute], []).append(outcome.score)
    return tuple(
        GroupScore(attribute, group, mean(values), sum(not math.isnan(v) for v in values))
        for group, values in scores.items()
    )
