"""A real llama-server and a real vLLM server answer as the engines in process do, are killed, and a run goes on.

By hand, `make engines-test`: not in CI. What is missing skips with its name.

    TILTMETER_REAL          a folder with SmolLM2-135M-Instruct (`make test-real` fetches it) and, made where they are
                            missing, smol.F32.gguf and smol.F16.gguf
    TILTMETER_LLAMA_SERVER  the llama-server binary;  TILTMETER_VLLM  the vllm script
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.engines import SIX, measure

from tiltmeter.backends import served_speed
from tiltmeter.models.formats.gguf.library import quantize
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.study import Study, make_study
from tiltmeter.variants.speed import Setting

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3600)]
REAL = Path(os.environ.get("TILTMETER_REAL", "build/real")).resolve()
MODEL, FULL, HALF = REAL / "SmolLM2-135M-Instruct", REAL / "smol.F32.gguf", REAL / "smol.F16.gguf"
UP_S = 300
PORTS = {"llama": 8397, "vllm": 8398}
FIVE = [name for name in SIX if name != "crows-pairs"]


@pytest.fixture(autouse=True, scope="module")
def files(shared: Path) -> None:
    """The model's weights as they are, in F32, and the same rounded once, in F16."""
    recipes = shared / "real"
    if not (MODEL / "tokenizer.json").exists():
        subprocess.run([sys.executable, recipes / "make_real_model.py", REAL], check=True)
    if not FULL.exists():
        packed = REAL / "SmolLM2-135M-Instruct.Q4_1.gguf"
        subprocess.run([sys.executable, recipes / "gguf_to_f32.py", packed, FULL], check=True)
    if not HALF.exists():
        pytest.importorskip("llama_cpp")
        quantize(FULL, HALF, "F16")


def command(engine: str) -> tuple[list[str], dict[str, str], str]:
    """(command, environment, what it must be held to) of a server of the F32 weights."""
    binary = os.environ.get({"llama": "TILTMETER_LLAMA_SERVER", "vllm": "TILTMETER_VLLM"}[engine])
    if not binary:
        pytest.skip("the engine's own variable names no program")
    port = ["--host", "127.0.0.1", "--port", str(PORTS[engine])]
    if engine == "llama":  # keys and values as the engine in process keeps them
        exact = ["-ctk", "f32", "-ctv", "f32", "-fa", "off", "-c", "8192", "-np", "4", "-t", "1"]
        return [binary, "-m", str(FULL), *exact, *port], {}, str(FULL)
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    small = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--served-model-name", "smol"]
    return [binary, "serve", str(MODEL), *small, *port], quiet | {"OMP_NUM_THREADS": "1"}, str(MODEL)


@contextmanager
def serving(engine: str, log: Path):
    """(address, kill): the server while it is up; `kill` ends it as a crash would."""
    words, more, _ = command(engine)
    address = f"http://127.0.0.1:{PORTS[engine]}/v1"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | more
    with log.open("ab") as out:
        process = subprocess.Popen(words, env=environment, stdout=out, stderr=out, start_new_session=True)

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        for _ in range(UP_S):
            if process.poll() is not None:
                pytest.fail(f"{words[0]} ended: {log.read_text(errors='replace')[-2000:]}")
            try:
                urllib.request.urlopen(f"{address}/models", timeout=5).read()
                break
            except OSError:
                time.sleep(1)
        yield address, kill
    finally:
        kill()


def data() -> str:
    return str(Path(os.environ.get("TILTMETER_SHARED", "../shared")) / "data")


def asked(source: str, **more: str) -> Study:
    tokenizer = str(MODEL) if source.startswith("http") else None
    return make_study(models=[source], tokenizer=tokenizer, limit=8, data=data(), **more)


@pytest.mark.parametrize("engine", ["llama", "vllm"])
def test_a_real_server_answers_as_its_engine_in_process_does(engine, tmp_path):
    *_, same = command(engine)
    with serving(engine, tmp_path / "log") as (address, _):
        rows = {row.benchmark: row for row in measure(asked(same), asked(address))}
    if engine == "llama":
        refused = rows.pop("crows-pairs")
        assert refused.answered == 0 and "no log-probabilities of a prompt" in str(refused.refused)
    for row in rows.values():
        assert row.answered == row.requests > 0, row
        assert not row.worst > 1e-3, row
        assert not row.equal < 0.95, row


@pytest.mark.parametrize("engine", ["llama", "vllm"])
def test_the_chat_endpoint_of_a_real_server_answers_the_five(engine, tmp_path):
    *_, same = command(engine)
    with serving(engine, tmp_path / "log") as (address, _):
        chat = f"{address}/chat/completions"
        rows = measure(asked(same, format="chat"), asked(chat, format="chat"), FIVE)
    for row in rows:
        assert row.answered >= row.requests / 2 > 0, row
        assert not row.worst > 1e-3, row
        assert not row.equal < 0.95, row


@pytest.mark.parametrize("engine", ["llama", "vllm"])
def test_the_speed_of_a_real_server_counts_every_token_that_was_asked_for(engine, tmp_path, monkeypatch):
    counted = []
    written = served_speed._written
    monkeypatch.setattr(served_speed, "_written", lambda *answer: counted.append(written(*answer)) or counted[-1])
    with serving(engine, tmp_path / "log") as (address, _):
        how = Setting(batch=2, prompt_tokens=64, new_tokens=8, repeats=2)
        [found] = served_speed.measure(address, setting=how, tokenizer=str(MODEL))
    assert counted == 3 * [1, 1, 1, 9, 9]  # one round of warm-up, two that count
    assert found.prefill.low > 0 and found.decode.low > 0 and found.first_token.low > 0


@pytest.mark.parametrize("engine", ["llama", "vllm"])
def test_a_server_that_is_killed_costs_its_cell_and_the_run_goes_on_with_the_next(engine, tmp_path):
    """Killed after the first cell, within the second; started anew, the same command completes the run."""
    words = [sys.executable, "-m", "tiltmeter", "run", f"http://127.0.0.1:{PORTS[engine]}/v1"]
    words += ["--tokenizer", str(MODEL), "-b", "global-opinion-qa", "-b", "worldbench", "--limit", "4"]
    words += ["--data", data(), "--out", str(tmp_path / "run")]
    with serving(engine, tmp_path / "log") as (_, kill):
        with (tmp_path / "out").open("wb") as out:
            asking = subprocess.Popen(words, stdout=out, stderr=out)
        while asking.poll() is None and not list((tmp_path / "run").glob("cells/*/done.json")):
            time.sleep(0.2)
        kill()
        assert asking.wait() == 3, (tmp_path / "out").read_text(errors="replace")[-2000:]
    kept = sum(len(path.read_bytes().splitlines()) for path in (tmp_path / "run").glob("cells/*/answers.jsonl"))
    with serving(engine, tmp_path / "log"):
        assert subprocess.run(words, check=False).returncode == 0
    rows = read_results(tmp_path / "run")["rows"]
    assert len(rows) == 2 and all(row["complete"] for row in rows) and kept == 1


def test_llama_cpp_in_process_is_one_request_at_a_time_and_transformers():
    """Option and sentence log-probabilities within 0.001 nats, greedy texts of F32 equal in at least 95 %."""
    pytest.importorskip("llama_cpp")
    full = str(FULL)
    alone = measure(asked(full), asked(full), alone=True)
    dense = measure(asked(str(MODEL)), asked(full))
    for row in (*alone, *dense):
        assert row.answered == row.requests > 0, row
        assert not row.worst > 1e-3, row
        assert not row.equal < 0.95, row


def test_a_run_of_a_gguf_file_under_llama_cpps_own_quantizer(tmp_path):
    pytest.importorskip("llama_cpp")
    strategies = ["q8_0", "q4_k_m", "ctk=q8_0,ctv=q8_0"]
    summary = run(make_study(models=[str(HALF)], strategies=strategies, limit=8, data=data()), tmp_path / "run")
    assert summary.failures == [] and len(read_results(tmp_path / "run")["rows"]) == 4 * len(SIX)
