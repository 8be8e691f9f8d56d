"""Every backend is listed; lm-evaluation-harness' own transformers class answers as `scoring.reference` defines."""

from pathlib import Path

import pytest
from backend_requests import REQUESTS, same

from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.registry import build, known
from tiltmeter.results.document import read_results
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation
from tiltmeter.study import make_study

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "stories260k")


def test_every_backend_is_listed_with_what_it_is(capsys):
    from tiltmeter.cli.listing import show_list

    show_list("backends")
    shown = capsys.readouterr().out
    assert {"transformers", "endpoint", "lm-eval-hf"} <= set(known("backend"))
    assert all(name in shown for name in known("backend"))


@pytest.mark.parametrize("strategy", ["none", "magnitude"])
def test_lm_evals_own_transformers_class_answers_as_the_reference(stories, tmp_path, strategy):
    study = make_study(models=[stories], strategies=[strategy], backend="lm-eval-hf")
    backend = build("backend", "lm-eval-hf", study=study, probed=lambda base: None, say=lambda line: None)
    backend.check()
    loaded = backend.load(study.variants()[-1])
    engine = backend.engine(loaded, 2048)
    same(engine.answer(REQUESTS), [reference.answer(loaded, request) for request in REQUESTS])
    sampled = [Generation("Once upon a time", 12, 1.0, 1.0, seed) for seed in (5, 6, 5)]
    first, second, third = engine.answer(sampled)
    assert first == third and first.text != second.text
    assert any("own generator" in note for note in engine.notes)


@pytest.mark.parametrize("strategy", ["kv4", "assisted"])
def test_lm_evals_class_refuses_what_acts_outside_the_weights(stories, tmp_path, strategy):
    if strategy == "assisted":
        strategy = f"assisted:assistant={stories}"
    study = make_study(models=[stories], strategies=[strategy], backend="lm-eval-hf")
    backend = build("backend", "lm-eval-hf", study=study, probed=lambda base: None, say=lambda line: None)
    with pytest.raises(UserError, match="acts outside the model's weights"):
        backend.check()


def test_a_run_through_lm_evals_class_gives_the_built_in_engines_numbers(stories, shared, tmp_path):
    settings = {
        "benchmarks": ["crows-pairs", "global-opinion-qa"],
        "text_quality": False,
        "batch_tokens": 256,
        "limit": 6,
        "draws": 200,
        "data": str(shared / "data"),
    }
    other = make_study(models=[stories], strategies=["magnitude"], backend="lm-eval-hf", **settings)
    assert run(other, tmp_path / "run").computed == 4
    assert run(make_study(models=[stories], strategies=["magnitude"], **settings), tmp_path / "run").computed == 4
    found = [row for row in read_results(tmp_path / "run")["rows"]]  # newest cell of every row: the built-in engine's
    assert all("backend" not in row["settings"] for row in found)
    again = run(other, tmp_path / "run")
    assert (again.computed, again.reused) == (0, 4)  # the two never share a cell
    for ours, theirs in zip(found, read_results(tmp_path / "run")["rows"], strict=True):
        assert theirs["settings"]["backend"] == "lm-eval-hf"
        assert (
            ours["score"] == theirs["score"]
            if ours["score"] is None
            else ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
        )
