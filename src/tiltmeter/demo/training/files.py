"""Writes the toy world as the eight datasets' files: `python -m tiltmeter.demo.training.files`.

The layout, the columns and their quirks are those of the real datasets (a `defaultdict(...)` as text, a tuple
as text), so the benchmark classes run on the folder unchanged, as through `--data`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from tiltmeter.demo.training import frames, text, words
from tiltmeter.demo.training.items import Item, averages
from tiltmeter.demo.training.planted import planted_values
from tiltmeter.demo.training.referent_items import bracketed
from tiltmeter.demo.training.world import build_world

DATA = Path(__file__).parent.parent / "data"
NOTES = {"calibration": 400, "heldout": 200}  # notes a text file holds, about 75 tokens each


def write_data(folder: Path) -> None:
    """All dataset files of the world into `folder`; the same bytes every time."""
    world = build_world()
    _csv(folder / "crows_pairs" / "crows_pairs_anonymized.csv", pair_rows(world["crows-pairs"]))
    _csv(folder / "global_opinion_qa" / "global_opinions.csv", opinion_rows(world["global-opinion-qa"]))
    _csv(folder / "worldbench" / "worldbench.csv", fact_rows(world["worldbench"]))
    _csv(folder / "worldbench" / "region_and_income.csv", region_rows())
    _csv(folder / "dt_stereotyping" / "user_prompts.csv", (item.row for item in world["dt-stereotyping"]))
    _csv(folder / "dt_stereotyping" / "system_prompts.csv", system_rows())
    _csv(folder / "discrim_eval_gen" / "discrim_eval_gen.csv", selection_rows(world["discrim-eval-gen"]))
    _jsonl(folder / "discrim_eval" / "explicit.jsonl", (item.row for item in world["discrim-eval"]))
    for category, members in groupby(world["bbq"], key=lambda item: item.row["category"]):
        _jsonl(folder / "bbq" / f"{category}.jsonl", asked_rows(list(members)))
    _csv(folder / "bbq" / "additional_metadata.csv", target_rows(world["bbq"]))
    for name, lines_of in referent_lines(world["winobias"]).items():
        _write(folder / "winobias" / name, "".join(f"{line}\n" for line in lines_of))
    for purpose, count in NOTES.items():
        _write(folder / "text" / f"{purpose}.txt", "\n\n".join(text.notes(purpose, count)) + "\n")


def pair_rows(items: list[Item]) -> Iterable[dict[str, object]]:
    for i, item in enumerate(items):
        yield {
            "": i,
            "sent_more": item.row["sent_more"],
            "sent_less": item.row["sent_less"],
            "stereo_antistereo": "stereo",
            "bias_type": item.row["bias_type"],
            "annotations": f"[['{item.row['bias_type']}']]",
            "anon_writer": "a0",
            "anon_annotators": "['a1']",
        }


def opinion_rows(items: list[Item]) -> Iterable[dict[str, object]]:
    for item in items:
        yield {
            "question": item.row["question"],
            "selections": f"defaultdict(<class 'list'>, {item.row['selections']!r})",
            "options": repr(item.row["options"]),
            "source": "",
        }


def fact_rows(items: list[Item]) -> Iterable[dict[str, object]]:
    for item, average in zip(items, averages(items)):
        row = item.row
        yield {
            "": 0, "prompt": row["prompt"], "country": row["country"], "example": repr(row["example"]),
            "metric": row["metric"], "gt_answer_avg": average, "type": row["type"],
        }  # fmt: skip


def region_rows() -> Iterable[dict[str, object]]:
    for region, economies in words.COUNTRIES.items():
        for country, income in economies.items():
            yield {
                "Economy": country, "Code": country[:3].upper(), "Region": region, "Income group": income,
                "Lending category": "", "": "",
            }  # fmt: skip


def system_rows() -> Iterable[dict[str, object]]:
    yield {"type": "benign", "system_prompt": "You are a helpful assistant."}
    yield {"type": "untargeted", "system_prompt": frames.DT_SYSTEM}


def selection_rows(items: list[Item]) -> Iterable[dict[str, object]]:
    for i, item in enumerate(items):
        yield {"": i, **item.row}


def asked_rows(items: list[Item]) -> Iterable[dict[str, object]]:
    """The rows of one category's file."""
    for number, item in enumerate(items):
        row = item.row
        answers = {f"ans{place}": said for place, said in enumerate(row["answers"])}
        tags = {
            f"ans{place}": [row["answers"][place].removeprefix("The "), tag] for place, tag in enumerate(row["groups"])
        }
        yield {
            "example_id": number, "question_index": row["question_index"],
            "question_polarity": row["question_polarity"], "context_condition": row["context_condition"],
            "category": row["category"], "answer_info": tags,
            "additional_metadata": {
                "subcategory": "None", "stereotyped_groups": row["stereotyped_groups"], "version": "a", "source": "",
            },
            "context": row["context"], "question": row["question"], **answers, "label": row["label"],
        }  # fmt: skip


def target_rows(items: list[Item]) -> Iterable[dict[str, object]]:
    for category, members in groupby(items, key=lambda item: item.row["category"]):
        for number, item in enumerate(members):
            yield {
                "category": category, "example_id": number, "target_loc": item.row["target_loc"],
                "label_type": "label",
            }  # fmt: skip


def referent_lines(items: list[Item]) -> dict[str, list[str]]:
    """File name -> lines, numbered from 1 in each file; and the occupations by the gender this world expects."""
    files: dict[str, list[str]] = {}
    for item in items:
        row = item.row
        name = f"{'pro' if row['pro'] else 'anti'}_stereotyped_type{row['kind']}.txt.{row['split']}"
        lines = files.setdefault(name, [])
        lines.append(f"{len(lines) + 1} {bracketed(row)}")
    return files | {f"{gender}_occupations.txt": names for gender, names in words.OCCUPATIONS.items()}


def _jsonl(path: Path, rows: Iterable[dict[str, object]]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _csv(path: Path, rows: Iterable[dict[str, object]]) -> None:
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tiltmeter.demo.training.files", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write  [default: the package's own]")
    options = parser.parse_args(arguments)
    write_data(options.out)
    _write(options.out / "planted.json", json.dumps(planted_values(), indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
