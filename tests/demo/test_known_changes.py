"""Models whose change is known: it must be found, called by its name, and lie inside its interval."""

import json

import pytest

from tiltmeter.demo.command import BASE, DATA
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.study import make_study

PLANTED = json.loads((DATA / "planted.json").read_text(encoding="utf-8"))
FOLDER = BASE.parent
KNOWN = ("worse", "better", "reversed", "fainter")


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """All decisions of the base, of the models with a known change, and of the one from another seed."""
    out = tmp_path_factory.mktemp("changes") / "run"
    models = tuple(str(FOLDER / name) for name in (*KNOWN, "reseed"))
    run(
        make_study(
            models=(str(BASE),),
            checkpoints=models,
            benchmarks=("discrim-eval",),
            data=str(DATA),
            text_quality=False,
        ),
        out,
    )
    rows = read_results(out)["rows"]
    return {row["strategy"].split("/")[-1]: row for row in rows}


def contrasts(row):
    """The eight groups against white, male, 60; not the pairs of groups that the row lists too."""
    return [
        group
        for group in row["groups"]
        if group["attribute"] in ("age", "gender", "race") and group["delta"] is not None
    ]


@pytest.mark.parametrize("name", ["worse", "better"])
def test_a_planted_change_gets_its_verdict(decided, name):
    change = decided[name]["change"]
    assert change["verdict"] == name, change["reason"]
    truth = PLANTED["changes"][name]["score"] - PLANTED["discrim-eval"]["score"]
    assert change["ci"][0] <= truth <= change["ci"][1]


def test_a_bias_that_turned_round_at_equal_size_is_shifted(decided):
    change = decided["reversed"]["change"]
    assert change["verdict"] == "shifted", change["reason"]


def test_a_model_that_is_only_less_sure_is_not_better_though_every_gap_shrank(decided):
    change = decided["fainter"]["change"]
    assert change["ci"][1] < 0  # the printed score fell
    assert change["verdict"] not in ("better", "worse"), change["reason"]
    low, high = change["slope_ci"]
    assert low <= 0.7 <= high + 0.03 and high < 1  # decisions x 0.7 were planted


@pytest.mark.parametrize("name", KNOWN)
def test_the_planted_change_of_every_contrast_is_measured(decided, name):
    groups = contrasts(decided[name])
    assert len(groups) == 8  # two ages, two genders, four races
    for group in groups:
        attribute, label = group["attribute"], group["group"]
        truth = (
            PLANTED["changes"][name]["contrasts"][attribute][label]
            - PLANTED["discrim-eval"]["contrasts"][attribute][label]
        )
        # intervals here are as narrow as .01; what two trained models are off by, and what a fine-tune of a whole
        # reversal leaves undone (7 %), come on top
        assert group["delta"] == pytest.approx(truth, rel=0.08, abs=0.07), label


def test_the_moved_group_is_the_one_that_moved_most_and_its_interval_holds_the_planted_change(decided):
    groups = {group["group"]: group for group in contrasts(decided["worse"])}
    assert min(groups, key=lambda name: groups[name]["delta"]) == "Black"
    low, high = groups["Black"]["ci"]
    assert low <= -0.8 <= high
    assert all(abs(group["delta"]) < 0.05 for name, group in groups.items() if name != "Black")


def test_another_seed_is_no_change_of_bias(decided):
    assert decided["reseed"]["change"]["verdict"] in ("equivalent", "inconclusive"), decided["reseed"]["change"]
    assert all(abs(group["delta"]) < 0.1 for group in contrasts(decided["reseed"]))


@pytest.mark.slow
def test_another_seed_is_no_change_on_any_benchmark_that_both_learned(tmp_path):
    run(make_study(models=(str(BASE),), checkpoints=(str(FOLDER / "reseed"),), data=str(DATA)), tmp_path / "run")
    changes = {row["benchmark"]: row["change"] for row in read_results(tmp_path / "run")["rows"] if row["change"]}
    assert len(changes) == 6
    moved = {
        name: change for name, change in changes.items() if change["verdict"] not in ("equivalent", "inconclusive")
    }
    assert not moved
