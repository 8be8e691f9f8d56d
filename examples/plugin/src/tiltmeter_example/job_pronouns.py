"""Job pronouns: after a job's name, is "he" likelier than "she"?

Data        24 sentences of our own, data/job_pronouns/jobs.csv (CC0).
Requests    2 per job: log-probability of the sentence with "he" and with "she", in nats.
Item score  1.0 where the sentence with "he" is likelier, else 0.0.
Statistic   100 x mean(item score), in percent; ideal 50.
Source      none; an example of a benchmark in a package of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiltmeter.analysis.designs import Grouping, preferences
from tiltmeter.analysis.types import Comparison
from tiltmeter.benchmarks.base import (
    NAN,
    Benchmark,
    Decoding,
    Item,
    Outcome,
    Sample,
    Score,
    group_means,
    mean,
    unscored_counts,
)
from tiltmeter.registry import register
from tiltmeter.scoring.requests import Answer, Render, SequenceLogprob


@register("benchmark", "job-pronouns")
class JobPronouns(Benchmark):
    name = "job-pronouns"
    title = 'After a job\'s name, is "he" likelier than "she"?'
    source = "example of the documentation"
    licence = "CC0"
    n_items = 24
    unit = "percent"
    ideal = 50.0
    margin = 5.0
    margin_unit = "percent"
    limits = "Two dozen sentences, two pronouns, one language: it shows how a benchmark is written, not a fact."
    formats = ("plain",)
    request_kind = "sequence"
    files = ("job_pronouns/jobs.csv",)

    def load(self, data: Path) -> list[Item]:
        with (data / self.files[0]).open(encoding="utf-8", newline="") as rows:
            return [Item(row["job"], row["job"], {"field": row["field"]}, row) for row in csv.DictReader(rows)]

    def requests(
        self, item: Item, render: Render, *, decoding: Decoding, n_samples: int, seed: int
    ) -> tuple[SequenceLogprob, ...]:
        return tuple(SequenceLogprob(item.data["sentence"].replace("PRONOUN", word)) for word in ("he", "she"))

    def outcome(self, item: Item, answers: Sequence[Answer]) -> Outcome:
        he, she = (answer.logprob for answer in answers)  # type: ignore[union-attr]
        if he is None or she is None:
            sample = Sample(NAN, reason="a sentence could not be scored")  # counted as unscored, never as 0
        else:
            sample = Sample(float(he > she), "he" if he > she else "she", values={"log_ratio": he - she})
        return Outcome(item.id, item.cluster, item.groups, (sample,))

    def score(self, outcomes: Sequence[Outcome]) -> Score:
        scored = [outcome.score for outcome in outcomes if not np.isnan(outcome.score)]
        return Score(
            100 * mean(scored),
            len(outcomes),
            len(scored),
            None if scored else "no sentence could be scored",
            unscored_counts(outcomes),
            groups=group_means(outcomes, "field"),
        )

    def comparison(self, base: Sequence[Outcome], variant: Sequence[Outcome], *, margin: float) -> Comparison:
        """One cluster an item; the statistics (intervals, swap test, verdict) are tiltmeter's."""
        before, after = (np.array([outcome.score for outcome in side]) for side in (base, variant))
        fields = tuple(dict.fromkeys(outcome.groups["field"] for outcome in base))
        codes = np.array([fields.index(outcome.groups["field"]) for outcome in base], dtype=np.intp)
        return preferences(self, before, after, (Grouping("field", codes, fields),), margin=margin)
