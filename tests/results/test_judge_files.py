"""`tiltmeter judge` on Inspect logs, CSV files, and everything that is none of the known formats."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tiltmeter.analysis import judge
from tiltmeter.cli.commands import app
from tiltmeter.errors import UserError
from tiltmeter.results.logs import files
from tiltmeter.results.logs.files import read_logs
from tiltmeter.results.logs.judged import judge_logs
from tiltmeter.results.logs.plain import Layout
from tiltmeter.schema import Document

INSPECT = Path(__file__).parent / "inspect_loans.json"  # written by Inspect 0.3.285 (mock model); transcripts left out
GAPS = Layout(groups=("gender",), cluster="question", gap_margin=0.05)


def table(path: Path, scores: np.ndarray, question: np.ndarray, gender: np.ndarray, **more: list[str]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "question", "gender", "score", *more])
        columns = (range(len(scores)), question, gender, ["" if np.isnan(s) else f"{s:g}" for s in scores])
        writer.writerows(zip(*columns, *more.values()))
    return path


@pytest.fixture
def loans(tmp_path):
    """Two CSV files: 100 questions about two women and two men; in the variant 30 women more are told yes."""
    question, woman = np.repeat(np.arange(100), 4), np.tile([True, True, False, False], 100)
    base = np.zeros(400)
    variant = np.where((question < 30) & (np.arange(400) % 4 == 0), 1.0, base)
    gender = np.where(woman, "woman", "man")
    folder = tmp_path / "tables"
    folder.mkdir()
    paths = [table(folder / f"{n}.csv", x, question, gender) for n, x in (("base", base), ("int8", variant))]
    return *paths, judge(base, variant, gap_margin=0.05, clusters=question, groups={"gender": gender}, name="score")


def judged(base: Path, *variants: Path, layout: Layout = GAPS, data: Path = Path("nowhere")) -> Document:
    return judge_logs(base, variants, layout=layout, data=data)


def test_a_csv_file_gives_what_the_arrays_in_it_give(loans):
    base, variant, of_arrays = loans
    change = judged(base, variant).rows[1].change
    assert (change.delta, change.verdict, change.p) == (of_arrays.delta, of_arrays.verdict, of_arrays.p)
    assert change.spreads[0].movement == of_arrays.spreads[0].movement


def test_the_order_of_the_rows_does_not_matter(loans, tmp_path):
    base, variant, of_arrays = loans
    header, *rows = variant.read_text("utf-8").splitlines(keepends=True)
    turned = tmp_path / "turned.csv"
    turned.write_text(header + "".join(reversed(rows)), encoding="utf-8")
    assert judged(base, turned).rows[1].change.p == of_arrays.p


def test_variants_are_judged_together(loans):
    base, variant, of_arrays = loans
    two = judged(base, variant, base).rows
    assert [row.strategy.rpartition("/")[2] for row in two] == ["none", "int8.csv", "base.csv"]
    assert two[1].change.p_adjusted == pytest.approx(min(1.0, 2 * of_arrays.p))  # Holm over two hypotheses


def test_an_inspect_log_is_read_as_json_and_as_a_zip_of_json(tmp_path):
    (as_json,) = read_logs(INSPECT)
    content = json.loads(INSPECT.read_text("utf-8"))
    packed = tmp_path / "loans.eval"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({k: v for k, v in content.items() if k != "samples"}))
        for sample in content["samples"]:
            archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    (as_zip,) = read_logs(packed)
    assert as_json.task == as_zip.task == "loans" and len(as_zip.lines) == 40
    assert [line.scores for line in as_zip.lines] == [line.scores for line in as_json.lines]
    printed = content["results"]["scores"][0]["metrics"]["accuracy"]["value"]
    row = judged(INSPECT, packed, layout=Layout(groups=("gender",), gap_margin=0.1)).rows[0]
    assert row.score == pytest.approx(printed)  # Inspect's own accuracy: C is 1, I is 0
    assert {(g.group, g.n) for g in row.groups} == {("woman", 20), ("man", 20)}


def test_epochs_are_samples_of_one_item(tmp_path):
    content = json.loads(INSPECT.read_text("utf-8"))
    again = [{**sample, "epoch": 2} for sample in content["samples"]]
    log = tmp_path / "two.json"
    log.write_text(json.dumps({**content, "samples": content["samples"] + again}), encoding="utf-8")
    row = judged(log, log, layout=Layout(groups=("gender",), gap_margin=0.1)).rows[0]
    assert (row.n_items, row.n_samples) == (40, 2)


def test_the_command_prints_the_table_and_one_document(loans):
    base, variant, _ = loans
    words = [str(base), str(variant), "--group", "gender", "--cluster", "question", "--gap-margin", "0.05"]
    shown = CliRunner().invoke(app, ["judge", *words])
    assert shown.exit_code == 0 and "worse" in shown.output and "Proof that" not in shown.output
    document = json.loads(CliRunner().invoke(app, ["judge", *words, "--json"]).output)
    assert Document.model_validate(document).rows[1].change.verdict == "worse"


MADE = {
    "summary.json": (json.dumps({"results": {}, "configs": {}}), "samples_TASK"),
    "other.json": (json.dumps({"a": 1}), "none of the formats"),
    "broken.json": ('{"eval": {', "not JSON"),
    "cut.jsonl": (json.dumps({"doc_id": 0, "doc": {}, "filtered_resps": []}) + '\n{"doc_id": 1,', "line 2: not JSON"),
    "plain.txt": ("hello", "no CSV header"),
    "twice.csv": ("item,score\na,1\na,0\n", "occurs twice"),
    "ragged.csv": ("item,score\na,1,2\n", "row 1: 3 cells under 2 columns"),
    "empty.csv": ("item,score\n", "holds no item"),
    "words.csv": ("item,score\na,yes\n", "has 0 scores"),
    "outside.csv": ("item,score\na,7\n", "outside of 0 to 1"),
    "no_group.csv": ("item,score\na,1\n", "no field 'question'"),
    "bad.eval": ("PK\x03\x04nothing", "damaged zip"),
}


@pytest.mark.parametrize("name", MADE)
def test_what_cannot_be_read_is_refused_with_what_to_type_next(name, tmp_path):
    content, message = MADE[name]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        judged(path, path)
    assert caught.value.fix and str(path) in caught.value.message


def test_a_margin_is_asked_for_where_no_benchmark_has_one(loans):
    with pytest.raises(UserError) as caught:
        judged(loans[0], loans[1], layout=Layout())
    assert "--gap-margin" in caught.value.fix and "--ideal" in caught.value.fix


def test_files_about_other_people_are_not_compared(loans, tmp_path):
    base, variant, _ = loans
    other = tmp_path / "other.csv"
    other.write_text(variant.read_text("utf-8").replace("woman", "person"), encoding="utf-8")
    with pytest.raises(UserError, match="item '0' is"):
        judged(base, other)


def test_a_zip_in_a_compression_that_python_cannot_read_names_the_command_that_converts_it(tmp_path):
    path = tmp_path / "new.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # the method, in both headers
        place = raw.index(signature) + offset
        raw[place : place + 2] = files.ZSTD.to_bytes(2, "little")
    path.write_bytes(raw)
    with pytest.raises(UserError, match="Zstandard") as caught:
        read_logs(path)
    assert "inspect log convert" in caught.value.fix


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        archive.writestr("samples/a.json", "0" * 1_000_000)
    monkeypatch.setattr(files, "LARGEST_FILE", 100_000)
    with pytest.raises(UserError, match="unpacks to more"):
        read_logs(path)


def test_a_folder_of_several_models_must_be_named_more_closely(tmp_path):
    line = json.dumps({"doc_id": 0, "doc": {}, "filtered_resps": [], "metrics": []})
    for model in ("a", "b"):
        (tmp_path / model).mkdir()
        (tmp_path / model / f"samples_{model}_2026-01-01T00-00-00.0.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(UserError, match="several models"):
        read_logs(tmp_path)
