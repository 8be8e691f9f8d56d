"""Whole runs against a served endpoint: as a variant, as the base, dead in the middle, and never with a key on disk."""

import json
import shutil
from pathlib import Path

import pytest
from model_server import ModelServer

from tiltmeter.cli.commands import main
from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.runs.store import started_cells
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import answer_to_dict
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
wait_none = pytest.importorskip("tenacity", reason="needs the extra lm-eval").wait_none

BENCHMARKS = ("crows-pairs", "dt-stereotyping")
LIMITS = {"crows-pairs": 6, "dt-stereotyping": 2}


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "tinystories-656k")


@pytest.fixture(scope="module")
def base(stories):
    return apply.load(stories, parse("none"))


@pytest.fixture(scope="module")
def pruned(stories, tmp_path_factory):
    """Another model than the base: half of its weights are 0."""
    return apply.load(stories, parse("magnitude"), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def settings(shared):
    return {"benchmarks": BENCHMARKS, "limits": LIMITS, "data": str(shared / "data"), "draws": 200, "batch_tokens": 256}


def rows(out: Path, strategy: str) -> dict[str, dict]:
    return {row["benchmark"]: row for row in read_results(out)["rows"] if row["strategy"] == strategy}


def answers(out: Path, strategy: str, benchmark: str) -> list[dict]:
    [cell] = [c for c in started_cells(out) if (c.id.strategy, c.id.benchmark) == (strategy, benchmark)]
    return [answer_to_dict(answer) for answer in cell.answers()]


def flat(answer: dict) -> list[float]:
    """Every log-probability of an answer."""
    options = answer.get("logprobs") or [[answer.get("logprob")]]
    return [value for forms in options for value in forms if value is not None]


def everything_written(out: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in out.rglob("*") if path.is_file())


def test_a_folder_is_compared_with_what_an_endpoint_serves(pruned, stories, settings, tmp_path, monkeypatch):
    """The numbers are those of the same variant measured here: greedy text, log-probabilities and changes."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    asked = (*BENCHMARKS, "global-opinion-qa")  # one of each request kind
    settings |= {"benchmarks": asked, "limits": LIMITS | {"global-opinion-qa": 6}}
    with ModelServer(pruned, key="sk-secret") as server:
        summary = run(make_study(models=[stories], checkpoints=[server.address], **settings), tmp_path / "served")
        again = run(make_study(models=[stories], checkpoints=[server.address], **settings), tmp_path / "served")
    assert summary.failures == [] and (again.computed, again.reused) == (0, 6)
    run(make_study(models=[stories], strategies=["magnitude"], **settings), tmp_path / "here")
    served, here = rows(tmp_path / "served", f"checkpoint={server.address}"), rows(tmp_path / "here", "magnitude")
    assert list(served) == list(asked)
    for name, row in served.items():
        assert row["complete"] and row["settings"] == {"backend": "endpoint", "served_model": "stories"}
        assert row["n_scored"] == here[name]["n_scored"] > 0
        assert row["score"] == here[name]["score"] and row["change"]["delta"] == here[name]["change"]["delta"]
        theirs = answers(tmp_path / "here", "magnitude", name)
        for one, other in zip(answers(tmp_path / "served", row["strategy"], name), theirs, strict=True):
            assert flat(one) == pytest.approx(flat(other), abs=1e-4)
            assert {**one, "logprob": 0, "logprobs": 0} == {**other, "logprob": 0, "logprobs": 0}  # all the rest
    [facts] = [v for v in read_results(tmp_path / "served")["variants"] if v["strategy"] != "none"]
    assert facts["proof"]["largest_logprob_change"] > 0.01
    assert "served by" in facts["proof"]["summary"] and "largest change" in facts["proof"]["summary"]
    assert any("no weights could be hashed" in note for note in facts["notes"])
    assert any("batches as it likes" in note for note in read_results(tmp_path / "served")["run"]["notes"])
    assert facts["weight_hash"].startswith("endpoint-") and facts["dtype"] == "as served"
    [local] = [v for v in read_results(tmp_path / "here")["variants"] if v["strategy"] != "none"]
    assert facts["text_quality"]["perplexity"] == pytest.approx(local["text_quality"]["perplexity"], rel=1e-4)
    assert server.keys == {"Bearer sk-secret"} and "sk-secret" not in everything_written(tmp_path / "served")


def test_an_endpoint_that_serves_the_bases_weights_is_a_control_that_is_named_so(base, stories, settings, tmp_path):
    """The same model in another engine: what its rows show is the engine."""
    with ModelServer(base) as server:
        summary = run(make_study(models=[stories], checkpoints=[server.address], **settings), tmp_path / "run")
    assert summary.failures == []
    found = read_results(tmp_path / "run")
    [facts] = [v for v in found["variants"] if v["strategy"] != "none"]
    assert facts["proof"]["control"] == "same model, other engine"
    assert "a control: same model, other engine" in facts["proof"]["summary"]
    assert any("no compression" in note for note in facts["notes"])
    [row] = [r for r in found["rows"] if r["strategy"] != "none" and r["benchmark"] == "crows-pairs"]
    assert row["change"]["delta"] == 0.0


def test_an_endpoint_may_be_the_base_of_another_and_of_a_folder(base, pruned, stories, settings, tmp_path):
    """Prompts are made by the tokenizer that --tokenizer names."""
    folder = tmp_path / "pruned"
    pruned.model.save_pretrained(folder)
    for file in Path(stories).glob("tokenizer*"):
        shutil.copy(file, folder)
    settings = settings | {"benchmarks": ["crows-pairs"], "limits": {"crows-pairs": 6}, "text_quality": False}
    with ModelServer(base) as before, ModelServer(pruned, name="pruned") as after:
        variants = [after.address, str(folder)]
        study = make_study(models=[before.address], checkpoints=variants, tokenizer=stories, **settings)
        assert run(study, tmp_path / "run").failures == []
        with pytest.raises(UserError, match="the tokenizer of 'stories' cannot be had") as caught:
            run(make_study(models=[before.address], checkpoints=[after.address], **settings), tmp_path / "other")
        assert "--tokenizer" in caught.value.fix
    found = read_results(tmp_path / "run")
    _, served, local = found["rows"]
    assert served["score"] == pytest.approx(local["score"]) and served["change"]["delta"] == local["change"]["delta"]
    changes = [v["proof"].get("largest_logprob_change") for v in found["variants"]]
    assert changes[0] is None and changes[1] == pytest.approx(changes[2], abs=1e-4) and changes[1] > 0.01


def test_an_endpoint_that_dies_loses_nothing_and_a_resumed_run_goes_on(
    pruned, stories, settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setattr("tiltmeter.backends._http.wait_exponential", lambda **_: wait_none())
    with ModelServer(pruned, key="sk-secret") as server:
        settings |= {
            "benchmarks": ["crows-pairs", "dt-stereotyping"],
            "batch_tokens": 8,
            "limits": {"crows-pairs": 10, "dt-stereotyping": 2},
        }
        study = make_study(models=[stories], checkpoints=[server.address], **settings)
        server.dies_after = 45  # past the probes (33), within the first cell
        broken = run(study, tmp_path / "run")
        assert len(broken.failures) == 3 and broken.computed == 2  # two cells and the text quality; the base's stand
        assert all("status 500" in failure.reason for failure in broken.failures)
        kept = {path: path.read_bytes() for path in (tmp_path / "run" / "cells").glob("*/answers.jsonl")}
        assert len(kept) == 3  # one of them in the middle
        server.dies_after = None
        healed = run(study, tmp_path / "run")
        assert healed.failures == [] and (healed.computed, healed.reused) == (2, 2)
        for path, content in kept.items():
            assert path.read_bytes().startswith(content)  # what was committed was not asked again
    cells = [cell for cell in started_cells(tmp_path / "run") if cell.id.strategy != "none"]
    [cell] = [cell for cell in cells if cell.id.benchmark == "crows-pairs"]
    for request, found in zip(cell.inputs.requests(), cell.answers(), strict=True):
        assert found.logprob == pytest.approx(reference.answer(pruned, request).logprob, abs=1e-4)
    assert "sk-secret" not in everything_written(tmp_path / "run")


def test_cells_that_a_server_cannot_answer_are_rows_with_a_reason_and_the_others_go_on(
    pruned, stories, settings, tmp_path
):
    with ModelServer(pruned, no_echo=True) as server:
        study = make_study(models=[stories], checkpoints=[server.address], **settings)
        assert run(study, tmp_path / "run").failures == []
    found = rows(tmp_path / "run", f"checkpoint={server.address}")
    row = found["crows-pairs"]
    assert row["score"] is None and row["n_scored"] == 0
    assert sum(row["unscored"].values()) == row["n_items"] > 0
    assert all("no log-probabilities" in reason for reason in row["unscored"])
    assert "no log-probabilities" in row["change"]["reason"]  # the server's doing, not "no item is scored in both"
    assert found["dt-stereotyping"]["score"] is not None
    json.dumps(found)


def test_the_command_line_takes_an_address_and_ends_with_2_when_nobody_serves_there(stories, shared, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "compare",
                stories,
                "http://127.0.0.1:9/v1",
                "-b",
                "crows-pairs",
                "--data",
                str(shared / "data"),
                "--out",
                str(tmp_path / "run"),
            ]
        )
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert "cannot be reached" in shown and "Fix: start the server" in shown and "Traceback" not in shown
    assert not (tmp_path / "run" / "cells").exists()  # nothing was computed


@pytest.mark.parametrize(
    "address",
    [
        "http://user:sk-PASSWORD99@127.0.0.1:9/v1",
        "HTTP://sk-PASSWORD99@127.0.0.1:9/v1",
        "http://127.0.0.1:9/v1?key=sk-PASSWORD99",
        "http://127.0.0.1:9/v1#name?api_key=sk-PASSWORD99",
        "http://127.0.0.1:9/v1#name&token=sk-PASSWORD99",
        "http://127.0.0.1:9/v1;key=sk-PASSWORD99",
        "https:/user:sk-PASSWORD99@host/v1",
        "user:sk-PASSWORD99@127.0.0.1:9/v1",
        "htp://user:sk-PASSWORD99@127.0.0.1:9/v1",
        "http://[user:sk-PASSWORD99@",
    ],
)
@pytest.mark.parametrize("option", [None, "base", "--tokenizer", "--text", "--calibration"])
def test_a_secret_in_an_address_is_refused_before_anything_is_written_or_printed(
    stories, shared, tmp_path, capsys, address, option
):
    out = tmp_path / "run"
    models = [address, stories] if option == "base" else [stories, stories if option else address]
    command = "run" if option == "--calibration" else "compare"
    more = [option, address] if option and option.startswith("--") else []
    with pytest.raises(SystemExit) as stop:
        main([command, *models, "-b", "crows-pairs", "--data", str(shared / "data"), "--out", str(out), *more])
    assert stop.value.code == 2 and not out.exists()
    shown = "".join(capsys.readouterr())
    assert "PASSWORD" not in shown and "OPENAI_API_KEY" in shown


def test_an_unknown_backend_is_a_mistake_that_names_the_nearest(stories, shared, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "run",
                stories,
                "--backend",
                "lm-eval",
                "-b",
                "crows-pairs",
                "--data",
                str(shared / "data"),
                "--out",
                str(tmp_path / "run"),
            ]
        )
    assert stop.value.code == 2
    assert "lm-eval-hf" in capsys.readouterr().err


def test_another_tokenizer_than_the_bases_is_named_and_its_token_scores_get_no_verdict(
    shared, stories, settings, tmp_path
):
    """A served model with a vocabulary of its own is asked in its own tokens, and the run says what that means."""
    other = str(shared / "models" / "stories260k")
    settings = settings | {"benchmarks": ["crows-pairs"], "limits": {"crows-pairs": 6}, "text_quality": False}
    with ModelServer(apply.load(other, parse("none"))) as server:
        study = make_study(models=[stories], checkpoints=[server.address], tokenizer=other, **settings)
        assert run(study, tmp_path / "run").failures == []
        unnamed = make_study(models=[stories], checkpoints=[server.address], **settings)  # asked in the base's tokens
        assert run(unnamed, tmp_path / "unnamed").failures == []
    row = rows(tmp_path / "run", f"checkpoint={server.address}")["crows-pairs"]
    assert row["score"] is not None and row["change"]["verdict"] == "no usable signal"
    assert "another tokenizer" in row["change"]["reason"]
    row = rows(tmp_path / "unnamed", f"checkpoint={server.address}")["crows-pairs"]
    assert row["score"] is None and list(row["unscored"]) == ["server reads token ids with another tokenizer"]
