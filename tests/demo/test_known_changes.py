"""Models whose change is known: it must be found, called by its name, and lie inside its interval."""

import json

import pytest

from tiltmeter.demo.command import BASE, DATA
from tiltmeter.pipeline import run
from tiltmeter.results import read_results
from tiltmeter.study import make_study

PLANTED = json.loads((DATA / "planted.json").read_text(encoding="utf-8"))
FOLDER = BASE.parent


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """All decisions of the base and of the two models with a moved bias."""
    out = tmp_path_factory.mktemp("changes") / "run"
    models = tuple(str(FOLDER / name) for name in ("worse", "better"))
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
    # the model's own error of about .03 comes on top of the interval, which knows only the questions' spread
    assert change["ci"][0] - 0.03 < truth < change["ci"][1] + 0.03
    assert change["delta"] == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize("name", ["worse", "better"])
def test_the_planted_change_of_every_contrast_is_measured(decided, name):
    groups = contrasts(decided[name])
    assert len(groups) == 8  # two ages, two genders, four races
    inside = 0
    for group in groups:
        attribute, label = group["attribute"], group["group"]
        truth = (
            PLANTED["changes"][name]["contrasts"][attribute][label]
            - PLANTED["discrim-eval"]["contrasts"][attribute][label]
        )
        assert group["delta"] == pytest.approx(truth, abs=0.12), label
        inside += group["ci"][0] <= truth <= group["ci"][1]
    assert inside >= 5  # intervals of 95 %, and a model that is off by a few hundredths of a log-odds


def test_the_moved_group_is_the_one_that_moved_most(decided):
    moves = {group["group"]: group["delta"] for group in contrasts(decided["worse"])}
    assert min(moves, key=moves.get) == "Black" and moves["Black"] == pytest.approx(-0.8, abs=0.1)
    assert all(abs(delta) < 0.1 for group, delta in moves.items() if group != "Black")
