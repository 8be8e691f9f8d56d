"""The speed of served models: what is asked, in which order, what is counted. No timed assertion."""

import json
import math
from pathlib import Path

import pytest
from model_server import ModelServer

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
from tiltmeter.backends import served_speed
from tiltmeter.backends._answers import Completion
from tiltmeter.backends._http import HttpStatus
from tiltmeter.backends.served_speed import Round, measure
from tiltmeter.cli.commands import main
from tiltmeter.results.document import read_document
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply
from tiltmeter.variants.speed import Setting, Timing

SMALL = Setting(batch=2, prompt_tokens=6, new_tokens=3, repeats=2)


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "tinystories-656k")


@pytest.fixture(scope="module")
def variant(stories):
    return apply.load(stories, parse("none"))


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code


def asked(server: ModelServer) -> list[tuple[tuple[int, ...], int]]:
    """(prompt, new tokens) of every question that belongs to the rounds: those of six ids that run to the end."""
    mine = [body for body in server.requests if body.get("ignore_eos") and len(body["prompt"][0]) == 6]
    return [(tuple(body["prompt"][0]), body["max_tokens"]) for body in mine]


def test_base_and_variant_get_the_same_prompts_and_none_is_sent_twice(stories, variant):
    with ModelServer(variant) as one, ModelServer(variant) as other:
        base, served = measure(one.address, [other.address], setting=SMALL, tokenizer=stories)
    assert (base.strategy, served.strategy) == ("none", f"checkpoint={other.address}")
    assert base.prefill.low <= base.prefill.median <= base.prefill.high
    assert base.prefill_speedup is None
    assert served.prefill_speedup is not None
    assert (served.memory_bytes, served.disk_bytes, served.peak_bytes) == (None, None, None)
    trial, *rounds = asked(other)
    assert sorted(tokens for _, tokens in rounds) == 9 * [1] + 6 * [4]
    assert len({ids for ids, _ in rounds} | {trial[0]}) == 1 + len(rounds)
    special = set(variant.tokenizer.all_special_ids)
    assert not any(special & set(ids) for ids, _ in rounds)
    same = [pair for pair in asked(one) if pair in set(rounds)]
    assert sorted(same) == sorted(rounds)  # once each there, too


def test_rates_are_tokens_over_seconds_and_decoding_is_what_reading_does_not_take(stories, variant, monkeypatch):
    """Clock: 0.5 s alone; 2 s to read 12 tokens; 5 s with 2 x 4 tokens, of which it counts 4 and 3."""
    times = iter([0.0, 0.5, 1.0, 3.0, 4.0, 9.0])
    monkeypatch.setattr(served_speed.time, "perf_counter", lambda: next(times))
    answers = [[1], [1, 1], [4, 3]]

    def fake(known, prompts, tokens, settings):
        return [Completion("", None, "length", None, new) for new in answers.pop(0)]

    monkeypatch.setattr(served_speed, "_asked", fake)
    assert served_speed._round(None, [[1]] * 5, SMALL, {}) == Round(first=0.5, prefill=6.0, decode=5 / 3)


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (Completion("", [7, 8], "stop", 6, None), 2),
        (Completion("", None, "length", 6, None), 4),
        (Completion("", None, "stop", 6, None), math.nan),
    ],
)
def test_tokens_that_nobody_counted_are_not_made_up(answer, tokens):
    assert served_speed._written(answer, 4) == pytest.approx(tokens, nan_ok=True)


def test_a_round_without_a_speed_leaves_none_and_says_so(variant):
    rounds = [Round(0.1, 10.0, 5.0), Round(0.1, 12.0, math.nan)]
    known = type("Known", (), {"name": "m", "address": "http://x/v1"})
    found = served_speed._summary("none", known, SMALL, [(each, each) for each in rounds], base=True)
    assert found.prefill == Timing(11.0, 10.0, 12.0)
    assert found.decode is None
    assert "no speed of decoding" in str(found.note)
    good = Round(0.1, 10.0, 5.0)
    ratio = served_speed._summary("checkpoint=x", known, SMALL, [(each, good) for each in rounds], base=False)
    assert (ratio.decode, ratio.decode_speedup) == (Timing(5.0, 5.0, 5.0), None)
    assert "no speed of decoding" in str(ratio.note)  # the base's: the ratio is what is missing


def test_a_server_that_refuses_what_it_does_not_know_is_asked_without_it(stories, variant, monkeypatch):
    tried = []
    wanted = served_speed._asked

    def fussy(known, prompts, tokens, settings):
        tried.append(settings)
        if settings:
            raise HttpStatus(422, "Unrecognized request argument: ignore_eos")
        return wanted(known, prompts, tokens, settings)

    monkeypatch.setattr(served_speed, "_asked", fussy)
    with ModelServer(variant) as server:
        [base] = measure(server.address, setting=SMALL, tokenizer=stories)
    assert base.prefill is not None
    assert [bool(settings) for settings in tried] == 2 * [True] + 9 * [False]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{server}", "-s", "int4"], "cannot be compressed from here"),
        (["{stories}", "{server}"], "is no address"),
        (["{server}", "{stories}"], "is no address"),
        (["{server}", "--tokenizer", "{stories}", "--prompt-tokens", "600"], "do not fit the context"),
        (["http://127.0.0.1:9/v1"], "cannot be reached"),
        (["{server}", "--out", "{nowhere}"], "has no variant none"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_fix(stories, variant, tmp_path, capsys, arguments, says):
    with ModelServer(variant) as server:
        words = {"server": server.address, "stories": stories, "nowhere": str(tmp_path / "none")}
        assert command("speed", *(part.format(**words) for part in arguments)) == 2
    said = capsys.readouterr().err
    assert says in " ".join(said.split())
    assert "Traceback" not in said


def test_the_command_prints_a_table_and_json(stories, variant, capsys):
    small = ["--batch", "2", "--prompt-tokens", "6", "--new-tokens", "3", "--repeats", "1", "--tokenizer", stories]
    with ModelServer(variant) as one, ModelServer(variant) as other:
        assert command("speed", one.address, other.address, *small) == 0
        assert f"checkpoint={other.address}" in capsys.readouterr().out
        assert command("speed", one.address, *small, "--json") == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["setting"]["device"] == "served"
    assert row["disk_bytes"] is None


def test_a_runs_report_shows_the_speed_of_its_served_variant(stories, variant, shared, tmp_path):
    out = tmp_path / "run"
    small = ["--batch", "2", "--prompt-tokens", "6", "--new-tokens", "3", "--repeats", "1", "--tokenizer", stories]
    with ModelServer(variant) as one, ModelServer(variant) as other:
        asked = ["--limit", "6", "-b", "crows-pairs", "--data", str(shared / "data"), "--tokenizer", stories]
        assert command("compare", one.address, other.address, *asked, "--out", str(out)) == 0
        assert command("speed", one.address, other.address, *small, "--out", str(out)) == 0
    assert command("report", str(out), "--out", str(tmp_path / "page.html")) == 0
    speeds = {each.strategy: each.speed for each in read_document(out).variants}
    served = speeds[f"checkpoint={other.address}"]
    assert served.prefill_speedup.median > 0
    assert served.memory_bytes is None
    page = (tmp_path / "page.html").read_text()
    assert f"{served.prefill_tokens_per_s:,.0f}" in page.replace("\u202f", ",")
