"""The llama.cpp backend: what it asks, shares and refuses, over a stand-in; its numbers are those of the reference.

With `-m engines` (`make engines-test`) the same over the real library: its answers are those of one request at a time,
its F32 numbers are transformers', its tokenizer is the demo's.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from llama_files import DEMO, demo_gguf
from llama_standin import Standin

from tiltmeter.backends import llama_cpp
from tiltmeter.errors import UserError
from tiltmeter.models import reading
from tiltmeter.models.formats.gguf import library
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.pipeline import run
from tiltmeter.registry import build
from tiltmeter.results.document import read_results
from tiltmeter.scoring import reference
from tiltmeter.scoring.prompts import renderer
from tiltmeter.scoring.requests import Generation, GenerationAnswer, OptionProbs, Prompt, SequenceLogprob
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study

TEXTS = (Path(str(files("tiltmeter.demo"))) / "data" / "text" / "heldout.txt").read_text().splitlines()
TEXTS = [text for text in TEXTS if text][:12]
STARTS = "Question: is it true? " * 5
REQUESTS = [
    *(SequenceLogprob(STARTS + text) for text in TEXTS[:4]),
    *(SequenceLogprob(text) for text in TEXTS[4:8]),
    *(OptionProbs(STARTS + text, (("yes", " yes"), ("no", " no"))) for text in TEXTS[:4]),
    *(Generation(STARTS + text[:30], 5) for text in TEXTS[:4]),
    *(Generation(TEXTS[0][:20], 5, temperature=1.0, top_p=0.9, seed=seed) for seed in range(3)),
    Generation("x " * 300, 300),  # longer than the context
]


@pytest.fixture
def file(tmp_path) -> str:
    return str(demo_gguf(tmp_path / "demo.F32.gguf"))


@pytest.fixture
def standin(monkeypatch):
    """The stand-in in place of the library."""
    found = Standin()
    monkeypatch.setattr(library, "package", lambda: found)
    monkeypatch.setattr(library, "version", lambda _: "0")
    llama_cpp.tokenizer.cache_clear()
    yield found
    llama_cpp.tokenizer.cache_clear()


def loaded(file: str, tmp_path: Path, strategy: str = "none"):
    study = make_study(models=[file], strategies=[strategy], backend="llama-cpp")
    backend = build("backend", "llama-cpp", study=study, probed=lambda base: None, say=lambda line: None)
    backend.check()
    return backend, backend.load(study.variants()[-1])


def numbers(answer) -> list[float]:
    if hasattr(answer, "logprob"):
        return [answer.logprob]
    return [value for forms in answer.logprobs for value in forms if value is not None]


def agree(ours: list, theirs: list, within: float) -> bool:
    """Whether two lists of answers are the same: texts to the character, log-probabilities within so many nats."""

    def same(one, other) -> bool:
        if (one.error, one.n_tokens) != (other.error, other.n_tokens):
            return False
        if isinstance(one, GenerationAnswer):
            return one == other
        return one.error is not None or numbers(one) == pytest.approx(numbers(other), abs=within)

    return all(same(*pair) for pair in zip(ours, theirs, strict=True))


def dense(variant: LoadedVariant) -> LoadedVariant:
    """The same model in transformers, asked with the same tokenizer."""
    model = reading.load_model(DEMO, "float32", "cpu")
    return LoadedVariant("demo", "none", model, variant.tokenizer, "cpu", "float32", variant.eos_ids, 512, "")


def test_answers_are_those_of_one_request_at_a_time(standin, file, tmp_path):
    backend, variant = loaded(file, tmp_path)
    engine = backend.engine(variant, 64)
    found = engine.answer(REQUESTS)
    assert agree(found, [reference.answer(variant, request) for request in REQUESTS], 1e-5)
    assert agree(found, [reference.answer(dense(variant), request) for request in REQUESTS], 1e-5)
    assert found[-1].error == reference.TOO_LONG


def test_what_texts_share_is_computed_once(standin, file, tmp_path):
    backend, variant = loaded(file, tmp_path)
    engine = backend.engine(variant, 64)
    asked = [request for request in REQUESTS if isinstance(request, OptionProbs)]
    standin.decoded.clear()
    engine.answer(asked)
    lengths = [len(variant.tokenizer(request.prompt).input_ids) for request in asked]
    shared = len(variant.tokenizer(STARTS).input_ids) // 8 * 8 - 8  # at least: whole blocks of what all begin with
    assert sum(standin.decoded) <= sum(lengths) - (len(asked) - 1) * shared
    assert min(standin.decoded) >= 2  # one token would take another kernel than it does alone


def test_rows_that_end_make_room_for_the_next(standin, file, tmp_path):
    backend, variant = loaded(file, tmp_path)
    engine = backend.engine(variant, 24)  # three rows
    asked = [Generation(text[:12], 2 + 2 * (i % 3)) for i, text in enumerate(TEXTS)]
    standin.decoded.clear()
    found = engine.answer(asked)
    steps = [n for n in standin.decoded if n <= 3]
    assert max(steps) == 3 and np.mean(steps) > 1.5  # mostly full: refilled one by one
    assert all(0 < answer.n_tokens <= request.max_new_tokens for answer, request in zip(found, asked, strict=True))


def test_a_row_waits_until_there_are_cells_for_it(standin, file, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "CELLS", 128)
    backend, variant = loaded(file, tmp_path)
    variant.model.context.cells = 200
    found = backend.engine(variant, 512).answer([Generation(text[:12], 60) for text in TEXTS[:4]])
    assert all(answer.error is None for answer in found)


def test_a_run_quantizes_caches_and_compares(standin, file, shared, tmp_path):
    settings = {"benchmarks": ["crows-pairs"], "limit": 4, "draws": 100, "text_quality": False}
    study = make_study(models=[file], strategies=["q8_0", "ctk=q8_0,ctv=q8_0"], data=str(shared / "data"), **settings)
    assert run(study, tmp_path / "run").failures == []
    rows = read_results(tmp_path / "run")
    assert [row["strategy"] for row in rows["rows"]] == ["none", "q8_0", "gguf-cache:ctk=q8_0,ctv=q8_0"]
    assert all(row["settings"]["backend"] == "llama-cpp" for row in rows["rows"])
    proofs = {each["strategy"]: each["proof"] for each in rows["variants"]}
    assert proofs["q8_0"]["types"]["Q8_0"] == 3 and proofs["q8_0"]["largest_logprob_change"] > 1e-4
    assert proofs["q8_0"]["checkpoint_bytes"] < proofs["none"]["checkpoint_bytes"]


def test_two_files_are_compared_without_any_folder(standin, file, shared, tmp_path):
    other = str(demo_gguf(tmp_path / "demo.q4_0.gguf", kinds={"model.layers.0.mlp": "Q4_0"}))
    study = make_study(
        models=[file],
        checkpoints=[other],
        benchmarks=["crows-pairs"],
        limit=4,
        draws=100,
        text_quality=False,
        data=str(shared / "data"),
    )
    assert run(study, tmp_path / "run").failures == []
    variant = read_results(tmp_path / "run")["variants"][-1]
    assert variant["proof"]["differences"] == [] and variant["proof"]["types"]["Q4_0"] == 3


def test_another_vocabulary_is_named(standin, file, tmp_path):
    found = llama_cpp.differences(file, file)
    assert found == []


def test_prompts_in_chat_format_are_those_of_the_folder_that_the_file_was_made_from(standin, file, tmp_path):
    _, variant = loaded(file, tmp_path)
    prompt = Prompt("", (("system", "Be brief."), ("user", "Is it true?")), "My answer is")
    theirs, notes = renderer("chat", reading.load_tokenizer(DEMO, str(DEMO)))
    assert renderer("chat", variant.tokenizer)[0](prompt) == theirs(prompt)
    assert renderer("chat", variant.tokenizer)[1] == notes


@pytest.mark.parametrize("strategy", ["q4_0", "ctk=q8_0", "q8_0+rerun"])
def test_elsewhere_its_strategies_are_refused_with_what_to_type(strategy, tmp_path):
    study = make_study(models=[str(DEMO)], strategies=[strategy])
    backend = build("backend", "transformers", study=study, probed=lambda base: None, say=lambda line: None)
    with pytest.raises(UserError, match="is done by llama") as error:
        backend.check()
    assert "MODEL.F16.gguf" in str(error.value.fix)


@pytest.mark.parametrize("strategy", ["int4", "wanda", "kv8"])
def test_here_others_are_refused(standin, file, tmp_path, strategy):
    with pytest.raises(UserError, match="changes a model that transformers runs"):
        loaded(file, tmp_path, strategy)


def test_a_quantized_file_is_no_base_for_quantizing(standin, tmp_path):
    coarse = str(demo_gguf(tmp_path / "demo.gguf", kinds={"model.layers.0.mlp": "Q4_0"}))
    with pytest.raises(UserError, match="quantized already"):
        loaded(coarse, tmp_path, "q8_0")


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("Q4_K_M", "q4_k_m"),
        ("ctk=q8_0,ctv=q8_0", "gguf-cache:ctk=q8_0,ctv=q8_0"),
        ("ctk=f16", "gguf-cache"),
        ("q4_0+ctv=q5_1", "q4_0+gguf-cache:ctv=q5_1"),
    ],
)
def test_names_as_llama_cpp_has_them(typed, canonical):
    assert parse(typed).canonical == canonical
    assert parse(canonical).canonical == canonical


@pytest.mark.engines
@pytest.mark.parametrize("strategy", ["none", "f16", "q8_0", "q4_0", "q4_k_m", "q8_0+ctk=f32,ctv=f32"])
def test_real_scores_are_those_of_one_request_at_a_time(file, tmp_path, strategy):
    backend, variant = loaded(file, tmp_path, strategy)
    asked = [request for request in REQUESTS if not isinstance(request, Generation)]
    found = backend.engine(variant, 512).answer(asked)
    assert agree(found, [reference.answer(variant, request) for request in asked], 1e-5)


@pytest.mark.engines
def test_real_f32_is_transformers(file, tmp_path):
    backend, variant = loaded(file, tmp_path)
    found = backend.engine(variant, 512).answer(REQUESTS)
    assert agree(found, [reference.answer(dense(variant), request) for request in REQUESTS], 1e-3)


@pytest.mark.engines
def test_real_tokens_are_those_of_the_demos_tokenizer(file, tmp_path):
    ours, theirs = llama_cpp.tokenizer(file), reading.load_tokenizer(DEMO, "demo")
    for text in [*TEXTS, "", "12 345", "<|user|>\nHi</s>", "  a\n\n b"]:
        ids = theirs(text).input_ids
        assert ours(text).input_ids == ids
        assert ours.decode(ids) == theirs.decode(ids)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)
    turns = [{"role": "user", "content": "Hi"}]
    ask = {"tokenize": False, "add_generation_prompt": True}
    assert ours.apply_chat_template(turns, **ask) == theirs.apply_chat_template(turns, **ask)
    assert torch.equal(torch.tensor(sorted(ours.end_ids)), torch.tensor([theirs.eos_token_id]))
