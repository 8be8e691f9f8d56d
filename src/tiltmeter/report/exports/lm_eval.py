"""The results file of lm-evaluation-harness, for what reads such files: tables, loggers, leaderboards.

Format      results_*.json of lm-evaluation-harness 0.4 (`lm_eval.utils.make_table` prints it). A metric is named
            "metric,filter"; the filter is how the questions were put (plain-greedy …).
Metrics     score, distance_from_ideal (the one of which less is better everywhere), change, change_low, change_high
            (95 % interval of the paired change). The harness has standard errors where tiltmeter has intervals:
            every stderr is "N/A", as the harness writes what is not known.
Missing     A number that is undefined is "N/A". Rows that are not there are no task: `tiltmeter.not_judged` names them,
            and all else that was not judged.
"""

from __future__ import annotations

from datetime import datetime

from tiltmeter.printed import clean, defined, json_text
from tiltmeter.report.exports.subject import Subject, asked, details, distance
from tiltmeter.schema import Row

UNKNOWN = "N/A"


def files(subject: Subject, when: datetime) -> dict[str, str]:
    """results.json."""
    return {"results.json": json_text(results(subject, when), indent=1) + "\n"}


def results(subject: Subject, when: datetime) -> dict[str, object]:
    """The document, whose table the harness' own printer makes in tests."""
    tasks: dict[str, list[Row]] = {}
    for row in subject.rows:
        tasks.setdefault(clean(row.benchmark), []).append(row)
    return {
        "results": {
            task: {"alias": task, **{name: value for row in rows for name, value in _metrics(row).items()}}
            for task, rows in tasks.items()
        },
        "group_subtasks": {task: [] for task in tasks},
        "configs": {
            task: {"task": task, "metadata": {asked(row): details(subject, row) for row in rows}}
            for task, rows in tasks.items()
        },
        "versions": {task: clean(subject.run.versions.get("tiltmeter", UNKNOWN)) for task in tasks},
        "n-shot": {task: 0 for task in tasks},
        "higher_is_better": {task: {"distance_from_ideal": False} for task in tasks},
        "n-samples": {
            task: {"original": max(r.n_items for r in rows), "effective": max(r.n_scored for r in rows)}
            for task, rows in tasks.items()
        },
        "config": {"model": "tiltmeter", "model_args": subject.strategy, "limit": subject.run.study.get("limit")},
        "date": when.timestamp(),
        "model_source": "tiltmeter",
        "model_name": subject.name,
        "model_name_sanitized": "".join(c if c.isalnum() or c in "-." else "_" for c in subject.name),
        "tiltmeter": {
            "base_model": subject.base_name,
            "gate": subject.standing,
            "not_judged": subject.unjudged,
            "verdicts": {
                f"{clean(row.benchmark)},{asked(row)}": str(row.verdict or "none: not compared") for row in subject.rows
            },
        },
    }


def _metrics(row: Row) -> dict[str, object]:
    change = row.change
    low, high = change.ci if change and change.ci else (float("nan"), float("nan"))
    numbers = {
        "score": row.score,
        "distance_from_ideal": distance(row)[0],
        **({"change": change.delta, "change_low": low, "change_high": high} if change else {}),
    }
    way = asked(row)
    found: dict[str, object] = {}
    for name, value in numbers.items():
        found[f"{name},{way}"] = value if defined(value) else UNKNOWN
        found[f"{name}_stderr,{way}"] = UNKNOWN
    return found
