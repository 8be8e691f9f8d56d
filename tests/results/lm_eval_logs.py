"""Real logs: lm-evaluation-harness run on the stories model and on a coarser copy of it, from local copies of the data.

The tasks are its own (`include:` of the installed YAML); only where they find their data is changed.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tiltmeter.benchmarks.winogender import PRONOUNS

TASKS = {
    "crows_pairs_english": "crows_pairs/crows_pairs_english.yaml",
    "winogender_all": "winogender/winogender.yaml",
    "bbq": "bbq/bbq_multiple_choice.yaml",
    "bbq_generate": "bbq/bbq_generate.yaml",
}
CATEGORIES = ("Age", "Religion")
EVERY = 5  # crows_pairs: each fifth pair
OCCUPATIONS = 30  # winogender: the first half
ROWS_OF_A_QUESTION = 4  # a quad: both contexts, both polarities


def bbq_rows(shared: Path) -> list[str]:
    """The first quad of every question of two categories, in file order: 50 questions, 200 rows."""
    kept = []
    for category in CATEGORIES:
        count: dict[str, int] = {}
        for line in (shared / "data" / "extra" / "bbq" / f"{category}.jsonl").read_text("utf-8").splitlines():
            question = json.loads(line)["question_index"]
            count[question] = count.get(question, 0) + 1
            if count[question] <= ROWS_OF_A_QUESTION:
                kept.append(line)
    return kept


def local_tasks(shared: Path, folder: Path, label: type = int) -> Path:
    """A folder for --include_path. label: of winogender, `int` as published, `str` as it is often copied."""
    import lm_eval

    folder.mkdir()
    with open(shared / "data" / "crows_pairs" / "crows_pairs_anonymized.csv", encoding="utf-8") as file:
        wanted = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
        crows = [{"id": n, **{name: row[name] for name in wanted}} for n, row in enumerate(csv.DictReader(file))][
            ::EVERY
        ]
    with open(shared / "data" / "extra" / "winogender" / "all_sentences.tsv", encoding="utf-8") as file:
        winogender = [
            _winogender(row["sentid"], row["sentence"], label) for row in csv.DictReader(file, delimiter="\t")
        ]
    data = {
        "crows_pairs_english": [json.dumps(row) for row in crows],
        "winogender_all": [json.dumps(row) for row in winogender[: 12 * OCCUPATIONS]],
        "bbq": bbq_rows(shared),
        "bbq_generate": bbq_rows(shared),
    }
    for task, file in TASKS.items():
        (folder / f"{task}.jsonl").write_text("\n".join(data[task]) + "\n", encoding="utf-8")
        (folder / f"{task}.yaml").write_text(
            f"include: {Path(lm_eval.__file__).parent / 'tasks' / file}\ntask: {task}\ndataset_path: json\n"
            f"dataset_name: null\ntest_split: train\ndataset_kwargs:\n  data_files: {folder / task}.jsonl\n",
            encoding="utf-8",
        )
    return folder


def same_data(shared: Path, folder: Path) -> Path:
    """The items of `local_tasks` as the data of a run: crows-pairs and winogender."""
    crows = folder / "crows_pairs" / "crows_pairs_anonymized.csv"
    crows.parent.mkdir(parents=True)
    with open(shared / "data" / "crows_pairs" / crows.name, encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    with open(crows, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows[::EVERY]])
    source, target = shared / "data" / "extra" / "winogender", folder / "winogender"
    target.mkdir()
    shutil.copy(source / "occupations-stats.tsv", target)
    lines = (source / "all_sentences.tsv").read_text("utf-8").splitlines(keepends=True)
    (target / "all_sentences.tsv").write_text("".join(lines[: 1 + 12 * OCCUPATIONS]), encoding="utf-8")
    return folder


def _winogender(sentid: str, sentence: str, label: type) -> dict:
    occupation, participant, answer, gender = sentid.removesuffix(".txt").split(".")
    words = [word.strip(".,;:!?").lower() for word in sentence.split()]
    return {
        "sentid": sentid,
        "sentence": sentence,
        "pronoun": next(word for word in words if word in PRONOUNS[gender]),
        "occupation": occupation,
        "participant": participant,
        "gender": gender,
        "target": (occupation, participant)[int(answer)],
        "label": label(answer),
    }


def coarser(model: str, folder: Path) -> str:
    """A copy whose linear weights are rounded to 15 levels a row (what 4 bits do), as an ordinary checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        for layer in loaded.model.layers.modules():
            if isinstance(layer, torch.nn.Linear):
                step = layer.weight.abs().amax(1, keepdim=True) / 7
                layer.weight.copy_((layer.weight / step).round() * step)
    loaded.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(Path(model) / name, folder / name)
    return str(folder)


def logged(model: str, tasks: Path, out: Path, *names: str) -> Path:
    """The folder of samples files that `lm_eval --log_samples` writes."""
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={model}", "--log_samples"]
    command += ["--tasks", ",".join(names), "--include_path", str(tasks), "--output_path", str(out)]
    command += ["--batch_size", "64", "--device", "cpu"]
    command += ["--gen_kwargs", "max_gen_toks=48"] if "bbq_generate" in names else []
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(out / "hub"), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    return next(path.parent for path in out.rglob("results_*.json"))


def printed(folder: Path, task: str) -> dict[str, float]:
    """What lm-evaluation-harness printed for a task."""
    results = json.loads(next(folder.glob("results_*.json")).read_text("utf-8"))["results"][task]
    return {name.partition(",")[0]: value for name, value in results.items() if name.endswith(",none")}
