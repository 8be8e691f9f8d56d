"""A GGUF file alone is a base in transformers: its tokens, template, end and weights are those of the folder."""

import pytest
import torch
from llama_files import DEMO, demo_gguf

from tiltmeter.models.reading import load_tokenizer
from tiltmeter.models.resolve import resolve
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.runs.loading import backend_name
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study
from tiltmeter.variants import apply

TEXTS = ("Once upon a time, in 1984, they weren't there.", "  two spaces\n\nand 3.14159 %", "naïve Übermut – 中文")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    begins = len(load_tokenizer(DEMO, str(DEMO))("a")["input_ids"]) > 1
    says = {"tokenizer.ggml.add_bos_token": begins}
    return str(demo_gguf(tmp_path_factory.mktemp("gguf") / "demo.F32.gguf", **says))


def test_it_cuts_texts_and_chats_as_the_folder_it_was_made_from(file):
    ours, theirs = load_tokenizer(resolve(file), file), load_tokenizer(DEMO, str(DEMO))
    for text in TEXTS:
        ids = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == ids
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.chat_template == theirs.chat_template


def test_its_logits_are_those_of_the_folder(file):
    ours, theirs = apply.load(file, parse("none")), apply.load(str(DEMO), parse("none"))
    ids = torch.tensor([theirs.tokenizer(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        assert torch.equal(ours.model(ids).logits, theirs.model(ids).logits)
    assert ours.eos_ids == theirs.eos_ids


def test_a_run_of_it_under_a_strategy_of_transformers_is_that_of_the_folder(file, tmp_path):
    data = str(DEMO.parents[1] / "data")
    settings = {"strategies": ["int4"], "benchmarks": ["crows-pairs"], "limit": 6, "data": data, "draws": 200}
    for name, model in (("file", file), ("folder", str(DEMO))):
        assert run(make_study(models=[model], **settings), tmp_path / name).failures == []
    one, other = ([row["score"] for row in read_results(tmp_path / name)["rows"]] for name in ("file", "folder"))
    assert one == other


@pytest.mark.parametrize(
    ("strategies", "where"),
    [
        ([], "llama-cpp"),
        (["rerun"], "llama-cpp"),
        (["q8_0"], "llama-cpp"),
        (["int4", "q8_0"], "llama-cpp"),  # refused there
        (["int4"], "transformers"),
        (["int4", "rerun"], "transformers"),
    ],
)
def test_the_strategies_say_where_a_file_runs(file, strategies, where):
    assert backend_name(make_study(models=[file], strategies=strategies), file) == where
