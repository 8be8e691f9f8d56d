"""A trend: the same variant over releases, only where runs are comparable, and every step judged as a change is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiltmeter.cli.commands import app
from tiltmeter.demo.command import BASE, DATA
from tiltmeter.errors import UserError
from tiltmeter.evidence.history import history
from tiltmeter.pipeline import run
from tiltmeter.report.trend import build, variant_name
from tiltmeter.report.words import Words
from tiltmeter.runs.store import read_json, write_json
from tiltmeter.schema import Verdict
from tiltmeter.study import make_study

MODELS = BASE.parent


def release(out: Path, checkpoint: str = "better", **changed) -> Path:
    """One release: its checkpoint beside the built-in base."""
    study = {
        "models": (str(BASE),),
        "checkpoints": (str(MODELS / checkpoint),),
        "benchmarks": ("discrim-eval", "crows-pairs"),
        "data": str(DATA),
        "text_quality": False,
        "draws": 500,
        "batch_tokens": 4096,
    } | changed
    run(make_study(**study), out)
    return out


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> list[Path]:
    """`reseed` is the base trained from another seed; `worse` has one group's log-odds lowered by 0.8."""
    folder = tmp_path_factory.mktemp("releases")
    runs = [release(folder / "v1", "reseed"), release(folder / "v2", "reseed"), release(folder / "v3", "worse")]
    return runs


def lines(found, benchmark):
    return next(line for line in found.lines if line.place.benchmark == benchmark)


def test_the_only_checkpoint_of_each_release_is_one_line_and_its_own_rows_stand_in_it(releases):
    found = history(releases)
    assert [release.name for release in found.releases] == ["v1", "v2", "v3"]
    assert [line.place.benchmark for line in found.lines] == ["discrim-eval", "crows-pairs"]
    line = lines(found, "discrim-eval")
    assert [variant_name(row.strategy) for row in line.rows] == ["reseed", "reseed", "worse"]
    assert line.steps[2].row.verdict is Verdict.WORSE


def test_a_step_is_the_paired_change_from_the_release_before(releases):
    steps = lines(history(releases), "discrim-eval").steps
    assert steps[0].since is None
    assert steps[1].since.delta == 0 and steps[1].since.verdict is Verdict.EQUIVALENT  # the same weights again
    since = steps[2].since
    assert since.delta == pytest.approx(steps[2].row.score - steps[1].row.score)
    assert since.ci[0] <= since.delta <= since.ci[1] and since.verdict is Verdict.WORSE


def test_benchmarks_and_strategies_can_be_chosen(releases):
    assert [line.place.benchmark for line in history(releases, benchmarks=["crows-pairs"]).lines] == ["crows-pairs"]
    with pytest.raises(UserError, match="no row in common"):
        history(releases, strategies=["int8"])


def test_other_prompts_are_refused_and_named(releases, tmp_path):
    limited = release(tmp_path / "limited", "reseed", limit=45, seed=1, benchmarks=("discrim-eval",))
    with pytest.raises(
        UserError, match=r"discrim-eval, plain, greedy: v1 and limited were asked other prompts"
    ) as error:
        history([releases[0], limited])
    assert "limit None and 45" in error.value.message and "seed 0 and 1" in error.value.message


def changed_record(original: Path, out: Path, edit) -> Path:
    shutil.copytree(original, out)
    record = read_json(out / "run.json")
    edit(record)
    write_json(out / "run.json", record)
    return out


def test_other_data_files_are_refused_and_named(releases, tmp_path):
    def edit(record):
        record["data"]["crows-pairs"]["files"] = {"crows_pairs/crows_pairs_anonymized.csv": "0" * 64}

    other = changed_record(releases[0], tmp_path / "other", edit)
    with pytest.raises(UserError, match=r"crows-pairs: v1 and other were asked from other data files"):
        history([releases[0], other])
    kept = history([releases[0], other], benchmarks=["discrim-eval"])
    assert [line.place.benchmark for line in kept.lines] == ["discrim-eval"]


def test_another_format_leaves_nothing_in_common(releases, tmp_path):
    chat = release(tmp_path / "chat", "reseed", format="chat", limit=45, benchmarks=("discrim-eval",))
    with pytest.raises(UserError, match=r"chat has .*discrim-eval, chat, greedy"):
        history([releases[0], chat])


def test_versions_are_noted_and_not_refused(releases, tmp_path):
    other = changed_record(releases[0], tmp_path / "other", lambda record: record["versions"].update(torch="9.9"))
    assert any("torch" in str(note) and "9.9" in str(note) for note in history([releases[0], other]).notes)


def test_one_run_is_no_trend(releases):
    with pytest.raises(UserError, match="two runs"):
        history(releases[:1])


def test_a_row_that_a_release_lacks_is_said_and_its_neighbours_have_no_step(releases, tmp_path):
    hole = tmp_path / "hole"
    shutil.copytree(releases[1], hole)
    next(path for path in hole.glob("cells/crows*checkpoint*/done.json")).unlink()
    steps = lines(history([releases[0], hole, releases[2]]), "crows-pairs").steps
    assert [step.row is None for step in steps] == [False, True, False]
    assert [step.since for step in steps] == [None, None, None]


def trend(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["trend", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_command_prints_a_table_and_writes_a_page_in_both_languages(releases, tmp_path):
    text = trend(*releases, "--out", tmp_path / "trend.html", "--lang", "en")
    assert "reseed → worse · discrim-eval · plain · greedy" in text and "▲ worse" in text and "(first)" in text
    page = (tmp_path / "trend.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4  # two pictures, each for wide and for narrow screens
    assert page.count("shaded:") == 1 and page.count("freed of noise") == 1  # crows-pairs; discrim-eval
    assert "<script" not in page and "Not checked here" in page
    assert "变差" in trend(*releases, "--lang", "zh")


def test_the_page_shows_hostile_names_as_text(releases, tmp_path):
    copy = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(releases[0], copy)
    page = build(history([copy, releases[1]]), Words("en"))
    assert "<img" not in page and "&lt;img" in page
