"""How close the trained models come to what was planted: `python -m tiltmeter.demo.training.fit [--models DIR]`.

Runs the base on all eight benchmarks and the models with a known change on all decisions (plain prompts, greedy), about
half a minute, and prints the two tables of docs/demo_model.md. tests/demo hold the shipped models to their planted
values, chat format and samples included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tiltmeter.benchmarks.base import Outcome
from tiltmeter.demo.command import BASE, BENCHMARKS, DATA
from tiltmeter.demo.training.items import Item
from tiltmeter.demo.training.world import build_world
from tiltmeter.pipeline import run
from tiltmeter.registry import build
from tiltmeter.results.document import read_results
from tiltmeter.results.items import cells_of, outcomes
from tiltmeter.study import make_study

Pairs = list[tuple[Item, Outcome]]
FORMS = {"percent": "{:.2f} %", "points": "{:.2f} points"}
CHANGED = ("worse", "better", "reversed", "fainter")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tiltmeter.demo.training.fit", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--models", type=Path, default=BASE.parent, help="folder of the trained models")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # more cost more than they bring in a model this small
    planted = json.loads((DATA / "planted.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(fit_table(options.models / "base", planted, Path(folder) / "base")))
        print()
        print("\n".join(change_table(options.models, planted, Path(folder) / "changes")))
    return 0


def fit_table(model: Path, planted: Mapping[str, Any], out: Path) -> list[str]:
    """Markdown: planted and measured score of every benchmark, and how far single items and groups are off."""
    run(
        make_study(models=[str(model)], benchmarks=BENCHMARKS, data=str(DATA), text_quality=False, draws=200),
        out,
    )
    rows = {row["benchmark"]: row for row in read_results(out)["rows"]}
    lines = ["| benchmark | planted | measured |", "|---|---|---|"]
    for cell in cells_of(out).values():
        name = cell.id.benchmark
        benchmark = build("benchmark", name)
        world = {loaded.id: item for loaded, item in zip(benchmark.load(DATA), build_world()[name], strict=True)}
        pairs = [(world[o.item], o) for o in outcomes(cell, benchmark) if not o.variation]
        truth = planted_score(planted[name])
        form = FORMS.get(rows[name]["unit"], "{:.3f}")
        lines.append(
            f"| {name} | {form.format(truth)} | {form.format(rows[name]['score'])}; "
            f"{DETAIL[name](pairs, rows[name], planted[name])} |"
        )
    return lines


def change_table(models: Path, planted: Mapping[str, Any], out: Path) -> list[str]:
    """Markdown: the models with one bias moved, and the one from another seed, against the base."""
    names = (*CHANGED, "reseed")
    run(
        make_study(
            models=[str(models / "base")],
            checkpoints=[str(models / name) for name in names],
            benchmarks=["discrim-eval"],
            data=str(DATA),
            text_quality=False,
        ),
        out,
    )
    rows = {row["strategy"].split("/")[-1]: row for row in read_results(out)["rows"]}
    lines = [
        "| model | planted change of the score | measured [95 % interval] | largest change of a group's log-odds "
        "| verdict |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        change = rows[name]["change"]
        truth = planted["changes"][name]["score"] - planted["discrim-eval"]["score"] if name in CHANGED else 0.0
        known = planted["changes"].get(name, planted["discrim-eval"])["contrasts"]
        moved = max(
            (g for g in rows[name]["groups"] if g["group"] in known.get(g["attribute"], {})),
            key=lambda g: abs(g["delta"]),
        )
        own = (
            known[moved["attribute"]][moved["group"]]
            - planted["discrim-eval"]["contrasts"][moved["attribute"]][moved["group"]]
        )
        lines.append(
            f"| `{name}` | {truth:+.3f} | {change['delta']:+.3f} {interval(change['ci'])} | {moved['group']} "
            f"{moved['delta']:+.2f} {interval(moved['ci'], 2)}, planted {own:+.2f} | {change['verdict']} |"
        )
    return lines


def planted_score(facts: Mapping[str, Any]) -> float:
    """The planted score of a benchmark: its own, or that of plain prompts (of genders, where races are apart)."""
    while "score" not in facts:
        facts = facts["plain"] if "plain" in facts else facts["gender"]
    return float(facts["score"])


def interval(ends: list[float] | None, digits: int = 3) -> str:
    return f"[{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]" if ends else "[no interval]"


def _pairs(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    found = [outcome.samples[0].values["sum_log_ratio"] for _, outcome in pairs]
    error = np.subtract(found, [entry["log_ratio"] for entry in facts["items"]])
    return f"log-ratio of a pair off by {np.sqrt(np.mean(error**2)):.2f} nats (root mean square)"


def _opinions(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    return f"option probabilities off by a total variation of {variation(pairs, 'p'):.3f} on average"


def variation(pairs: Pairs, values: str) -> float:
    """Mean total variation of the measured probabilities of the options from the planted ones."""
    off = [
        0.5 * np.abs(np.subtract(outcome.samples[0].values[values], [a.probability for a in item.answers])).sum()
        for item, outcome in pairs
    ]
    return float(np.mean(off))


def _facts(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    wanted = [None if answer.startswith("I") else float(answer) for answer in facts["plain"]["answers"]]
    same = sum(o.samples[0].values.get("parsed") == want for (_, o), want in zip(pairs, wanted, strict=True))
    silent = sum(want is None for want in wanted)
    return f"{same} of {len(pairs)} answers as planted, {row['n_scored']} parsed ({silent} are planted to say nothing)"


def _statements(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Per statement, agreement where the planted model clearly agrees or disagrees."""
    clear = [(i, o) for i, o in pairs if abs(i.probability("agree") - i.probability("disagree")) >= 0.3]
    same = sum(
        (o.samples[0].label == "agree") == (i.probability("agree") > i.probability("disagree"))
        for i, o in clear
        if o.samples[0].label in ("agree", "disagree")
    )
    asked = sum(o.samples[0].label in ("agree", "disagree") for _, o in clear)
    return f"{same} of {asked} clear statements as planted; {len(pairs) - len(clear)} are planted undecided"


def _decisions(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    found = np.array([outcome.score for _, outcome in pairs])
    off = np.sqrt(np.mean((found - [item.probability("yes") for item, _ in pairs]) ** 2))
    groups = [
        abs(g["score"] - facts["contrasts"][g["attribute"]][g["group"]])
        for g in row["groups"]
        if g["group"] in facts["contrasts"].get(g["attribute"], {})
    ]
    return f"P(yes) off by {off:.3f} (root mean square), every group's mean log-odds within {max(groups):.2f}"


def _selections(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    counts = facts["gender"]["plain"]["counts"]
    labels = [outcome.samples[0].label or "none" for _, outcome in pairs if outcome.counted]
    return ", ".join(f"{name} {labels.count(name)} times (planted {count})" for name, count in counts.items())


def _asked(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    extra, places = row["extra"], facts["places"]
    figures = {"s_DIS": "s_dis", "accuracy where nothing is told": "acc_amb", "where it is": "acc_dis"}
    first, last = (f"{extra[f'p_place_{letter}']:.3f} (planted {places[letter]:.3f})" for letter in "ac")
    return (
        ", ".join(f"{name} {extra[key]:.3f} (planted {facts[key]:.3f})" for name, key in figures.items())
        + f"; first answer {first}, last {last}; "
        + f"option probabilities off by a total variation of {variation(pairs, 'places'):.3f} on average"
    )


def _referents(pairs: Pairs, row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    figures = {"right of pro": "acc_pro", "of anti": "acc_anti", "gap of type 2": "gap_type2"}
    found = [outcome.samples[0].values["right_lead"] for _, outcome in pairs]
    error = np.subtract(found, [entry["log_odds"] for entry in facts["items"]])
    return (
        ", ".join(f"{name} {row['extra'][key]:.2f} (planted {facts[key]:.2f})" for name, key in figures.items())
        + f"; log-odds of a referent off by {np.sqrt(np.mean(error**2)):.2f} (root mean square)"
    )


DETAIL = {
    "crows-pairs": _pairs,
    "global-opinion-qa": _opinions,
    "worldbench": _facts,
    "dt-stereotyping": _statements,
    "discrim-eval": _decisions,
    "discrim-eval-gen": _selections,
    "bbq": _asked,
    "winobias": _referents,
}

if __name__ == "__main__":
    raise SystemExit(main())
