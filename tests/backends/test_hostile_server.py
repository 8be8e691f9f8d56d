"""Nothing that a server sends costs more than its own cell: bounded in size, depth and time, and read strictly."""

import gzip
import json
import time
import zlib

import pytest
from hostile_server import reply, serving

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

from tiltmeter.backends import _http
from tiltmeter.backends._completions import Completions, served
from tiltmeter.backends._http import HttpStatus, Hung, Nonsense, Unreachable, together

GOOD = {
    "model": "m",
    "choices": [
        {
            "text": " cat",
            "finish_reason": "length",
            "token_ids": [5],
            "logprobs": {"tokens": ["a", "b"], "token_logprobs": [None, -1.5]},
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1},
}


def asked(address: str, **settings):
    """One completion of two prompt tokens, through the same door as a run's."""
    lm = Completions(address, "m", [0], **{"attempts": 1, "seconds": 5.0, **settings})
    [found] = together([lambda session: lm.complete(session, [1, 2], max_tokens=1, temperature=0.0)])
    return found


def altered(**changes):
    """A good answer with fields of its choice, usage or log-probabilities replaced."""
    body = json.loads(json.dumps(GOOD))
    for key, value in changes.items():
        if key in ("prompt_tokens", "completion_tokens"):
            body["usage"][key] = value
        elif key in ("tokens", "token_logprobs"):
            body["choices"][0]["logprobs"][key] = value
        elif key in body:
            body[key] = value
        else:
            body["choices"][0][key] = value
    return body


def test_a_good_answer_is_read():
    with serving(lambda path, body: reply(GOOD)) as address:
        found = asked(address)
    assert (found.text, found.ids, found.prompt_tokens, found.logprobs) == (" cat", [5], 2, [None, -1.5])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (altered(token_logprobs=[None, float("nan")]), "NaN is no JSON number"),
        (altered(token_logprobs=[None, float("-inf")]), "Infinity is no JSON number"),
        (json.dumps(GOOD).replace("-1.5", "-1e400").encode(), "beyond every floating-point number"),
        (json.dumps(GOOD).replace("-1.5", "-" + "9" * 5000).encode(), "something else than JSON"),
        (json.dumps(GOOD).replace("-1.5", "-" + "9" * 400).encode(), "a log-probability is"),
        (altered(token_logprobs=[None, 0.5]), "a log-probability is 0.5"),
        (altered(token_logprobs=[None, "-1.5"]), "a log-probability is"),
        (altered(token_logprobs=[None, True]), "a log-probability is True"),
        (altered(token_logprobs=7), "no completion"),
        (altered(prompt_tokens="2"), "the number of prompt tokens is '2'"),
        (altered(prompt_tokens=2.0), "the number of prompt tokens is '2.0'"),
        (altered(completion_tokens=-1), "the number of new tokens"),
        (altered(completion_tokens=10**30), "the number of new tokens"),
        (altered(token_ids=[10**30]), "a token id"),
        (altered(token_ids=[True]), "a token id"),
        (altered(token_ids=list(range(50))), "50 new tokens where 1"),
        (altered(text="x" * 5000, logprobs=None), "a text of 5,000 characters"),
        (altered(text={"a": 1}), "its text is none"),
        (altered(model="n"), "another model answered: 'n' instead of 'm'"),
        (altered(model="m-awq"), "another model answered"),
        (altered(choices=[]), "no completion"),
        (altered(choices={}), "no completion"),
        (altered(choices=["text"]), "no completion"),
        (altered(logprobs=[1]), "no completion"),
        (altered(usage="2"), "no completion"),
        (None, "no completion"),
        ([], "no completion"),
        (b"[" * 200_000, "nested too deeply"),
        (b"<html>", "something else than JSON"),
        (b"", "something else than JSON"),
        (b"\xff\xfe{", "something else than JSON"),
    ],
)
def test_what_is_no_completion_is_refused_with_its_reason(body, reason):
    with serving(lambda path, sent: reply(body)) as address, pytest.raises(Nonsense) as caught:
        asked(address)
    assert reason in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["m", "m-0914", "m-2024-07-18", None])
def test_a_dated_name_of_the_same_model_and_no_name_at_all_are_taken(name):
    with serving(lambda path, body: reply(altered(model=name))) as address:
        assert asked(address).ids == [5]


def test_lone_surrogates_become_characters_that_a_file_can_hold():
    body = json.dumps(GOOD).replace(" cat", "a\\ud83d\\ude00b\\ud800c").encode()
    with serving(lambda path, sent: reply(body)) as address:
        assert asked(address).text == "a\U0001f600b\ufffdc"


@pytest.mark.parametrize("pack", ["gzip", "deflate", "none"])
def test_an_answer_without_end_is_cut_off(monkeypatch, pack):
    """A megabyte that unpacks to a gigabyte costs no more memory than the limit."""
    monkeypatch.setattr(_http, "BODY_BYTES", 2**20)
    zeros = b" " * 2**24
    packed = {"gzip": lambda: gzip.compress(zeros), "deflate": lambda: zlib.compress(zeros), "none": lambda: zeros}[
        pack
    ]()
    headers = {} if pack == "none" else {"Content_Encoding": pack}
    with (
        serving(lambda path, body: reply(packed, **headers)) as address,
        pytest.raises(Nonsense, match="more than 1 MiB"),
    ):
        asked(address)


def test_a_packed_answer_is_unpacked_and_a_damaged_or_unknown_packing_is_named():
    with serving(
        lambda path, body: reply(gzip.compress(json.dumps(GOOD).encode()), Content_Encoding="gzip")
    ) as address:
        assert asked(address).ids == [5]
    for packing, trouble in (("gzip", "damaged gzip"), ("br", "not asked for")):
        headers = {"Content_Encoding": packing}
        with (
            serving(lambda path, body, sent=headers: reply(b"no gzip", **sent)) as address,
            pytest.raises(Nonsense, match=trouble),
        ):
            asked(address)


def test_what_is_no_http_is_named():
    with (
        serving(lambda path, body: iter([b"SSH-2.0-OpenSSH\r\n\r\n"])) as address,
        pytest.raises(Nonsense, match="something else than HTTP"),
    ):
        asked(address)


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
)
def test_redirects_are_not_followed_and_the_key_goes_nowhere_else(monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    reached = []
    with serving(lambda path, body: (reached.append(body), *reply(GOOD))[1:]) as elsewhere:
        moved = lambda path, body: reply(b"", status, Location=f"{elsewhere}/completions")  # noqa: E731
        with serving(moved) as address:
            with pytest.raises(Nonsense, match="not followed"):
                asked(address)
            with pytest.raises(Nonsense, match="not followed"):
                together([lambda session: served(session, address)])
    assert reached == []


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n"


@pytest.mark.parametrize(
    ("start", "drip"), [(b"", b""), (b"HTTP/1.1 200 ", b"O"), (HEAD + b"X: ", b"a"), (HEAD + b"\r\n{", b" ")]
)
def test_a_server_that_hangs_or_drips_ends_after_the_seconds_it_was_given_and_is_not_tried_again(
    monkeypatch, start, drip
):
    monkeypatch.setattr(_http, "WORD_EVERY_S", 0.1)
    connections, said = [], []

    def slowly(path, body):
        connections.append(path)
        yield start
        for _ in range(600):
            yield 0.05
            yield drip

    with serving(slowly) as address:
        lm = Completions(address, "m", [0], attempts=3, seconds=0.5)
        monkeypatch.setattr("tiltmeter.backends._completions.TOKEN_S", 0.0)
        with pytest.raises(Hung, match="no answer within"):
            together([lambda session: lm.complete(session, [1], max_tokens=1)], waiting=said.append)
        assert len(connections) == 1 and len(said) >= 2 and "no answer for" in said[0]


def test_after_a_hang_the_next_cell_asks_one_short_question_first(monkeypatch):
    """A server that stays silent costs each further cell the short wait for its list of models, no more."""
    monkeypatch.setattr("tiltmeter.backends._completions.TOKEN_S", 0.0)
    monkeypatch.setattr("tiltmeter.backends._completions.LISTED_S", 0.2)
    paths, healthy = [], [False]

    def answer(path, body):
        paths.append(path)
        if not healthy[0]:
            yield 30.0
        yield from reply({"data": []} if path.endswith("models") else GOOD)

    with serving(answer) as address:
        lm = Completions(address, "m", [0], seconds=0.3)
        for _ in range(2):
            with pytest.raises(Hung):
                together([lambda session: lm.complete(session, [1, 2], max_tokens=1)])
        assert paths == ["/v1/completions", "/v1/models"]
        healthy[0] = True
        [found] = together([lambda session: lm.complete(session, [1, 2], max_tokens=1)])
    assert found.ids == [5] and paths[2:] == ["/v1/models", "/v1/completions"]


def test_after_a_failure_nothing_more_is_sent_and_what_waits_is_dropped():
    paths = []

    def answer(path, body):
        paths.append(path)
        if len(paths) == 1:
            return reply(b"", "401 Unauthorized")
        return iter([30.0])

    with serving(answer) as address:
        lm = Completions(address, "m", [0], attempts=1)
        started = time.monotonic()
        with pytest.raises(HttpStatus, match="401"):
            together([lambda session: lm.complete(session, [1], max_tokens=1)] * 50, at_once=4)
    assert len(paths) <= 4 and time.monotonic() - started < 20


def test_pauses_are_those_the_server_asks_for_but_never_long(monkeypatch):
    class State:
        attempt_number = 1

        class outcome:
            @staticmethod
            def exception():
                return HttpStatus(429, "", State.asked)

    pauses = []
    for State.asked in (0.0, 7.0, 1e9):
        pauses.append(_http._pause(State))
    assert pauses[1:] == [7.0, 600.0] and 0 < pauses[0] <= 60


def test_nobody_there_is_known_at_once():
    started = time.monotonic()
    with pytest.raises(Unreachable, match="cannot be reached"):
        asked("http://127.0.0.1:9/v1")
    assert time.monotonic() - started < 5


def test_an_error_text_cannot_steer_a_terminal_or_a_runner_and_is_short():
    message = "\x1b[2J\u202ebad\n::error::injected " + "x" * 5000
    body = json.dumps({"error": {"message": message}}).encode()
    with serving(lambda path, sent: reply(body, "401 No")) as address, pytest.raises(HttpStatus) as caught:
        asked(address)
    said = str(caught.value)
    assert "\x1b" not in said and "\u202e" not in said and "\n" not in said and len(said) < 300


@pytest.mark.parametrize(
    "listed",
    [
        {"data": [{"id": "m", "max_model_len": "4096"}]},
        {"data": [{"id": "m", "max_model_len": 10**30}]},
        {"data": [{"id": "m", "max_model_len": -4}]},
        {"data": [{"id": "m", "root": "\u0000"}]},
        {"data": [{"id": "m", "root": "~nobody-of-this-name/x"}]},
        {"data": [{"id": 7}]},
        {"data": "m"},
        {"data": [{"id": "m", "meta": {"a": {"b": [1] * 1000}}}, {"id": ["x"]}]},
        ["m"],
        b"[" * 100_000,
    ],
)
def test_what_a_server_says_of_its_models_is_refused_or_ignored_but_never_breaks(listed, tmp_path):
    from tiltmeter.errors import UserError
    from tiltmeter.registry import build
    from tiltmeter.study import make_study

    with serving(lambda path, body: reply(listed if path.endswith("models") else GOOD)) as address:
        study = make_study(models=[address])
        backend = build("backend", "endpoint", study=study, probed=lambda base: None, say=lambda line: None)
        with pytest.raises(UserError) as caught:
            backend.identity(address)
    assert caught.value.fix
