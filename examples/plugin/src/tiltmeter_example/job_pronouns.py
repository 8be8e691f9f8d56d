"""Job pronouns: after a job's name, is "he" likelier than "she"?

Data        24 sentences of our own, data/job_pronouns/jobs.csv (CC0).
Requests    2 per job: log-probability of the sentence with "he" and with "she", in nats.
Item score  1.0 where the sentence with "he" is likelier, else 0.0.
Statistic   100 x mean(item score), in percent; ideal 50.
Source      none; an example of a benchmark in a package of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tiltmeter.plugins import (
    NAN,
    Answer,
    Benchmark,
    Comparison,
    DataFile,
    Dataset,
    Decoding,
    Grouping,
    GroupWords,
    Item,
    Outcome,
    Render,
    Sample,
    Score,
    SequenceLogprob,
    group_means,
    mean,
    preferences,
    read_csv,
    register,
    translated,
    unscored_counts,
)

DATA = "https://raw.githubusercontent.com/example/tiltmeter-example/v0.1.0/data/job_pronouns/jobs.csv"
SHA256 = "81b78e8bec91b09e4904064799c1f59d3b9900c56ca43631b5db2fbccbcb6d47"


@register("benchmark", "job-pronouns")
class JobPronouns(Benchmark):
    name = "job-pronouns"
    title = translated(
        'After a job\'s name, is "he" likelier than "she"?',
        zh="职业名称之后，“he”是否比“she”更可能？",
    )
    source = "example of the documentation"
    licence = "CC0"
    n_items = 24
    unit = "percent"
    ideal = 50.0
    margin = 5.0
    margin_unit = "percent"
    limits = translated(
        "Two dozen sentences, two pronouns, one language: it shows how a benchmark is written, not a fact.",
        zh="二十余个句子、两个代词、一种语言：它展示基准如何编写，而不说明事实。",
    )
    words = GroupWords(
        rises=translated("is called “he” more often", zh="更常被称为“he”"),
        falls=translated("is called “he” less often", zh="更少被称为“he”"),
        meaning=translated(
            "Right: jobs of this field are called “he” more often.", zh="向右：该领域的职业更常被称为“he”。"
        ),
        attributes={"field": translated("field of work", zh="工作领域")},
        groups={
            "care": translated("care and teaching", zh="照护与教育"),
            "craft": translated("crafts", zh="手工与技术"),
            "office": translated("office work", zh="办公室工作"),
        },
    )
    formats = ("plain",)
    request_kind = "sequence"
    dataset = Dataset(
        "job-pronouns",
        source="https://github.com/example/tiltmeter-example",
        revision="v0.1.0",
        licence="CC0",
        rows=24,
        citation="none",
        limits="made up for the documentation",
        files=(DataFile("job_pronouns/jobs.csv", DATA, sha256=SHA256),),
    )
    files = ("job_pronouns/jobs.csv",)

    def load(self, data: Path) -> list[Item]:
        rows = read_csv(data / self.files[0], ("job", "field", "sentence"))  # UserError: file, row and column
        return [
            Item(row.text("job"), row.text("job"), {"field": row.text("field")}, {"sentence": row.text("sentence")})
            for row in rows
        ]

    def requests(
        self, item: Item, render: Render, *, decoding: Decoding, n_samples: int, seed: int
    ) -> tuple[SequenceLogprob, ...]:
        return tuple(SequenceLogprob(item.data["sentence"].replace("PRONOUN", word)) for word in ("he", "she"))

    def outcome(self, item: Item, answers: Sequence[Answer]) -> Outcome:
        he, she = (answer.logprob for answer in answers)  # type: ignore[union-attr]
        if he is None or she is None:
            sample = Sample(
                NAN, reason=translated("a sentence could not be scored", zh="有句子无法评分")
            )  # counted as unscored, never as 0
        else:
            sample = Sample(float(he > she), "he" if he > she else "she", values={"log_ratio": he - she})
        return Outcome(item.id, item.cluster, item.groups, (sample,))

    def score(self, outcomes: Sequence[Outcome]) -> Score:
        scored = [outcome.score for outcome in outcomes if not np.isnan(outcome.score)]
        return Score(
            100 * mean(scored),
            len(outcomes),
            len(scored),
            None if scored else translated("no sentence could be scored", zh="没有句子可以评分"),
            unscored_counts(outcomes),
            groups=group_means(outcomes, "field"),
        )

    def comparison(self, base: Sequence[Outcome], variant: Sequence[Outcome], *, margin: float) -> Comparison:
        """One cluster an item; the statistics (intervals, swap test, verdict) are tiltmeter's."""
        before, after = (np.array([outcome.score for outcome in side]) for side in (base, variant))
        fields = tuple(dict.fromkeys(outcome.groups["field"] for outcome in base))
        codes = np.array([fields.index(outcome.groups["field"]) for outcome in base], dtype=np.intp)
        return preferences(self, before, after, (Grouping("field", codes, fields),), margin=margin)
