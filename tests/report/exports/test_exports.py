"""Every format is accepted by its own validator, says what was not judged, and shows hostile text as text."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import report_synthetic
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from huggingface_hub import ModelCard, parse_eval_result_entries
from lm_eval.utils import make_table
from made_documents import document, row
from report_run import POISON, write_run

from tiltmeter.cli.exports import run_export
from tiltmeter.decisions.policy import Policy
from tiltmeter.errors import UserError
from tiltmeter.report.exports import FORMATS, badge, cyclonedx, every_eval, export, hub, lm_eval
from tiltmeter.report.exports.subject import distance, public_name, subjects
from tiltmeter.schema import Document, Variant, Verdict

WHEN = datetime(2026, 11, 22, 6, tzinfo=UTC)
HUB_DATA = {
    "discrim-eval": {
        "source": "https://huggingface.co/datasets/Anthropic/discrim-eval",
        "revision": "7d0b97f60863185139e704f8bb626f47c29494fe",
        "published": True,
        "files": {"discrim_eval/explicit.jsonl": "0" * 64},
    },
    "crows-pairs": {"source": "https://github.com/nyu-mll/crows-pairs", "published": True},
}


def made(**more) -> Document:
    """Two strategies, all six benchmarks, every field hostile where `poison` is given; one variant has failed."""
    found = report_synthetic.document(strategies=("int8", "wanda"), **more)
    return found.but(run=found.run.but(failures=()))


def of(found: Document, strategy: str = "int8", **more):
    return subjects(found, Policy(), strategy=strategy, **more)[0]


def small(*verdicts: str, **run) -> Document:
    """int8 on as many rows as verdicts."""
    names = list(report_synthetic.BENCHMARKS)[: len(verdicts)]
    rows = [row(None, "none", benchmark=name) for name in names]
    rows += [row(verdict, benchmark=name, complete=True) for name, verdict in zip(names, verdicts)]
    return document(rows, [Variant(model="m", strategy="none"), Variant(model="m", strategy="int8")], **run)


# Every Eval Ever


@pytest.fixture(scope="module")
def every_eval_schema() -> dict:
    """The format's own schema, from its own package (make test puts it there; it needs a newer Python to run)."""
    path = Path(sys.prefix) / "formats" / "every_eval_ever" / "schemas" / "eval.schema.json"
    if not path.exists():
        message = "needs the package every-eval-ever, unpacked: make test does it"
        pytest.fail(message) if os.environ.get("TILTMETER_REQUIRE_SHARED") == "1" else pytest.skip(message)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("poison", ["", POISON])
def test_every_eval_ever_accepts_a_record(every_eval_schema, poison):
    assert every_eval_schema["version"] == every_eval.SCHEMA
    validator = jsonschema.Draft7Validator(every_eval_schema)
    for subject in subjects(made(poison=poison), Policy()):
        (text,) = every_eval.files(subject, WHEN).values()
        assert list(validator.iter_errors(json.loads(text))) == []


def test_a_record_without_its_required_parts_is_refused_by_the_schema(every_eval_schema):
    record = every_eval.record(of(made()), WHEN)
    del record["evaluation_results"][0]["metric_config"]["lower_is_better"]
    assert not jsonschema.Draft7Validator(every_eval_schema).is_valid(record)


def test_the_score_of_a_record_is_the_distance_from_the_ideal_with_its_interval():
    found = row("equivalent", score=44.0, ci=(42.0, 47.0))
    assert distance(found) == (6.0, (3.0, 8.0))
    assert distance(found.but(ci=(44.0, 51.0)))[1] == (0.0, 6.0)  # 50 lies inside
    assert distance(row("equivalent", score=0.1, ideal=1.0, ci=None))[0] == pytest.approx(0.9)
    record = every_eval.record(of(document([row(None, "none"), found])), WHEN)
    (entry,) = record["evaluation_results"]
    assert entry["score_details"]["score"] == 6.0
    assert entry["score_details"]["details"]["score"] == "44"
    assert entry["metric_config"]["lower_is_better"] is True and entry["metric_config"]["max_score"] == 50


def test_a_row_without_a_score_is_no_entry_but_is_named():
    found = document(
        [row(None, "none"), row("no usable signal", score=None, reason="nothing could be read", complete=True)]
    )
    record = every_eval.record(of(found), WHEN)
    assert record["evaluation_results"] == []
    assert "crows-pairs" in record["source_metadata"]["additional_details"]["not_judged"]


# CycloneDX


@pytest.mark.parametrize("poison", ["", POISON])
def test_cyclonedx_accepts_the_bill(poison):
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for subject in subjects(made(poison=poison), Policy()):
        (text,) = cyclonedx.files(subject, WHEN).values()
        assert validator.validate_str(text) is None


def test_the_strict_validator_refuses_what_is_no_bill():
    bom = cyclonedx.bom(of(made()))
    bom["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = 1.0
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) is not None


def test_groups_are_slices_with_the_interval_of_their_change():
    found = document([row(None, "none"), row("equivalent")])
    metrics = cyclonedx.bom(of(found))["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    (group,) = [metric for metric in metrics if metric.get("slice")]
    assert group["slice"] == "bias_type=age" and group["value"] == "6"
    assert group["confidenceInterval"] == {"lowerBound": "2", "upperBound": "10"}
    assert {"type": "crows-pairs, plain-greedy: verdict", "value": "equivalent"} in metrics


def test_the_bill_names_a_checkpoint_by_the_hash_of_its_files_and_a_made_variant_by_a_property():
    variants = [
        Variant(model="m", strategy="none", weight_hash="a" * 64),
        Variant(model="m", strategy="int8", weight_hash="a" * 64),
        Variant(model="m", strategy="checkpoint=/home/me/m-awq", weight_hash="b" * 64),
    ]
    rows = [row(None, "none"), row("equivalent"), row("equivalent", "checkpoint=/home/me/m-awq")]
    found = document(rows, variants)
    (own,) = cyclonedx.bom(of(found, "checkpoint=/home/me/m-awq"))["components"]
    assert own["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}] and own["name"] == "m-awq"
    (int8,) = cyclonedx.bom(of(found))["components"]
    assert "hashes" not in int8 and any(p["name"] == "tiltmeter:sha256 of recipe" for p in int8["properties"])
    assert int8["pedigree"]["ancestors"][0]["hashes"][0]["content"] == "a" * 64


def test_the_same_run_gives_the_same_bill():
    assert cyclonedx.bom(of(made())) == cyclonedx.bom(of(made()))


# the Hub


def test_the_hubs_own_classes_read_the_card():
    found = made(models=("org/base",))
    text = hub.files(of(found, name="org/base-int8"), WHEN)["README.md"]
    card = ModelCard(text, ignore_metadata_errors=False)
    assert card.data.base_model == "org/base" and card.data.to_dict()["base_model_relation"] == "quantized"
    assert card.data.model_name == "org/base-int8"
    results = {result.dataset_name: result for result in card.data.eval_results}
    kept = {row.benchmark: row for row in found.rows if row.strategy == "int8" and not math.isnan(row.score)}
    assert {name: result.metric_value for name, result in results.items()} == {n: r.score for n, r in kept.items()}
    assert results["crows-pairs"].metric_args["verdict"] == str(kept["crows-pairs"].verdict)


def test_pruning_is_not_called_quantization_and_a_local_base_is_no_hub_id():
    data = ModelCard(hub.card([of(made(models=("org/base",)), "wanda")])).data.to_dict()
    assert data["base_model"] == "org/base" and "base_model_relation" not in data
    local = ModelCard(hub.card([of(made(models=("/home/me/base",)))])).data.to_dict()
    assert "base_model" not in local and "base_model_relation" not in local
    assert ModelCard(hub.card([of(made(models=("/home/me/base",)), base_name="org/b")])).data.base_model == "org/b"


def test_a_ready_made_checkpoint_is_quantized_where_its_proof_counted_layers():
    for layers, expected in ((7, True), (0, False)):
        proof = {"summary": "s", "quantized_layers": layers}
        variants = [Variant.model_validate({"model": "m", "strategy": "checkpoint=o/v", "proof": proof})]
        assert of(document([row("equivalent", "checkpoint=o/v")], variants), "checkpoint=o/v").quantized is expected


def test_hostile_names_stay_text_in_the_card():
    found = made(poison=POISON)
    _, front, body = hub.card(subjects(found, Policy())).split("---\n", 2)
    assert isinstance(yaml.safe_load(front)["model-index"], list)
    assert "<script>" not in body and "<img" not in body
    tables = [line for line in body.splitlines() if line.startswith("|")]
    assert tables and {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {len(hub.COLUMNS) + 1}


def test_only_whole_published_rows_of_a_hub_data_set_are_entries_and_the_rest_is_named():
    found = small("equivalent", "equivalent", "equivalent", "equivalent", "equivalent", data=HUB_DATA)
    subject = of(found)
    text = hub.files(subject, WHEN)[".eval_results/tiltmeter.yaml"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.value) == ("Anthropic/discrim-eval", 60.0)
    assert entry.dataset_revision == HUB_DATA["discrim-eval"]["revision"]
    assert "against m: equivalent" in entry.notes
    assert "# left out: crows-pairs, plain-greedy: its data set is not on the Hub" in text
    assert "# left out: worldbench, plain-greedy: not from the published files" in text


def test_a_part_of_the_items_and_other_data_than_the_published_never_enter_a_leaderboard():
    for changed in ({"partial": True}, {"complete": False}, {"score": None, "reason": "nothing could be read"}):
        rows = [row(None, "none", benchmark="discrim-eval"), row("inconclusive", benchmark="discrim-eval", **changed)]
        assert list(hub.files(of(document(rows, data=HUB_DATA)), WHEN)) == ["README.md"]


# lm-evaluation-harness


def test_the_harness_prints_a_table_of_the_results_and_what_is_unknown_is_not_a_number():
    found = document(
        [row(None, "none"), row("worse"), row("no usable signal", benchmark="worldbench", score=None, change=None)]
    )
    results = lm_eval.results(of(found), WHEN)
    table = make_table(results)
    assert re.search(r"crows-pairs.*\|plain-greedy\|\s*0\|change", table)
    assert re.search(r"distance_from_ideal\s*\|↓\s*\|\s*10(\.0+)?\s*\|", table)  # |60 - 50|, of which less is better
    assert results["results"]["worldbench"]["score,plain-greedy"] == "N/A"
    assert results["tiltmeter"]["verdicts"]["worldbench,plain-greedy"].startswith("none")
    assert any("worldbench" in reason for reason in results["tiltmeter"]["not_judged"])
    json.loads(json.dumps(results, allow_nan=False))


# badge


def picture(found: Document, lang: str = "en") -> ElementTree.Element:
    return ElementTree.fromstring(badge.svg(of(found), lang))


@pytest.mark.parametrize(
    ("verdicts", "says", "colour"),
    [
        (("equivalent", "equivalent"), "no change that matters: 2 of 2", "equivalent"),
        (("equivalent", "inconclusive"), "cannot tell: 1 of 2", "inconclusive"),
        (("equivalent", "no usable signal"), "no usable signal: 1 of 2", "unusable"),
        (("better", "worse"), "worse: 1 of 2", "worse"),
        (("better", "shifted", "inconclusive"), "shifted: 1 of 3", "shifted"),
        (("better", "better"), "better: 2 of 2", "better"),
        (("better", "equivalent"), "no change that matters: 2 of 2", "equivalent"),
        (("equivalent", "not exercised"), "no change that matters: 1 of 2, not exercised: 1", "equivalent"),
        (("not exercised", "not exercised"), "not exercised: 2 of 2", "idle"),
    ],
)
def test_a_badge_shows_the_verdict_that_a_reader_must_see_first(verdicts, says, colour):
    found = picture(small(*verdicts))
    title = found.find("{*}title").text
    assert title == found.get("aria-label") == f"tiltmeter: bias under int8: {says}"
    assert [box.get("class") for box in found.iter("{http://www.w3.org/2000/svg}rect")] == [None, f"v-{colour}"]


def test_a_badge_is_never_green_where_a_cell_is_missing_partial_or_failed():
    place = {"model": "m", "strategy": "int8", "format": "plain", "decoding": "greedy", "benchmark": "worldbench"}
    missing = small("equivalent", missing=[{**place, "reason": "not begun"}])
    failed = small("equivalent", failures=[{"model": "m", "strategy": "int8", "reason": "text quality: disk"}])
    partial = document([row(None, "none"), row("equivalent", partial=True)])
    unfinished = document([row(None, "none"), row("equivalent", complete=False)])
    base_missing = small("equivalent", missing=[{**place, "strategy": "none", "reason": "failed"}])
    for found in (missing, failed, partial, unfinished, base_missing):
        assert badge.found(of(found))[0] is Verdict.INCONCLUSIVE


def test_harm_in_who_is_answered_and_in_a_part_of_the_items_is_harm():
    who = {"base": 0.0, "variant": 0.3, "delta": 0.3, "verdict": "worse"}
    assert badge.found(of(document([row(None, "none"), row("equivalent", change={"unanswered": who})])))[0] == "worse"
    assert badge.found(of(document([row(None, "none"), row("worse", partial=True)])))[0] == "worse"


def test_a_badge_speaks_chinese_and_escapes_names():
    assert picture(small("worse"), "zh").find("{*}title").text == "tiltmeter: int8 下的偏见: 变差：1 / 1"
    hostile = document([row(None, "none"), row("worse", "int8" + POISON)])
    text = badge.svg(of(hostile, "int8" + POISON))
    assert {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()} <= {
        "svg", "title", "rect", "g", "text",
    }  # fmt: skip


# all of them


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_was_not_judged(name):
    """A hole in the run shows in each; the badge counts it, the others name it."""
    place = {"model": "m", "strategy": "int8", "format": "plain", "decoding": "greedy", "benchmark": "worldbench"}
    whole, holed = small("equivalent"), small("equivalent", missing=[{**place, "reason": "it was not begun"}])
    texts = ["\n".join(FORMATS[name](of(found), WHEN).values()) for found in (whole, holed)]
    assert texts[0] != texts[1]
    said = "cannot tell" if name == "badge" else "it was not begun"
    assert said in texts[1] and said not in texts[0]


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_tells_folders_or_addresses_of_this_machine(name):
    secret = "/home/somebody/private"
    checkpoint = f"checkpoint={secret}/m.Q4_K_M.gguf"
    place = {"format": "plain", "decoding": "greedy", "benchmark": "worldbench", "model": f"{secret}/base"}
    rows = [row(None, "none", model=f"{secret}/base"), row("worse", checkpoint, model=f"{secret}/base")]
    found = document(rows, missing=[{**place, "strategy": checkpoint, "reason": f"no file in {secret}/base"}])
    subject = of(found, checkpoint)
    assert secret not in "".join(FORMATS[name](subject, WHEN).values())
    assert subject.folder == "00-m.Q4-K-M.gguf"
    assert public_name("http://10.0.0.1:8000/v1#my-model") == "my-model"
    assert public_name("http://10.0.0.1:8000/v1") == "served-model"


def test_files_are_written_per_variant_and_mistakes_are_named(tmp_path):
    found = made()
    written = export(found, list(FORMATS), tmp_path, when=WHEN)
    assert [subject.folder for subject, _ in written] == ["00-int8", "01-wanda"]
    assert all(path.is_file() and path.parent.parent == tmp_path for _, paths in written for path in paths)
    with pytest.raises(UserError, match="no format called 'cyclondx'") as error:
        export(found, ["cyclondx"], tmp_path)
    assert error.value.fix == "did you mean 'cyclonedx'?"
    with pytest.raises(UserError, match="no variant 'int3'"):
        export(found, ["badge"], tmp_path, strategy="int3")
    with pytest.raises(UserError, match="can name one variant"):
        export(found, ["hub"], tmp_path, name="org/x")


def test_the_command_prints_paths_and_counts_what_was_not_judged(tmp_path, capsys):
    write_run(tmp_path, strategies=("int8",), benchmarks=("crows-pairs",))
    options = {"strategy": "int8", "name": None, "base_name": None, "policy": None, "out": None, "lang": "en"}
    run_export(tmp_path, ["badge", "cyclonedx"], **options)
    printed = capsys.readouterr()
    assert printed.out.split() == [
        str(tmp_path / "export" / "00-int8" / name) for name in ("badge.svg", "bom.cdx.json")
    ]
    assert re.fullmatch(r"int8: not proven safe; \d+ limits could not be judged\n", printed.err)
