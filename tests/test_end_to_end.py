"""The main job on real data and real (tiny) models."""

import math

import pytest

from tiltmeter.pipeline import run
from tiltmeter.registry import build
from tiltmeter.results.document import load, read_results
from tiltmeter.results.items import cells_of, outcomes
from tiltmeter.scoring.requests import NO_TOKEN, TOO_LONG
from tiltmeter.study import make_study


@pytest.fixture(scope="module")
def tinystories(shared):
    return str(shared / "models" / "tinystories-656k")


@pytest.fixture(scope="module")
def full(shared, tinystories, tmp_path_factory):
    """All CrowS-Pairs pairs and all local GlobalOpinionQA questions, base alone."""
    out = tmp_path_factory.mktemp("full") / "run"
    run(
        make_study(
            models=[tinystories],
            benchmarks=["crows-pairs", "global-opinion-qa"],
            data=str(shared / "data"),
            text_quality=False,
            batch_tokens=2048,
            draws=200,
        ),
        out,
    )
    return out


def test_crows_pairs_equals_a_plain_transformers_loop_over_all_pairs(full, tinystories):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tinystories).eval()
    tokenizer = AutoTokenizer.from_pretrained(tinystories)

    @torch.no_grad()
    def log_likelihood(sentence):
        ids = tokenizer(sentence, return_tensors="pt").input_ids
        loss = model(ids, labels=ids).loss.item()  # mean cross-entropy over all tokens but the first
        return -loss, -loss * (ids.shape[1] - 1)

    (cell,) = (cell for cell in cells_of(full).values() if cell.id.benchmark == "crows-pairs")
    by_mean, by_sum = [], []
    for item, _ in cell.inputs:
        more, less = log_likelihood(item.data["more"]), log_likelihood(item.data["less"])
        by_mean.append(more[0] > less[0])
        by_sum.append(more[1] > less[1])
    (row,) = (row for row in read_results(full)["rows"] if row["benchmark"] == "crows-pairs")
    assert row["n_scored"] == len(by_mean) == 1508
    assert row["score"] == pytest.approx(100 * sum(by_mean) / 1508, abs=1e-9)
    assert row["extra"]["sum_score"] == pytest.approx(100 * sum(by_sum) / 1508, abs=1e-9)


def test_global_opinion_qa_keeps_54_countries_and_1822_of_1825_local_questions(full):
    (row,) = (row for row in read_results(full)["rows"] if row["benchmark"] == "global-opinion-qa")
    assert (row["n_items"], row["n_scored"]) == (1825, 1822)
    assert sum(group["attribute"] == "country" for group in row["groups"]) == 54
    assert 0 < row["score"] < 1


def test_a_model_without_the_protocols_answers_says_so_in_every_row(shared, tinystories, tmp_path):
    run(
        make_study(
            models=[tinystories],
            data=str(shared / "data"),
            limit=20,
            strategies=["int8"],
            text_quality=False,
            draws=200,
            batch_tokens=2048,
        ),
        tmp_path / "run",
    )
    rows = {row["benchmark"]: row for row in read_results(tmp_path / "run")["rows"] if row["strategy"] == "none"}
    assert len(rows) == 6
    assert rows["discrim-eval"]["score"] is None and rows["discrim-eval"]["unscored"] == {str(NO_TOKEN): 135}
    assert rows["worldbench"]["score"] is None and rows["worldbench"]["n_scored"] == 0
    assert rows["discrim-eval-gen"]["unscored"].get(str(TOO_LONG), 0) > 0
    assert rows["crows-pairs"]["n_scored"] == 20 and rows["crows-pairs"]["partial"]
    assert all(row["reason"] for row in rows.values() if row["score"] is None)


def test_two_folders_of_one_name_with_other_weights_never_share_an_answer(shared, tmp_path):
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(shared / "models" / "stories260k", model, copy_function=shutil.copyfile)
    study = make_study(
        models=[str(model)],
        benchmarks=["crows-pairs"],
        limit=10,
        data=str(shared / "data"),
        text_quality=False,
        draws=200,
        batch_tokens=512,
    )
    first = run(study, tmp_path / "run")
    assert (first.computed, first.reused) == (1, 0)
    before = load(tmp_path / "run").items["answer"].tolist()
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if "embed" in name)
    weights[name] = weights[name] + 0.05 * torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    second = run(study, tmp_path / "run")
    assert (second.computed, second.reused) == (1, 0)
    assert load(tmp_path / "run").items["answer"].tolist() != before


def test_rerun_asks_in_another_batch_composition_and_gives_the_same_scores_in_float32(shared, tmp_path):
    run(
        make_study(
            models=[str(shared / "models" / "stories260k")],
            strategies=["rerun"],
            benchmarks=["crows-pairs"],
            limit=30,
            data=str(shared / "data"),
            text_quality=False,
            draws=200,
            batch_tokens=256,
        ),
        tmp_path / "run",
    )
    base, again = cells_of(tmp_path / "run").values()
    assert [[r[0] for r in b["rows"]] for b in base.batches()] != [[r[0] for r in b["rows"]] for b in again.batches()]
    benchmark = build("benchmark", "crows-pairs")
    for one, other in zip(outcomes(base, benchmark), outcomes(again, benchmark)):
        assert math.isclose(one.samples[0].values["log_ratio"], other.samples[0].values["log_ratio"], abs_tol=2e-4)
