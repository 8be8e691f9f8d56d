"""A served model answers as `scoring.reference` defines, over real HTTP; what a server cannot answer is named."""

import math
import os
from pathlib import Path

import pytest
from backend_requests import REQUESTS, same
from model_server import ModelServer

from tiltmeter.backends.base import BackendFailed
from tiltmeter.errors import UserError
from tiltmeter.registry import build
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
wait_none = pytest.importorskip("tenacity", reason="needs the extra lm-eval").wait_none


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "stories260k")


@pytest.fixture(scope="module")
def variant(stories):
    return apply.load(stories, parse("none"))


def endpoint(address: str, base: str, run: Path, **settings):
    """(backend, variant, engine) of a served model."""
    study = make_study(models=[base], checkpoints=[address], **settings)
    backend = build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None)
    backend.check()
    identity = backend.identity(address)
    spec = next(spec for spec in study.variants() if spec.source == address)
    backend._of_base = lambda *_: None  # the same model is served here: what it answers, not whether it is another
    served = backend.load(spec)
    return identity, served, backend.engine(served, 2048)


@pytest.mark.parametrize("switches", [{}, {"openai_only": True}], ids=["as vLLM speaks", "nothing beyond OpenAI"])
def test_a_served_model_answers_as_the_reference(variant, stories, tmp_path, switches):
    expected = [reference.answer(variant, request) for request in REQUESTS]
    with ModelServer(variant, **switches) as server:
        _, served, engine = endpoint(server.address, stories, tmp_path)
        plan = engine.plan(REQUESTS)
        assert sorted(index for batch in plan for index in batch) == list(range(len(REQUESTS)))
        same(engine.answer(REQUESTS), expected)
        assert engine.stats.tokens_asked > 0
        assert any("no weights could be hashed" in note for note in served.notes)
        assert any("takes no settings beyond OpenAI's" in note for note in served.notes) == bool(switches)


@pytest.mark.parametrize("openai_only", [False, True])
def test_text_that_ends_keeps_its_end_token(variant, stories, tmp_path, openai_only):
    """Through token ids, or put back where the server says that it stopped: the parsers must see it."""
    request = Generation("The cat", 400)
    expected = reference.answer(variant, request)
    assert expected.stopped == "eos" and expected.text == expected.clean + "<s>"  # this model's end token
    with ModelServer(variant, openai_only=openai_only) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        assert engine.answer([request]) == [expected]


def test_sampling_settings_and_a_seed_of_its_own_reach_the_server_with_every_request(variant, stories, tmp_path):
    requests = [Generation("The", 12, temperature=1.5, top_p=0.9, seed=2**40 + seed) for seed in (1, 2, 1)]
    with ModelServer(variant) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        first, second, third = engine.answer(requests)
        asked = [body for body in server.requests if body.get("temperature") == 1.5]
    assert first == third and first.text != second.text
    assert sorted(body["seed"] for body in asked) == [1, 1, 2]
    for body in asked:
        assert (body["top_p"], body["max_tokens"], body["top_k"], body["repetition_penalty"]) == (0.9, 12, -1, 1.0)
        assert body["stop_token_ids"] == [1] and "stop" not in body
    assert any("own generator" in note for note in engine.notes)


@pytest.mark.parametrize(
    ("switches", "unscored", "reason"),
    [
        ({"adds_bos": True}, {"logprob", "logprobs", "text"}, "adds a token (BOS again)"),
        ({"vocabulary_shift": 7}, {"logprob", "logprobs", "text"}, "another tokenizer"),
        ({"no_echo": True, "max_logprobs": None}, {"logprob", "logprobs"}, "no log-probabilities"),
        ({"no_echo": True}, {"logprob"}, "no log-probabilities"),
        ({"llama_cpp": True}, {"logprob"}, "no log-probabilities"),
    ],
)
def test_what_a_server_cannot_answer_is_unscored_with_its_reason(
    variant, stories, tmp_path, switches, unscored, reason
):
    requests = [SequenceLogprob("A girl."), OptionProbs("A girl", ((" was",),)), Generation("Once upon a time", 4)]
    with ModelServer(variant, **switches) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        asked = len(server.requests)
        answers = engine.answer(requests)
        again = len(server.requests) - asked
    for answer in answers:
        kind = next(name for name in ("logprob", "logprobs", "text") if hasattr(answer, name))
        assert (answer.error is not None) == (kind in unscored)
        assert kind not in unscored or (reason in answer.error and getattr(answer, kind) is None)
    assert again == 3 - len(unscored)  # what cannot be answered is not even asked


def test_one_refused_request_does_not_cost_the_others(variant, stories, tmp_path):
    with ModelServer(variant) as server:
        _, served, engine = endpoint(server.address, stories, tmp_path)
        served.max_length = 10_000  # the server knows better
        long, short = engine.answer([SequenceLogprob("a " * 900), SequenceLogprob("A girl.")])
    assert str(long.error) == "server refused the request (status 400)" and long.logprob is None
    assert short.error is None


def test_the_context_length_that_the_server_reports_is_kept(variant, stories, tmp_path):
    with ModelServer(variant, max_model_len=200) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        [answer] = engine.answer([Generation("Once upon a time", 198)])
        assert str(answer.error) == "prompt does not fit the model's context"


@pytest.mark.parametrize(
    ("switches", "message", "fix"),
    [
        ({"key": "sk-right"}, "status 401", "export OPENAI_API_KEY"),
        ({"status": 500}, "status 500: out of order", "log"),
        ({"pages": ("/v1/models",)}, "status 404", "neither"),
        ({"pages": ()}, "does not say which models", "#NAME"),
    ],
)
def test_a_server_that_cannot_be_used_is_a_mistake_before_anything_is_computed(
    variant, stories, tmp_path, monkeypatch, switches, message, fix
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with ModelServer(variant, **switches) as server, pytest.raises(UserError) as caught:
        endpoint(server.address, stories, tmp_path)
    assert message in caught.value.message and fix in caught.value.fix
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9/v1", "cannot be reached"),
        ("http://me:sk-secret@127.0.0.1:9/v1", "neither user, password nor query"),
        ("http://127.0.0.1:9/v1?api_key=sk-secret", "neither user, password nor query"),
    ],
)
def test_an_address_that_is_dead_or_holds_a_secret_is_a_mistake(stories, tmp_path, address, message):
    with pytest.raises(UserError, match=message) as caught:
        endpoint(address, stories, tmp_path)
    assert "sk-secret" not in str(caught.value)


def test_one_of_several_served_models_is_chosen_by_name(variant, stories, tmp_path):
    with ModelServer(variant) as server:
        found, *_ = endpoint(f"{server.address}#stories", stories, tmp_path)
        assert found.settings["served_model"] == "stories"
        with pytest.raises(UserError, match="does not serve 'other'") as caught:
            endpoint(f"{server.address}#other", stories, tmp_path)
        assert f"{server.address}#stories" in caught.value.fix


def test_two_servers_and_two_served_models_never_share_a_hash(variant, stories, tmp_path):
    hashes = set()
    with ModelServer(variant) as one, ModelServer(variant) as other, ModelServer(variant, name="tales") as third:
        for server in (one, other, third, one):
            hashes.add(endpoint(server.address, stories, tmp_path)[0].weight_hash)
        third.address = one.address  # the same address, another model name
        again = endpoint(one.address, stories, tmp_path)[0]
    assert len(hashes) == 3 and again.weight_hash in hashes


def test_a_server_that_breaks_while_it_is_asked_is_tried_again_then_named_without_the_key(
    variant, stories, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setattr("tiltmeter.backends._http.wait_exponential", lambda **_: wait_none())
    with ModelServer(variant, key="sk-secret") as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        server.dies_after = len(server.requests)
        with pytest.raises(BackendFailed, match=r"status 500: CUDA error; your key was Bearer \*\*\*") as caught:
            engine.answer([SequenceLogprob("A girl.")])
        assert len(server.requests) - server.dies_after == 3  # attempts
    assert "sk-secret" not in str(caught.value) + caplog.text
    assert server.keys == {"Bearer sk-secret"}


def test_no_strategy_is_applied_to_a_served_model(tmp_path):
    study = make_study(models=["http://127.0.0.1:9/v1"], strategies=["rerun", "int8"])
    backend = build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None)
    with pytest.raises(UserError, match="int8 cannot run there") as caught:
        backend.check()
    assert "tiltmeter compare BASE" in caught.value.fix


def test_a_missing_lm_eval_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval.models.openai_completions", None)
    study = make_study(models=["http://127.0.0.1:9/v1"])
    backend = build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None)
    with pytest.raises(UserError) as caught:
        backend.check()
    assert caught.value.fix == 'pip install "tiltmeter[lm-eval]"'


def test_the_key_is_read_from_the_environment_only(variant, stories, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ModelServer(variant) as server:
        endpoint(server.address, stories, tmp_path)
        assert server.keys == {""}
    assert "OPENAI_API_KEY" not in os.environ


def test_echoed_tokens_are_recognised_however_a_server_spells_them(variant):
    from tiltmeter.backends._asking import same_words
    from tiltmeter.scoring.prompts import encode

    ids = encode(variant.tokenizer, "Once upon a time there was a cat.")
    pieces = variant.tokenizer.convert_ids_to_tokens(ids)
    for spelled in (pieces, [piece.replace("▁", " ") for piece in pieces], [f"token_id:{token}" for token in ids]):
        assert same_words(variant.tokenizer, ids, spelled)
    assert not same_words(variant.tokenizer, ids, pieces[::-1])
    assert not same_words(variant.tokenizer, ids, [f"token_id:{token + 1}" for token in ids])


def test_an_endpoint_backend_asked_for_a_folder_says_that_it_is_none(stories, tmp_path):
    study = make_study(models=[stories], backend="endpoint")
    with pytest.raises(UserError, match="is no address"):
        build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None).identity(stories)


def likeliest(variant, prompt: str, place: int) -> str:
    """The surface form of the `place`-th likeliest next token (0: the likeliest) that is a form of its own."""
    from tiltmeter.scoring.prompts import encode
    from tiltmeter.scoring.vocabulary import Forms

    ids = encode(variant.tokenizer, prompt)
    vocabulary = {token: entry for entry, token in variant.tokenizer.get_vocab().items()}
    order = reference.option_logprobs(variant, ids, range(len(vocabulary)))
    ranked = [vocabulary[token].replace("▁", " ") for token in sorted(range(len(order)), key=lambda t: -order[t])]
    forms = Forms(variant.tokenizer.get_vocab())
    return next(form for form in ranked[place:] if forms.id(form) is not None)


PROMPT = "Lily was a happy girl. She liked to"


@pytest.mark.parametrize(
    ("switches", "place"),
    [({"llama_cpp": True}, 300), ({}, 300), ({"by_id": False}, 5)],
    ids=["llama.cpp: long lists", "vLLM: ids that are named", "the likeliest 20"],
)
def test_options_cost_one_request_where_the_server_lists_them(variant, stories, tmp_path, switches, place):
    request = OptionProbs(PROMPT, ((likeliest(variant, PROMPT, 0),), (likeliest(variant, PROMPT, place),)))
    with ModelServer(variant, **switches) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        asked = len(server.requests)
        [answer] = engine.answer([request])
        assert len(server.requests) - asked == 1
    same([answer], [reference.answer(variant, request)])


def test_a_form_beyond_the_list_is_scored_by_a_request_of_its_own(variant, stories, tmp_path):
    request = OptionProbs(PROMPT, ((likeliest(variant, PROMPT, 0), likeliest(variant, PROMPT, 40)),))
    with ModelServer(variant, by_id=False) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        asked = len(server.requests)
        [answer] = engine.answer([request])
        assert len(server.requests) - asked == 2
    same([answer], [reference.answer(variant, request)])


def test_a_form_that_the_server_does_not_say_is_left_out_and_bounded(variant, stories, tmp_path):
    """A bound below the truth would be a lie; the truth is known here."""
    request = OptionProbs(PROMPT, ((likeliest(variant, PROMPT, 0), likeliest(variant, PROMPT, 40)),))
    [[first, beyond]] = reference.answer(variant, request).logprobs
    with ModelServer(variant, no_echo=True, by_id=False) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        [answer, without_first] = engine.answer([request, OptionProbs(PROMPT, (request.options[0][::-1],))])
    assert answer.logprobs == ((pytest.approx(first, abs=1e-4), None),)
    assert math.exp(beyond) <= answer.left_out < 0.05
    assert any("left out" in note and "20 likeliest" in note for note in engine.notes)
    assert without_first.logprobs is None and "20 likeliest" in without_first.error


def test_the_list_is_not_used_where_it_is_not_what_a_scored_prompt_says(variant, stories, tmp_path, monkeypatch):
    """Log-probabilities after a temperature, say: options are then scored one by one."""
    import model_server

    plain = model_server._likeliest
    monkeypatch.setattr(model_server, "_likeliest", lambda *all: [(t, 2 * p) for t, p in plain(*all)])
    request = OptionProbs(PROMPT, ((likeliest(variant, PROMPT, 0),),))
    with ModelServer(variant) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        same(engine.answer([request]), [reference.answer(variant, request)])
        assert server.requests[-1]["echo"]


@pytest.mark.parametrize(
    ("switches", "sent", "silent"),
    [
        ({}, {"top_k", "min_p", "repetition_penalty"}, ""),
        ({"llama_cpp": True}, {"top_k", "min_p", "repeat_penalty", "dry_multiplier"}, ""),
        ({"deaf": ("top_k", "repetition_penalty")}, {"min_p"}, "no effect of top_k, repetition_penalty could be seen"),
        ({"deaf": ("seed",)}, {"top_k", "min_p", "repetition_penalty"}, "no effect of seed could be seen"),
    ],
)
def test_settings_are_found_by_their_effect_and_what_shows_none_is_said(
    variant, stories, tmp_path, monkeypatch, switches, sent, silent
):
    import model_server

    counted = iter(range(10**6))  # a server without a seed draws otherwise every time
    plain = model_server.ModelServer._written
    monkeypatch.setattr(
        model_server.ModelServer,
        "_written",
        lambda self, ids, body: plain(self, ids, {"seed": next(counted), **body} if "seed" in self.deaf else body),
    )
    with ModelServer(variant, **switches) as server:
        _, _, engine = endpoint(server.address, stories, tmp_path)
        engine.answer([Generation("The", 4, temperature=1.0)])
        body = server.requests[-1]
    every = {"top_k", "min_p", "repetition_penalty", "repeat_penalty", "dry_multiplier"}
    assert every & set(body) == sent
    said = [str(note) for note in engine.notes if "could be seen" in note]
    assert len(said) == bool(silent) and silent in "".join(said)
