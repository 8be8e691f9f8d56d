"""Items that lm-evaluation-harness asked (`--log_samples`): read as this package's benchmarks read their own answers.

One reader per task: crows_pairs, bbq, bbq_generate, winogender, discrim_eval. Each says which benchmark the items are,
what the answers say (an `Outcome` as the benchmark itself makes it), what lm-evaluation-harness prints for them (its
own definitions, errors included, so that a log can be recognised by its numbers), and where those definitions mislead.

Departure   crows-pairs: the log holds sums over tokens, so the sum decides, as in lm-evaluation-harness; with the
            model's tokenizer (`count_tokens`) the mean per token does, as in a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiltmeter.benchmarks import _logged_bbq, _referents
from tiltmeter.benchmarks._read import Row
from tiltmeter.benchmarks.base import NAN, Benchmark, Item, Outcome, Sample, mean
from tiltmeter.benchmarks.crows_pairs import CrowsPairs
from tiltmeter.benchmarks.discrim_eval import DiscrimEval
from tiltmeter.benchmarks.winogender import Winogender, item_of, shares_in
from tiltmeter.messages import Text, say
from tiltmeter.scoring.requests import OptionAnswer, SequenceAnswer

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class Line:
    """One logged item.

    fields: what the log says about the item; scores: its scores by name; options: (text, log-likelihood in nats) of
    every choice; text: what was generated; asked: digest of the prompt, equal in two logs that asked the same.
    """

    path: Path
    number: int  # in its file, from 1
    item: str
    fields: Mapping[str, Any]
    sample: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    options: tuple[tuple[str, float], ...] = ()
    text: str | None = None
    asked: str = ""

    @property
    def row(self) -> Row:
        """For readers of data files, whose errors name file, row and column."""
        return Row(self.path, self.number, self.fields)

    @property
    def nats(self) -> list[float]:
        return [value for _, value in self.options]


@dataclass(frozen=True)
class Read:
    """One benchmark's outcomes in a log; printed: what lm-evaluation-harness prints for the log, by its names."""

    benchmark: Benchmark
    outcomes: list[Outcome]
    printed: dict[str, float] = field(default_factory=dict)
    notes: tuple[Text, ...] = ()


def read_task(lines: Sequence[Line], data: Path, count_tokens: CountTokens | None) -> list[Read] | None:
    """The benchmarks that the lines are of; None where they are of no task that is known.

    data: folder of the benchmarks' data, for what a log lacks (winogender's shares of women, BBQ's targets). Raises
    UserError where a line is not what its task logs, or such a file is missing.
    """
    first = lines[0]
    if {"sent_more", "sent_less"} <= first.fields.keys() and len(first.options) == 2:
        return [_crows_pairs(lines, count_tokens)]
    if {"context_condition", "question_polarity", "answer_info"} <= first.fields.keys():
        return [
            Read(benchmark, outcomes, printed, notes)
            for benchmark, outcomes, printed, notes in _logged_bbq.read(
                [(line.row, line.options, line.text, line.scores) for line in lines], data
            )
        ]
    if {"sentid", "occupation", "participant"} <= first.fields.keys() and len(first.options) == 2:
        return [_winogender(lines, data)]
    if {"decision_question_id", "filled_template"} <= first.fields.keys() and len(first.options) == 4:
        return [_discrim_eval(lines)]
    return None


def _crows_pairs(lines: Sequence[Line], count_tokens: CountTokens | None) -> Read:
    benchmark, outcomes = CrowsPairs(), []
    for line in lines:
        row = line.row
        texts = {"more": row.text("sent_more"), "less": row.text("sent_less")}
        item = Item(line.item, line.item, {"bias_type": row.text("bias_type")}, texts)
        counted = [count_tokens(text) if count_tokens else 1 for text in texts.values()]
        answers = [SequenceAnswer(nats, n) for nats, n in zip(line.nats, counted)]
        outcomes.append(benchmark.outcome(item, answers))
    printed = {
        "pct_stereotype": mean([float(more > less) for more, less in (line.nats for line in lines)]),
        "likelihood_diff": mean([abs(more - less) for more, less in (line.nats for line in lines)]),
    }
    how = say("logged.crows_tokens") if count_tokens else say("logged.crows_sum")
    return Read(benchmark, outcomes, printed, (how, say("logged.crows_direction"), say("logged.crows_difference")))


def _winogender(lines: Sequence[Line], data: Path) -> Read:
    shares, seen, outcomes, otherwise = shares_in(data), set[str](), [], 0
    for line in lines:
        item = item_of(line.row, shares, seen)
        facts = {name: item.data[name] for name in ("share", "gotcha", "someone", "occupation_right")}
        answers = [SequenceAnswer(nats, 1) for nats in line.nats]
        nothing = [SequenceAnswer(0.0, 0), SequenceAnswer(None, 0)]  # prompt and sentence alone: not logged
        outcome = _referents.outcome(item, [*answers, *nothing], facts)
        outcomes.append(replace(outcome, samples=tuple(_without(s, "right_per_token") for s in outcome.samples)))
        right = float(line.nats.index(max(line.nats)) == item.data["right"])
        otherwise += right != line.scores.get("acc", right)
    printed = {"acc": mean([line.scores.get("acc", NAN) for line in lines])}
    notes: list[Text] = [say("logged.winogender_accuracy"), say("logged.winogender_someone")]
    if otherwise:
        notes.append(say("logged.label", n=f"{otherwise:,}", of=f"{len(lines):,}"))
    return Read(Winogender(), outcomes, printed, tuple(notes))


def _without(sample: Sample, name: str) -> Sample:
    return replace(sample, values={key: value for key, value in sample.values.items() if key != name})


def _discrim_eval(lines: Sequence[Line]) -> Read:
    """Choices `yes`, `Yes`, `no`, `No`, in that order."""
    benchmark, outcomes, lost = DiscrimEval(), [], 0
    for line in lines:
        row = line.row
        groups = {
            "age": f"{row.number_in('age'):g}",
            "gender": row.text("gender"),
            "race": row.text("race"),
        }
        question = f"{row.number_in('decision_question_id'):g}"
        yes, yes_capital, no, no_capital = line.nats
        answer = OptionAnswer(((yes, yes_capital), (no, no_capital)), 0)
        item = Item("/".join((question, *groups.values())), question, groups, {})
        outcomes.append(benchmark.outcome(item, [answer]))
        lost += sum(map(math.exp, line.nats)) == 0
    notes: list[Text] = [say("logged.discrim_coefficients"), say("logged.discrim_age")]
    if lost:
        notes.append(say("logged.discrim_underflow", n=f"{lost:,}"))
    return Read(benchmark, outcomes, {}, tuple(notes))
