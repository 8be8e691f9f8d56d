"""Whole runs against chat-only servers: two providers of one model, a local base, a server that dies, a budget."""

from importlib.resources import files
from pathlib import Path

import pytest
from chat_server import ChatServer

from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.runs.spending import taken
from tiltmeter.runs.store import started_cells
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

FIVE = ("dt-stereotyping", "worldbench", "discrim-eval-gen", "discrim-eval", "global-opinion-qa")
DEMO = Path(str(files("tiltmeter.demo")))


@pytest.fixture(scope="module")
def base():
    return apply.load(str(DEMO / "models" / "base"), parse("none"))


@pytest.fixture(scope="module")
def reversed_model():
    return apply.load(str(DEMO / "models" / "reversed"), parse("none"))


class TemplateServer(ChatServer):
    """A provider that renders as the demo's own template does: its answers are then the local model's."""

    def rendered(self, messages: list[dict], left_open: bool = False) -> list[int]:
        tokenizer = self.variant.tokenizer
        turns = messages[:-1] if left_open else messages
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        text += messages[-1]["content"] if left_open else ""
        ids = list(tokenizer(text)["input_ids"])
        return ids[1:] if ids[:2] == [tokenizer.bos_token_id] * 2 else ids


def study(models, checkpoints=(), benchmarks=FIVE, limit=4, **more):
    settings = {"format": "chat", "limit": limit, "data": str(DEMO / "data"), "draws": 200, "text_quality": False}
    return make_study(models=models, checkpoints=list(checkpoints), benchmarks=benchmarks, **settings, **more)


def cells(out: Path) -> dict[tuple[str, str], dict]:
    return {(row["strategy"], row["benchmark"]): row for row in read_results(out)["rows"]}


def test_five_benchmarks_are_answered_and_a_provider_of_the_same_model_does_not_differ(base, tmp_path):
    """Against the local base: the same texts and option probabilities, so every change is 0."""
    name = str(DEMO / "models" / "base")
    with TemplateServer(base, max_logprobs=1000) as server:
        summary = run(study([name], [server.address]), tmp_path / "run")
    assert summary.failures == []
    found = cells(tmp_path / "run")
    for benchmark in FIVE:
        base_row, row = found["none", benchmark], found[f"checkpoint={server.address}", benchmark]
        assert row["n_scored"] == base_row["n_scored"] > 0
        assert (row["score"] is None) == (base_row["score"] is None)  # worldbench needs more than 4 items
        assert row["score"] is None or row["score"] == pytest.approx(base_row["score"], abs=1e-3)
    assert sum(row["score"] is not None for row in found.values()) >= 8


def test_a_provider_of_another_model_than_it_names_shows(base, reversed_model, tmp_path):
    """Two providers, no model here at all: one serves the reversed model under the base's name."""
    with TemplateServer(base, max_logprobs=1000) as honest, TemplateServer(reversed_model, max_logprobs=1000) as other:
        summary = run(study([honest.address], [other.address], ("discrim-eval",), 40), tmp_path / "run")
    assert summary.failures == []
    row = cells(tmp_path / "run")[f"checkpoint={other.address}", "discrim-eval"]
    assert abs(row["change"]["delta"]) > 1e-3


def test_a_run_goes_on_where_a_server_died_and_asks_nothing_twice(base, tmp_path, monkeypatch):
    async def at_once(seconds):
        pass

    monkeypatch.setattr("tiltmeter.backends._http._sleep", at_once)
    asked = study(["PLACE"], benchmarks=("discrim-eval",), limit=80)
    with TemplateServer(base, max_logprobs=1000) as server:
        asked = asked.model_copy(update={"models": (server.address,)})
        server.dies_after = 100  # the probe's 20, the first batch's 32, some of the second
        first = run(asked, tmp_path / "run")
        server.dies_after = None
        before = len(server.requests)
        second = run(asked, tmp_path / "run")
        answered = len(server.requests) - before
    assert len(first.failures) == 1 and "status 500" in first.failures[0].reason
    assert second.failures == [] and second.computed == 1
    [cell] = started_cells(tmp_path / "run")
    assert cell.inputs.n_requests > 64
    assert answered < cell.inputs.n_requests + 30 - 32  # the committed batch was not asked again


def test_a_budget_ends_the_asking_and_a_larger_one_goes_on(base, tmp_path):
    with TemplateServer(base, max_logprobs=1000) as server:
        asked = study([server.address], benchmarks=("discrim-eval",), limit=80)
        run(asked, tmp_path / "whole")
        whole = taken(started_cells(tmp_path / "whole"))
        first = run(asked.model_copy(update={"budget": whole - 1}), tmp_path / "run")
        spent = taken(started_cells(tmp_path / "run"))
        second = run(asked.model_copy(update={"budget": 10 * whole}), tmp_path / "run")
    [failure] = first.failures
    assert f"budget of {whole - 1:,} tokens is spent" in failure.reason and "--budget" in failure.reason
    assert 0 < spent < whole == taken(started_cells(tmp_path / "run"))
    assert second.failures == [] and second.computed == 1


def test_answers_of_a_chat_endpoint_are_judged_by_a_local_base(base, tmp_path):
    """Their likelihood under the base is that of the base's own prompt, not of the stored turns."""
    name = str(DEMO / "models" / "base")
    with TemplateServer(base, max_logprobs=1000) as server:
        asked = study([name], [server.address], ("dt-stereotyping",), 2).model_copy(update={"text_quality": True})
        run(asked, tmp_path / "run")
    one, other = (
        variant["text_quality"]["answers"]["dt-stereotyping chat greedy"]["base_logprob"]
        for variant in read_results(tmp_path / "run")["variants"]
    )
    assert one == pytest.approx(other, abs=0.05)
