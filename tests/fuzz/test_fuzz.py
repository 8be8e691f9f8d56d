"""2,000 damaged files: each is read as it is, or refused with a message. No traceback, no hang.

What a person writes or fetches, what a run leaves behind, and what a server sends. The damage is numbered, so a
failure names the number that repeats it: `pytest tests/fuzz -k "study and 17"` runs one block of BLOCK.
"""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mutate import mutated

from tiltmeter.benchmarks.base import Item
from tiltmeter.cli.decisions import load_policy, run_choose, run_gate
from tiltmeter.cli.tables import render, write_items
from tiltmeter.errors import UserError
from tiltmeter.registry import build
from tiltmeter.results.computed import document, write_results
from tiltmeter.results.document import read_document
from tiltmeter.results.items import item_rows
from tiltmeter.runs.store import Cell, CellId, Store, write_json
from tiltmeter.scoring.requests import SequenceAnswer, SequenceLogprob
from tiltmeter.study import make_study, read_study

HANGS = 60  # seconds; the slowest takes one
BLOCK = 50  # mutations a test: 40 tests make 2,000

DATA = {
    "crows-pairs": (
        "crows_pairs/crows_pairs_anonymized.csv",
        ",sent_more,sent_less,bias_type\n0,A.,B.,age\n1,C.,D.,age\n",
    ),
    "dt-stereotyping": (
        "dt_stereotyping/user_prompts.csv",
        "stereotype_topic,target_group,user_prompt\njobs,Women,P\n",
    ),
    "discrim-eval-gen": (
        "discrim_eval_gen/discrim_eval_gen.csv",
        ",decision_question_id,prompt,bias_type\n0,0,P,gender\n",
    ),
    "global-opinion-qa": (
        "global_opinion_qa/global_opinions.csv",
        "question,selections,options\nQ?,\"defaultdict(<class 'list'>, {'Peru': [0.5, 0.5]})\",\"['a', 'b']\"\n",
    ),
    "discrim-eval": (
        "discrim_eval/explicit.jsonl",
        '{"filled_template": "T", "decision_question_id": 0, "age": 20.0, "gender": "male", "race": "white"}\n' * 2,
    ),
}
STUDY = """models: [m]
strategies: [int8, "kv4:read=transformers", wanda]
benchmarks: [crows-pairs, worldbench]
limits: {crows-pairs: 5}
margins: {crows-pairs: 1.5}
seed: 3
format: both
robust: true
"""
POLICY = """default: {require: not-worse, max_rise: 2, allow_partial: true, groups: {gender=female: 0.1}}
benchmarks: {worldbench: {max_rise: 0.1}}
cells:
- {strategy: kv*, benchmark: crows-pairs, require: equivalent}
ignore: [rerun]
margins: {crows-pairs: 3}
"""


@contextmanager
def no_hang() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"no end after {HANGS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def survives(read: Callable[[], object], expected: type[Exception] | tuple[type[Exception], ...] = UserError) -> str:
    """`read` gives something ("read"), or a message of a few lines ("refused")."""
    with no_hang():
        try:
            read()
        except expected as error:
            assert str(error).strip() and len(str(error)) < 20_000
            return "refused"
    return "read"


BOTH = {"read", "refused"}  # what a block must have seen; otherwise the damage never reached what reads it


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, bytes]:
    """The files of a small finished run, by their place in its folder."""
    run = tmp_path_factory.mktemp("run")
    items = [Item(str(i), str(i), {"bias_type": "age"}, {"more": f"m{i}", "less": f"l{i}"}) for i in range(8)]
    study = make_study(models=["m"], strategies=["int8"], benchmarks=["crows-pairs"], draws=100)
    with Store(run) as store:
        inputs = store.write_inputs(
            [(i, (SequenceLogprob(i.data["more"]), SequenceLogprob(i.data["less"]))) for i in items]
        )
        cells = []
        for place, strategy in enumerate(("none", "int8")):
            cell = Cell(
                run, CellId("m", strategy, {}, "plain", "greedy", "crows-pairs", "w", inputs, "float32", 1, False)
            )
            cell.start()
            answers = [SequenceAnswer(-1.0 - (i * (place + 3)) % 5, 2) for i in range(16)]
            cell.commit(list(enumerate(answers)), seconds=1.0, tokens=9, notes=[])
            cell.finish()
            cells.append(cell.id.folder)
            facts = {"model": "m", "strategy": strategy, "proof": {"summary": "s"}, "notes": [], "settings": {}}
            write_json(run / "variants" / f"{strategy}.json", facts | {"dtype": "float32", "weight_hash": "w"})
        about = {"schema": "tiltmeter/run/1", "study": study.model_dump(mode="json"), "versions": {}, "hardware": {}}
        write_json(
            run / "run.json", about | {"data": {}, "started": "", "batch_tokens": 1, "cells": cells, "notes": {}}
        )
        write_json(run / "failures.json", [{"model": "m", "strategy": "int8", "reason": "r", "cells": "all"}])
        write_results(run)
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("block", range(6))
def test_data_files(block, tmp_path):
    names, seen = list(DATA), set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        name = names[number % len(names)]
        file, content = DATA[name]
        written(tmp_path, {file: mutated(content.encode(), number)})
        seen.add((name, survives(lambda name=name: build("benchmark", name).load(tmp_path))))
    assert {name for name, _ in seen} == set(names) and {outcome for _, outcome in seen} == BOTH


@pytest.mark.parametrize("block", range(6))
def test_studies(block, tmp_path):
    seen = set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        content = (
            STUDY.encode() if number % 4 else yaml.safe_dump(yaml.safe_load(STUDY), default_flow_style=True).encode()
        )
        written(tmp_path, {"s.yaml": mutated(content, number)})

        def read() -> None:
            study = read_study(tmp_path / "s.yaml")
            study.variants()
            study.benchmark_names()

        seen.add(survives(read))
    assert seen == BOTH


@pytest.mark.parametrize("block", range(6))
def test_policies(block, tmp_path):
    seen = set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        written(tmp_path, {"p.yaml": mutated(POLICY.encode(), number)})
        seen.add(survives(lambda: load_policy(tmp_path / "p.yaml")))
    assert seen == BOTH


@pytest.mark.parametrize("block", range(6))
def test_run_folders(block, tmp_path, finished):
    names, seen = [name for name in finished if name != "results.json" and not name.startswith(".")], set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        name = names[number % len(names)]
        run = written(tmp_path, finished | {name: mutated(finished[name], number)})
        (run / "results.json").unlink()

        def read(run: Path = run) -> None:
            document(run)
            write_items(item_rows(run), io.StringIO(), as_json=True)

        seen.add(survives(read))
    assert seen == BOTH


@pytest.mark.parametrize("block", range(6))
def test_results_documents(block, tmp_path, finished, capsys):
    seen = set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        run = written(tmp_path, finished | {"results.json": mutated(finished["results.json"], number)})

        def read(run: Path = run) -> None:
            found = read_document(run)
            for kind in ("json", "csv", "markdown", "latex"):
                render(found, kind)
            run_gate(run)
            run_choose(run)

        seen.add(survives(read))
    assert seen == BOTH
    capsys.readouterr()


@pytest.mark.parametrize("block", range(4))
def test_gguf_headers(block, tmp_path):
    gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
    import numpy as np

    from tiltmeter.models.formats.gguf.header import read_header

    writer = gguf.GGUFWriter(tmp_path / "good.gguf", "llama")
    writer.add_context_length(64)
    writer.add_token_list(["a", "b", "<s>"])
    writer.add_array("x.y", [1, 2, 3])
    writer.add_tensor("blk.0.w", np.ones((2, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = (tmp_path / "good.gguf").read_bytes()
    assert survives(lambda: read_header(tmp_path / "good.gguf", "m")) == "read"
    seen = set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        (tmp_path / "m.gguf").write_bytes(mutated(content, 2 * number))
        seen.add(survives(lambda: read_header(tmp_path / "m.gguf", "m")))
    assert seen == BOTH


@pytest.mark.parametrize("block", range(6))
def test_server_answers(block):
    pytest.importorskip("lm_eval", reason="needs the extra lm-eval")
    import json

    from tiltmeter.backends._completions import read_completion
    from tiltmeter.backends._http import parsed
    from tiltmeter.backends.base import BackendFailed

    good = {
        "model": "m",
        "choices": [
            {
                "text": " cat",
                "finish_reason": "length",
                "token_ids": [5],
                "logprobs": {"tokens": ["a", "b"], "token_logprobs": [None, -1.5], "top_logprobs": None},
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 1},
    }
    seen = set()
    for number in range(block * BLOCK, (block + 1) * BLOCK):
        content = mutated(json.dumps(good).encode(), number)
        read = lambda content=content: read_completion(parsed(content, "w"), "w", {"m"}, 4)  # noqa: E731
        seen.add(survives(read, BackendFailed))
    assert seen == BOTH
