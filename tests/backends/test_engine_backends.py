"""vLLM and SGLang through lm-eval's own classes, over stand-ins for the two packages (neither is installed here)."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest
from backend_requests import REQUESTS, same

from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.registry import build
from tiltmeter.results.document import read_results
from tiltmeter.scoring import reference
from tiltmeter.scoring.requests import Generation
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

STANDINS = Path(__file__).parent / "standins"
ENGINES = ("vllm", "sglang")


@pytest.fixture(scope="module")
def stories(shared: Path) -> str:
    return str(shared / "models" / "stories260k")


@pytest.fixture(scope="module", autouse=True)
def standins():
    """The two packages, importable while this file's tests run."""
    sys.path.insert(0, str(STANDINS))
    yield
    sys.path.remove(str(STANDINS))
    for name in list(sys.modules):
        if name.split(".")[0] in ENGINES or name in [f"lm_eval.models.{engine}_causallms" for engine in ENGINES]:
            del sys.modules[name]


@pytest.fixture(params=ENGINES)
def name(request):
    """One of the two, its list of made engines empty."""
    importlib.import_module(request.param).MADE.clear()
    return request.param


def made(name: str, study, tmp_path: Path):
    backend = build("backend", name, study=study, probed=lambda base: None, say=lambda line: None)
    backend.check()
    return backend


def test_the_engine_answers_as_the_reference(stories, tmp_path, name):
    expected = apply.load(stories, parse("none"))
    study = make_study(models=[stories], backend=name)
    backend = made(name, study, tmp_path)
    variant = backend.load(study.variants()[0])
    assert variant.proof["probe_logprobs"] and variant.max_length == expected.max_length - 1
    engine = backend.engine(variant, 2048)
    requests = [*REQUESTS, Generation("The cat", 400)]  # the last one ends with its end token
    answers = engine.answer(requests)
    same(answers, [reference.answer(expected, request) for request in requests])
    assert answers[-1].stopped == "eos" and answers[-1].text.endswith("<s>")
    engine.answer([Generation("The", 4, temperature=1.0, seed=2**40 + 3)])
    assert any(("own generator" if name == "vllm" else "cannot be repeated") in note for note in engine.notes)
    [arguments] = sys.modules[name].MADE
    assert arguments["trust_remote_code"] is False and arguments["dtype"] == "float32"
    if name == "sglang":
        first = backend._lm.model
        second = backend.load(study.variants()[0])  # without a release in between, as after a variant that was refused
        assert first.stopped and not backend._lm.model.stopped
        last = backend._lm.model
        backend.release(second)
        assert last.stopped and backend._lm is None


def test_a_run_compares_base_and_compressed_checkpoint_in_the_same_engine(stories, shared, tmp_path, name):
    """The artifact that is loaded is the one that transformers answers from, so its numbers are the same."""
    settings = {
        "benchmarks": ["crows-pairs"],
        "limit": 6,
        "draws": 200,
        "data": str(shared / "data"),
        "text_quality": False,
        "batch_tokens": 2048,
        "strategies": ["magnitude"],
    }
    assert run(make_study(models=[stories], backend=name, **settings), tmp_path / "there").failures == []
    run(make_study(models=[stories], **settings), tmp_path / "here")
    there, here = (read_results(tmp_path / folder) for folder in ("there", "here"))
    for ours, theirs in zip(there["rows"], here["rows"], strict=True):
        assert ours["settings"]["backend"] == name and ours["score"] == theirs["score"]
    assert there["rows"][1]["change"]["delta"] == here["rows"][1]["change"]["delta"]
    base, variant = (v["proof"] for v in there["variants"])
    assert "largest_logprob_change" not in base and variant["largest_logprob_change"] > 0.01
    first, second = (Path(each.get("model") or each["model_path"]) for each in sys.modules[name].MADE)
    assert first == Path(stories) and second != first and second.name == "model"  # the compressed artifact


def test_a_checkpoint_that_answers_as_its_base_is_no_variant(stories, shared, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(stories, copy)
    study = make_study(
        models=[stories],
        checkpoints=[str(copy)],
        backend="vllm",
        benchmarks=["crows-pairs"],
        limit=4,
        data=str(shared / "data"),
        draws=200,
        text_quality=False,
    )
    [failure] = run(study, tmp_path / "run").failures
    assert "answers the probe texts as the base does" in failure.reason


@pytest.mark.parametrize("strategy", ["int8", "kv4", "dynamic-int8", "magnitude+int4"])
def test_strategies_that_do_not_act_by_a_checkpoint_are_refused(stories, tmp_path, strategy):
    with pytest.raises(UserError, match="not by a checkpoint on disk") as caught:
        made("vllm", make_study(models=[stories], strategies=[strategy], backend="vllm"), tmp_path)
    assert "built-in engine" in caught.value.fix


def test_a_package_that_is_not_installed_says_what_to_install(stories, tmp_path, name, monkeypatch):
    monkeypatch.setattr("tiltmeter.backends._folders.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        made(name, make_study(models=[stories], backend=name), tmp_path)
    assert caught.value.fix == f'pip install {name} "tiltmeter[lm-eval]"'
