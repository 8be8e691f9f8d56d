"""`tiltmeter judge` on real logs of lm-evaluation-harness: its scores, its errors, the verdicts that `run` gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
from extra import linked
from lm_eval_logs import CATEGORIES, TASKS, bbq_rows, coarser, local_tasks, logged, printed, same_data

from tiltmeter.cli.judge import _counter
from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_document
from tiltmeter.results.logs.judged import judge_logs
from tiltmeter.results.logs.plain import Layout
from tiltmeter.schema import Row
from tiltmeter.study import make_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # lm-evaluation-harness itself runs, three times


@pytest.fixture(scope="module")
def made(shared, stories, tmp_path_factory):
    """Logs of base and variant, the data folder, and the folder of the variant's model."""
    folder = tmp_path_factory.mktemp("lm-eval")
    tasks = local_tasks(shared, folder / "tasks")
    data = linked(shared / "data" / "extra", _folder(folder / "data"))
    (data / "crows_pairs").symlink_to(shared / "data" / "crows_pairs")
    variant = coarser(stories, folder / "coarser")
    logs = {
        name: logged(model, tasks, folder / name, *TASKS) for name, model in (("base", stories), ("variant", variant))
    }
    return logs, data, variant


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def judged(made, stories) -> dict[tuple[str, bool], Row]:
    """(benchmark, whether it is the variant's) -> row."""
    logs, data, _ = made
    document = judge_logs(logs["base"], [logs["variant"]], layout=Layout(), data=data, count_tokens=_counter(stories))
    return {(row.benchmark, row.change is not None): row for row in document.rows}


@pytest.fixture(scope="module")
def ran(made, stories, shared, tmp_path_factory) -> dict[str, Row]:
    """The same items in a run: benchmark -> the variant's row."""
    _, _, variant = made
    folder = tmp_path_factory.mktemp("run")
    own = same_data(shared, folder / "data")
    study = make_study(
        models=(stories,),
        checkpoints=(variant,),
        benchmarks=("crows-pairs", "winogender"),
        data=str(own),
        text_quality=False,
    )
    run(study, folder / "out")
    return {row.benchmark: row for row in read_document(folder / "out").rows if row.change}


@pytest.mark.parametrize("task, benchmark", zip(TASKS, ("crows-pairs", "winogender", "bbq")))
@pytest.mark.parametrize("which", ["base", "variant"])
def test_the_scores_that_lm_eval_printed_are_reproduced(made, judged, task, benchmark, which):
    logs, _, _ = made
    wanted = printed(logs[which], task)
    row = judged[benchmark, which == "variant"]
    ours = {name.removeprefix("lm-eval:"): x for name, x in row.extra.items() if name.startswith("lm-eval:")}
    assert ours and {name: pytest.approx(wanted[name], abs=1e-9) for name in ours} == ours


def test_the_accuracy_that_lm_eval_printed_for_generated_answers_is_reproduced(made, judged):
    logs, _, _ = made
    for which in ("base", "variant"):
        row = judged["bbq-open", which == "variant"]
        assert row.extra["lm-eval:acc"] == pytest.approx(printed(logs[which], "bbq_generate")["acc"], abs=1e-9)


@pytest.mark.parametrize("benchmark", ["crows-pairs"])  # this tokenizer joins winogender's prompt and option
def test_the_change_and_the_verdict_are_those_of_a_run_on_the_same_items(judged, ran, benchmark):
    """Answers of two engines differ by float32 rounding (5e-5 nats), labels do not; p is adjusted over other rows."""
    of_log, of_run = judged[benchmark, True].change, ran[benchmark].change
    assert (of_log.n_paired, of_log.flips.n) == (of_run.n_paired, of_run.flips.n)
    assert of_log.flips.n > 10  # the two models do differ
    assert (of_log.base, of_log.variant, of_log.delta) == (of_run.base, of_run.variant, of_run.delta)
    assert of_log.ci == pytest.approx(of_run.ci, abs=1e-9)
    assert of_log.p_score == of_run.p_score
    assert of_log.verdict == of_run.verdict


def test_bbq_is_judged_by_its_questions_and_categories(judged, shared):
    row = judged["bbq", True]
    assert row.n_items == len(bbq_rows(shared)) == 200
    assert {g.group for g in row.groups if g.attribute == "category"} == set(CATEGORIES)
    assert row.change.verdict.judged and not row.change.ci_reason  # 50 questions, 100 ambiguous rows: enough


def test_known_errors_are_named_beside_the_verdicts(judged):
    said = {name: " ".join(map(str, judged[name, False].notes)) for name in ("crows-pairs", "winogender", "bbq")}
    assert "0.2 is as far from it as one at 0.8" in said["crows-pairs"]
    assert "which are no bias" in said["winogender"]
    assert "0 there instead of −1" in said["bbq"] and "10 wordings of 12" in said["bbq"]


def test_a_label_that_is_text_is_never_right_for_lm_eval_and_that_is_said(shared, stories, made, tmp_path):
    """The real library on the same sentences: it prints accuracy 0, and the log-likelihoods decide here."""
    _, data, _ = made
    log = logged(stories, local_tasks(shared, tmp_path / "tasks", str), tmp_path / "out", "winogender_all")
    assert printed(log, "winogender_all")["acc"] == 0
    (base, _) = judge_logs(log, [log], layout=Layout(), data=data).rows
    assert base.extra["accuracy"] > 30
    assert any("compares a label that is text with a number" in str(note) for note in base.notes)


def test_logs_of_other_prompts_are_not_compared(made, tmp_path):
    logs, data, _ = made
    source = next(logs["base"].glob("samples_winogender*"))
    lines = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(json.dumps({**line, "prompt_hash": "x"}) for line in lines), encoding="utf-8")
    with pytest.raises(UserError, match="360 items were asked otherwise"):
        judge_logs(source, [other], layout=Layout(), data=data)
