"""A chat-only server is asked in messages, through its own template; what it cannot say is refused with its reason."""

import math
from pathlib import Path

import pytest
from chat_server import ChatServer

from tiltmeter.errors import UserError
from tiltmeter.registry import build
from tiltmeter.runs.spending import BudgetSpent, Spending, expected
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation, OptionProbs, Prompt, SequenceLogprob
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

from tiltmeter.backends import _http

USER = Prompt("", (("system", "Be kind."), ("user", "Lily was a happy girl.")))
MESSAGES = [{"role": role, "content": text} for role, text in USER.messages]


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "stories260k")


@pytest.fixture(scope="module")
def variant(stories):
    return apply.load(stories, parse("none"))


def asked(address: str, base: str | None):
    """(backend, loaded variant, engine, render) of a chat endpoint, compared with `base` or alone."""
    models = {"models": [base], "checkpoints": [address]} if base else {"models": [address]}
    study = make_study(**models, format="chat")
    backend = build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None)
    backend.check()
    identity = backend.identity(address)
    loaded = backend.load(next(spec for spec in study.variants() if spec.source == address))
    return backend, loaded, backend.engine(loaded, 2048), identity.renderer("chat")[0]


def test_texts_are_written_after_the_servers_own_template(variant, stories):
    with ChatServer(variant) as server:
        _, _, engine, render = asked(server.address, stories)
        [answer] = engine.answer([Generation(render(USER), 40)])
        expected_ids = reference.new_ids(variant, server.rendered(MESSAGES), Generation("", 40))
    written = variant.tokenizer.decode(expected_ids, skip_special_tokens=True)
    assert (answer.clean, answer.n_tokens) == (written, len(expected_ids))
    assert answer.text == answer.clean + ("<s>" if answer.stopped == "eos" else "")
    assert server.requests[-1]["messages"] == MESSAGES


def test_each_sample_is_a_request_with_its_own_seed(variant, stories):
    with ChatServer(variant) as server:
        _, _, engine, render = asked(server.address, stories)
        requests = [Generation(render(USER), 12, temperature=1.5, top_p=0.9, seed=seed) for seed in (1, 2, 1)]
        first, second, third = engine.answer(requests)
        sent = [body for body in server.requests if body.get("temperature") == 1.5]
    assert first == third and first.text != second.text
    assert sorted(body["seed"] for body in sent) == [1, 1, 2] and {body["top_p"] for body in sent} == {0.9}
    assert {"top_k", "min_p", "repetition_penalty"} <= set(sent[0])
    assert any("own generator" in note for note in engine.notes)


def test_options_are_the_first_token_of_the_answer_by_what_it_writes(variant, stories):
    """The truth is the whole softmax after the server's template, added up over tokens that write the same."""
    with ChatServer(variant, max_logprobs=1000) as server:
        _, _, engine, render = asked(server.address, stories)
        truth = server.first_tokens(MESSAGES)
        (likely, p), *_, (unlikely, q) = sorted(truth.items(), key=lambda entry: -entry[1])[:200]
        before = len(server.requests)
        [answer] = engine.answer([OptionProbs(render(USER), ((likely,), (unlikely, "no such token at all")))])
        assert len(server.requests) - before == 1
    [[first], [second, absent]] = answer.logprobs
    assert math.exp(first) == pytest.approx(p, rel=1e-3) and math.exp(second) == pytest.approx(q, rel=1e-3)
    assert absent is None and answer.left_out < 1e-3


def test_an_option_beyond_the_list_has_no_answer_and_its_probability_is_bounded(variant, stories):
    with ChatServer(variant) as server:
        _, _, engine, render = asked(server.address, stories)
        ranked = sorted(server.first_tokens(MESSAGES).items(), key=lambda entry: -entry[1])
        [answer] = engine.answer([OptionProbs(render(USER), ((ranked[0][0],), (ranked[60][0],)))])
    assert answer.logprobs is None and "20 likeliest" in answer.error
    below = float(str(answer.error).rsplit("below ", 1)[1].rstrip(")"))
    assert ranked[60][1] < below < 0.1


def test_what_a_chat_endpoint_cannot_say_is_refused_with_its_reason(variant, stories):
    with ChatServer(variant, max_logprobs=None) as server:
        _, _, engine, render = asked(server.address, stories)
        before = len(server.requests)
        sequence, options = engine.answer([SequenceLogprob("A girl."), OptionProbs(render(USER), (("a",),))])
        assert len(server.requests) == before
    assert "no log-probability of a whole text" in sequence.error
    assert "no log-probabilities of an answer's first token" in options.error


@pytest.mark.parametrize("goes_on", ["asked", "always", "never"])
def test_an_answer_is_begun_where_the_server_goes_on_after_it(variant, stories, goes_on):
    with ChatServer(variant, goes_on=goes_on, max_logprobs=1000) as server:
        _, loaded, engine, render = asked(server.address, stories)
        prompt = Prompt("", USER.messages, "She liked to")
        begun = [*MESSAGES, {"role": "assistant", "content": " She liked to"}]
        truth = server.first_tokens(MESSAGES) if goes_on == "never" else server.first_tokens(begun, True)
        likely = max(truth, key=truth.__getitem__)
        [answer] = engine.answer([OptionProbs(render(prompt), ((likely,),))])
    assert math.exp(answer.logprobs[0][0]) == pytest.approx(truth[likely], rel=1e-3)
    without = [note for note in engine.notes if "without the published answer prefix" in note]
    different = [each for each in loaded.proof.get("differences", ()) if each["about"] == "chat template"]
    assert bool(without) == bool(different) == (goes_on == "never")


def test_plain_prompts_are_refused_before_anything_is_computed(variant, stories):
    with ChatServer(variant) as server:
        study = make_study(models=[server.address])
        backend = build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None)
        with pytest.raises(UserError) as caught:
            backend.identity(server.address).renderer("plain")
    assert "chat endpoint" in caught.value.message and caught.value.fix == "--format chat"


def test_no_tokenizer_is_needed(variant):
    """Two providers of a model that nobody here has."""
    with ChatServer(variant, name="secret-large") as server:
        _, loaded, engine, render = asked(server.address, None)
        [answer] = engine.answer([Generation(render(USER), 8)])
    assert loaded.tokenizer is None and answer.error is None and answer.clean


def test_the_chat_page_of_a_server_that_has_both_is_asked_when_it_is_named(variant, stories):
    with ChatServer(variant, pages=("/v1/models", "/v1/completions", "/v1/chat/completions")) as server:
        _, _, engine, render = asked(f"{server.address}/chat/completions#stories", stories)
        [answer] = engine.answer([Generation(render(USER), 4)])
        assert answer.error is None and "messages" in server.requests[-1]


@pytest.mark.parametrize(
    ("pause", "slept"), [("7", 7.0), ("Sun, 06 Nov 1994 08:49:50 GMT", 13.0), ("nonsense", 1.0), ("-3", 1.0)]
)
def test_a_limit_of_rates_is_waited_for_as_long_as_the_server_asks(variant, stories, monkeypatch, pause, slept):
    """No clock: the date is measured from the answer's own (here 08:49:37, the example of RFC 9110)."""
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(_http, "_sleep", sleep)
    monkeypatch.setattr(
        "http.server.BaseHTTPRequestHandler.date_time_string", lambda self, *a: "Sun, 06 Nov 1994 08:49:37 GMT"
    )
    with ChatServer(variant) as server:
        _, _, engine, render = asked(server.address, stories)
        server.busy = [(429, pause)] * 5  # more than the attempts that a failure is given
        [answer] = engine.answer([Generation(render(USER), 4)])
    assert answer.error is None and len(pauses) == 5 and pauses[0] == slept


def test_the_budget_is_refused_before_it_is_exceeded():
    requests = [Generation("x" * 39, 90)] * 3
    assert expected(requests) == (30, 270)  # 39 characters: at most 10 tokens
    spending = Spending(300, spent=0)
    spending.allow(requests)
    spending.spent = 1
    with pytest.raises(BudgetSpent, match="budget of 300 tokens is spent: 1 were taken"):
        spending.allow(requests)
    Spending(None, spent=10**9).allow(requests)
