"""Two or more logs -> one results document: the base's rows, and each variant's judged against them, all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from tiltmeter.analysis.compare import compare, level_interval
from tiltmeter.analysis.judge_all import Row as JudgedRow
from tiltmeter.analysis.judge_all import settle
from tiltmeter.analysis.types import Comparison, Measure, align
from tiltmeter.benchmarks.base import Outcome, Score
from tiltmeter.benchmarks.logged import CountTokens, read_task
from tiltmeter.decisions.findings import findings
from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.results.changes import ends, stored_change, with_groups
from tiltmeter.results.logs.files import Log, read_logs
from tiltmeter.results.logs.plain import Layout, read_plain
from tiltmeter.schema import Document, Group, Row, RunFacts
from tiltmeter.schema.place import NONE, ready_made


class Judged(Measure, Protocol):
    """What a benchmark is here: a name, a unit, an ideal, a score and a comparison."""

    @property
    def margin(self) -> float: ...

    def score(self, outcomes: Sequence[Outcome]) -> Score: ...
    def comparison(self, base: Sequence[Outcome], variant: Sequence[Outcome], *, margin: float) -> Comparison: ...


@dataclass(frozen=True)
class _Part:
    """One benchmark in one log."""

    benchmark: Judged
    outcomes: list[Outcome]
    printed: dict[str, float]
    notes: tuple[Text, ...]
    log: Log


def judge_logs(
    base: Path,
    variants: Sequence[Path],
    *,
    layout: Layout,
    data: Path,
    count_tokens: CountTokens | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> Document:
    """Rows in the order of the base's tasks; all variants are judged together (one family of hypotheses).

    Raises UserError for what cannot be read or compared: other items, other prompts, no task in common.
    """
    before = _parts(base, layout, data, count_tokens)
    printed = [*before]
    rows: list[tuple[Row, JudgedRow | None]] = [(_row(base, NONE, part, seed, draws), None) for part in before]
    for path in variants:
        after = {part.benchmark.name: part for part in _parts(path, layout, data, count_tokens)}
        printed += after.values()
        shared = [part for part in before if part.benchmark.name in after]
        if not shared:
            names = [", ".join(part.benchmark.name for part in parts) for parts in (before, after.values())]
            raise UserError(f"{base} holds {names[0]}, {path} {names[1]}: no task in common", fix="log the same task")
        for part in shared:
            own = after[part.benchmark.name]
            change = compare(_comparison(part, own, layout), seed=seed, draws=draws)
            strategy = ready_made(str(path))
            judged = JudgedRow(str(base), strategy, "plain", "greedy", part.benchmark.name, change)
            rows.append((_row(base, strategy, own, seed, draws), judged))
    order = {part.benchmark.name: place for place, part in enumerate(before)}
    rows.sort(key=lambda pair: order[pair[0].benchmark])
    settled = iter(settle([judged for _, judged in rows if judged]))
    found = []
    for row, own_change in rows:
        if own_change:
            change = next(settled)
            row = row.but(change=stored_change(change, {}), groups=with_groups(row.groups, change))
        found.append(row)
    notes = [
        *(_as_printed(part) for part in printed if part.printed),
        *(note for part in printed for note in part.notes),
    ]
    facts = RunFacts(path=str(base), notes=tuple(dict.fromkeys(notes)))
    return Document(run=facts, rows=tuple(found), findings=tuple(findings(found, seed=seed)))


def _parts(path: Path, layout: Layout, data: Path, count_tokens: CountTokens | None) -> list[_Part]:
    """The benchmarks of a file or folder; what is of no task that is known needs a layout."""
    parts: list[_Part] = []
    for log in read_logs(path):
        if not log.lines:
            raise UserError(f"{log.path} holds no item", fix="log with --log_samples, or without --limit 0")
        known = read_task(log.lines, data, count_tokens)
        if known is None:
            benchmark, outcomes = read_plain(log, layout)
            parts.append(_Part(benchmark, outcomes, {}, (), log))
        parts += [_Part(each.benchmark, each.outcomes, each.printed, each.notes, log) for each in known or ()]
    names = [part.benchmark.name for part in parts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path} holds {twice} in several files", fix="name one of the files")
    return parts


def _comparison(base: _Part, variant: _Part, layout: Layout) -> Comparison:
    """Items aligned by id. Raises UserError where the two were not asked the same."""
    _same_questions(base, variant)
    in_base, in_variant, missing = align(*(tuple(o.item for o in part.outcomes) for part in (base, variant)))
    if not len(in_base):
        raise UserError(f"{base.log.path} and {variant.log.path} have no item in common", fix="log the same items")
    margin = base.benchmark.margin if layout.margin is None else layout.margin
    pairs = [base.outcomes[i] for i in in_base], [variant.outcomes[i] for i in in_variant]
    for b, v in zip(*pairs):
        if (b.cluster, b.groups) != (v.cluster, v.groups):
            raise UserError(
                f"item {b.item!r} is {b.cluster}, {dict(b.groups)} in {base.log.path} and {v.cluster}, "
                f"{dict(v.groups)} in {variant.log.path}",
                fix="both files must describe the same items",
            )
    compared = base.benchmark.comparison(*pairs, margin=margin)
    return replace(compared, missing=compared.missing + missing)


def _same_questions(base: _Part, variant: _Part) -> None:
    asked = {line.item: line.asked for line in base.log.lines}
    other = [line for line in variant.log.lines if line.asked and asked.get(line.item, line.asked) != line.asked]
    if other:
        raise UserError(
            f"{len(other):,} items were asked otherwise in {variant.log.path} than in {base.log.path} (the first: "
            f"{other[0].item!r}): another prompt, another template or other data",
            fix="log both with the same --num_fewshot, --apply_chat_template and data",
        )


def _row(base: Path, strategy: str, part: _Part, seed: int, draws: int) -> Row:
    """A row without its change; what the log's own tool prints stands among its extra figures."""
    score = part.benchmark.score(part.outcomes)
    margin = part.benchmark.margin
    own = level_interval(part.benchmark.comparison(part.outcomes, part.outcomes, margin=margin), seed=seed, draws=draws)
    printed = {f"lm-eval:{name}": value for name, value in part.printed.items()}
    return Row(
        model=str(base),
        strategy=strategy,
        format="plain",
        decoding="greedy",
        benchmark=part.benchmark.name,
        score=score.value,
        reason=score.reason,
        unit=part.benchmark.unit,
        ideal=part.benchmark.ideal,
        n_items=score.n_items,
        n_scored=score.n_scored,
        n_samples=max((len(o.samples) for o in part.outcomes), default=1),
        unscored={str(reason): count for reason, count in score.unscored.items()},
        unscored_messages=tuple(score.unscored),
        ci=ends(own),
        extra={**score.extra, **printed},
        groups=tuple(Group(attribute=g.attribute, group=g.group, score=g.score, n=g.n) for g in score.groups),
        notes=(*score.notes, *part.notes),
    )


def _as_printed(part: _Part) -> Text:
    """What the log's own tool prints for it, so that a reader knows the log again."""
    figures = ", ".join(f"{name} {value:.4f}" for name, value in part.printed.items())
    return say("logged.printed", tool=part.log.tool, task=part.log.task, log=str(part.log.path.parent), figures=figures)
