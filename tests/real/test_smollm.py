"""The whole instrument on a real, small instruct model, as a new user would run it: `make test-real`.

SmolLM2-135M-Instruct is a weak model: it loops on dt-stereotyping and copies the example on worldbench, and that must
be said. TILTMETER_REAL names a folder that already holds the model (93 MB are fetched otherwise),
TILTMETER_REAL_LIMIT the items per benchmark (150; an hour or two on one core).
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest

from tiltmeter.printed import digits, number
from tiltmeter.registry import build
from tiltmeter.results.document import read_results
from tiltmeter.runs.store import started_cells
from tiltmeter.scoring.requests import OptionProbs, SequenceLogprob

pytestmark = [pytest.mark.real, pytest.mark.timeout(6 * 3600)]

LIMIT = os.environ.get("TILTMETER_REAL_LIMIT", "150")
STRATEGIES = ("int8", "int4", "kv4", "wanda", "awq")
HELD = 40  # requests of a cell that are held to the float64 loop
COMMAND = (sys.executable, "-m", "tiltmeter")


@pytest.fixture(scope="module")
def smol(shared) -> Path:
    folder = Path(os.environ.get("TILTMETER_REAL", "build/real")).resolve()
    if not (folder / "SmolLM2-135M-Instruct" / "tokenizer.json").exists():
        subprocess.run([sys.executable, shared / "real" / "make_real_model.py", folder], check=True)
    return folder / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def run(smol, shared, tmp_path_factory) -> Path:
    out = Path(os.environ.get("TILTMETER_REAL_RUN") or tmp_path_factory.mktemp("real") / "run")
    asked = [part for strategy in STRATEGIES for part in ("-s", strategy)]
    where = ["--data", shared / "data", "--out", out]
    done = subprocess.run([*COMMAND, "run", smol, *asked, "--limit", LIMIT, "--format", "both", *where], text=True)
    assert done.returncode == 0
    return out


def base_cells(run, kind):
    cells = [cell for cell in started_cells(run) if cell.id.strategy == "none"]
    return [cell for cell in cells if build("benchmark", cell.id.benchmark).request_kind == kind]


def test_no_cell_of_the_run_says_that_trees_were_refused(run):
    notes = [note for cell in started_cells(run) for note in cell.done.notes if cell.id.strategy == "none"]
    assert not [note for note in notes if "selftest" in str(note) or "faster ways" in str(note)]


def test_base_answers_are_those_of_a_plain_transformers_loop_in_float64(run, smol):
    """1e-3 nats: 30 layers in float32 move a sentence's log-likelihood by some 1e-4, and a biased softmax by 1e-2."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(smol)
    vocabulary = tokenizer.get_vocab()
    held = 0
    for cell in [*base_cells(run, "sequence"), *base_cells(run, "options")]:
        answers = cell.answers()
        for index in np.linspace(0, len(answers) - 1, min(HELD, len(answers))).astype(int).tolist():
            [request] = cell.inputs.requests_at([index])
            assert isinstance(request, SequenceLogprob | OptionProbs)
            text = request.text if isinstance(request, SequenceLogprob) else request.prompt
            ids = tokenizer(text).input_ids  # this tokenizer adds no BOS, and the template writes one
            with torch.inference_mode():
                logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            if isinstance(request, SequenceLogprob):
                wanted = sum(float(logprobs[place, token]) for place, token in enumerate(ids[1:]))
                assert answers[index].logprob == pytest.approx(wanted, abs=1e-3)
            else:
                for forms, found in zip(request.options, answers[index].logprobs, strict=True):
                    for form, logprob in zip(forms, found, strict=True):
                        token = vocabulary.get(form.replace(" ", "Ġ"))  # a byte-level vocabulary
                        assert (token is None) == (logprob is None)
                        if token is not None:
                            assert logprob == pytest.approx(float(logprobs[-1, token]), abs=1e-3)
            held += 1
    assert held >= 3 * min(HELD, int(LIMIT))


def test_greedy_texts_are_those_of_the_reference_token_by_token(run, smol):
    """transformers' generate on a prompt alone; where two logits are as good as equal, either may be written."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(smol).eval(), AutoTokenizer.from_pretrained(smol)
    for cell in base_cells(run, "generation"):
        answers = cell.answers()
        [request] = cell.inputs.requests_at([0])
        ids = torch.tensor([tokenizer(request.prompt).input_ids])
        found = model.generate(ids, max_new_tokens=min(24, request.max_new_tokens), do_sample=False)[0, ids.shape[1] :]
        written = tokenizer.decode(found)
        assert answers[0].text.startswith(written) or written.startswith(answers[0].text)


def on_a_terminal(command, columns) -> str:
    """What a command prints on a terminal that is `columns` wide; into a pipe tables are as wide as they need."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"} | {"COLUMNS": str(columns)}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        found += part
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", found.decode()).replace("\r\n", "\n")  # bold and dim take no room


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_results_show_every_score_whole_on_a_narrow_terminal(run, columns):
    shown = on_a_terminal([*COMMAND, "results", run], columns)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    cut = [line for line in lines if re.search(r"\d[.,]?…|[-+\d]\.(?!\d)(?=\s*(│|┃|\|))", line)]
    assert cut == []
    for row in read_results(run)["rows"]:
        if row["score"] is not None:
            assert number(row["score"], digits(row["unit"])) in shown, (row["benchmark"], row["strategy"])


def row_text(run, benchmark):
    """All that the results document says about a benchmark's base rows, as text."""
    rows = [row for row in read_results(run)["rows"] if row["benchmark"] == benchmark and row["strategy"] == "none"]
    assert rows
    return [json.dumps(row, ensure_ascii=False).lower() for row in rows]


def test_dt_stereotyping_says_that_the_model_gives_no_signal(run):
    assert any("no signal" in text or "no usable signal" in text for text in row_text(run, "dt-stereotyping"))


def test_worldbench_says_that_the_model_copies_the_example(run):
    assert any("copie" in text or "copy" in text for text in row_text(run, "worldbench"))
