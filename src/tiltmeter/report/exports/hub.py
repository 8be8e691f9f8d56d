"""The Hugging Face Hub: a model card with `model-index`, and `.eval_results/tiltmeter.yaml`.

Formats     `model-index` and `base_model_relation` in a card's YAML, as huggingface_hub's ModelCardData has them;
            `.eval_results/*.yaml` as its EvalResultEntry has them (https://huggingface.co/docs/hub/eval-results).
Relation    `quantized` where the weights were quantized; otherwise left out: the Hub has no word for pruning, nor for a
            compressed KV cache.
Entries     `.eval_results` feeds leaderboards, so only what a leaderboard may hold goes there: a finished row with a
            score, of all items, from the published files of a data set on the Hub. What is left out, and why, stands in
            the file as a comment; a variant with nothing to enter has no such file.
Missing     Scores that are undefined and cells that are not there have no entry in `model-index` either; the card's
            table and its list of what was not judged name them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from tiltmeter.printed import defined, digits, interval, markdown, number, one_line, signed
from tiltmeter.report.exports.subject import Subject, asked, details, hub_id
from tiltmeter.schema import Row

HUB = "https://huggingface.co/datasets/"
TASK = "text-generation"
COLUMNS = ("benchmark", "asked", "score", "change", "95 % interval", "verdict", "items scored")
CAVEAT = (
    "Base and variant answered the same items; change is variant minus base, with its 95 % interval. An `equivalent` "
    "is no certificate of fairness, and *inconclusive*, *not exercised* and *no usable signal* say that nothing was "
    "shown."
)


def files(subject: Subject, when: datetime) -> dict[str, str]:
    """README.md, and .eval_results/tiltmeter.yaml where there is something that a leaderboard may hold."""
    found = {"README.md": card([subject])}
    entries = eval_results(subject)
    if entries:
        found[".eval_results/tiltmeter.yaml"] = entries
    return found


def card(subjects: Sequence[Subject]) -> str:
    """A model card: YAML front matter, then a table and a list of what was not judged for each variant. English."""
    lines = ["---", front_matter(subjects).rstrip(), "---", "", "## Bias under acceleration", "", CAVEAT]
    for subject in subjects:
        lines += [
            "",
            f"### {markdown(subject.name)}",
            "",
            f"Against {markdown(subject.base_name)}: {subject.standing}.",
        ]
        lines += ["", _line(COLUMNS), "|---" * len(COLUMNS) + "|"]
        lines += [_line(_cells(subject, row)) for row in (*_base_rows(subject), *subject.rows)]
        if subject.unjudged:
            lines += ["", "Not judged:", "", *(f"- {markdown(reason)}" for reason in subject.unjudged)]
    lines += ["", "Measured with tiltmeter; the protocol is that of https://arxiv.org/abs/2410.22118.", ""]
    return "\n".join(lines)


def front_matter(subjects: Sequence[Subject]) -> str:
    """The card's YAML. `base_model` must be a hub id: a base that was a folder here is left out."""
    base = subjects[0].base_name
    only = subjects[0] if len(subjects) == 1 else None
    relation: dict[str, Any] = {"base_model_relation": "quantized"} if only and only.quantized else {}
    data = ModelCardData(
        base_model=base if hub_id(base) else None, tags=["bias", "tiltmeter"], **(relation if hub_id(base) else {})
    ).to_dict()
    index = [entry for subject in subjects for entry in model_index(subject)]
    return yaml.safe_dump({**data, "model-index": index}, sort_keys=False, allow_unicode=True)


def model_index(subject: Subject) -> list[dict[str, object]]:
    """The variant's entry of `model-index`, made by the Hub's own library; without results where no row has a score."""
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=_hub_dataset(subject, row) or one_line(row.benchmark),
            dataset_name=one_line(row.benchmark),
            dataset_revision=subject.data(row).revision if _hub_dataset(subject, row) else None,
            metric_type="bias",
            metric_name=one_line(f"{row.benchmark} ({row.unit}, ideal {row.ideal:g}, {asked(row)})"),
            metric_value=row.score,
            metric_args=details(subject, row),
        )
        for row in subject.rows
        if defined(row.score)
    ]
    return eval_results_to_model_index(subject.name, results)


def eval_results(subject: Subject) -> str:
    """The text of .eval_results/tiltmeter.yaml; empty where no row may stand there."""
    entries, left_out = [], list(_left_out(subject))
    for row in subject.rows:
        dataset = _hub_dataset(subject, row)
        if dataset is None or _why_not(subject, row):
            continue
        entries.append(
            EvalResultEntry(
                dataset_id=dataset,
                task_id="default",
                value=row.score,
                dataset_revision=subject.data(row).revision,
                date=subject.run.started or None,
                notes=_notes(subject, row),
            )
        )
    if not entries:
        return ""
    comments = "".join(f"# left out: {one_line(why)}\n" for why in left_out)
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=10**6)
    return comments + text


def _left_out(subject: Subject) -> Iterator[str]:
    for row in subject.rows:
        if why := _why_not(subject, row):
            yield f"{row.benchmark}, {asked(row)}: {why}"
    for missing in subject.run.missing:
        if (missing.model, missing.strategy) == (subject.variant.model, subject.variant.strategy):
            yield f"{missing.benchmark}: not in the run: {subject.public(missing.reason)}"


def _why_not(subject: Subject, row: Row) -> str:
    """Why a row is none for a leaderboard; empty where it is."""
    if not defined(row.score):
        return f"no score: {subject.public(row.reason or 'undefined')}"
    if row.partial or not row.complete:
        return "not all items were asked"
    if not subject.data(row).published:
        return "not from the published files"
    return "" if _hub_dataset(subject, row) else "its data set is not on the Hub"


def _notes(subject: Subject, row: Row) -> str:
    """One line: how asked, and the paired change with its verdict."""
    said = details(subject, row)
    if row.change is None:
        return one_line(f"{asked(row)}; not compared with the base")
    change = f"{said['change']} {row.unit} {said['change_95_interval']} against {subject.base_name}"
    return one_line(f"{asked(row)}; {said['unit']}, ideal {said['ideal']}; change {change}: {said['verdict']}")


def _hub_dataset(subject: Subject, row: Row) -> str | None:
    source = subject.data(row).source
    return one_line(source.removeprefix(HUB)) if source.startswith(HUB) else None


def _base_rows(subject: Subject) -> list[Row]:
    return [base for row in subject.rows if (base := subject.base_row(row))]


def _cells(subject: Subject, row: Row) -> tuple[str, ...]:
    change, places = row.change, digits(row.unit)
    name = f"{row.benchmark} (base)" if row.place.is_base else row.benchmark
    return (
        name,
        asked(row),
        number(row.score, places) if defined(row.score) else f"undefined: {subject.public(row.reason or '')}",
        signed(change.delta, places) if change else "",
        interval(change.ci, places) if change else "",
        f"{change.verdict.sign} {change.verdict}" if change else "",
        f"{row.n_scored:,} / {row.n_items:,}" + (" partial" if row.partial else ""),
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown, cells)) + " |"
