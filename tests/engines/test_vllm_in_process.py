"""`--backend vllm` over the real vLLM, on the CPU: held to transformers, the checkpoints that tiltmeter makes too.

Run by the environment that has vLLM (`make engines-test`); anywhere else it skips. TILTMETER_CHECKPOINTS names the
folder that `python -m benchmarks.checkpoints` filled in the project's own environment.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks.engines import measure

from benchmarks import vllm_int8
from tiltmeter.errors import UserError
from tiltmeter.study import make_study

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3600)]
REAL = Path(os.environ.get("TILTMETER_REAL", "build/real")).resolve()
MODEL = REAL / "SmolLM2-135M-Instruct"

CHECKPOINTS = Path(os.environ.get("TILTMETER_CHECKPOINTS", "build/checkpoints")).resolve()
# Mean difference of a log-probability from the same checkpoint in float32 in transformers: at most so many times that
# of its own bfloat16 (which rounds the same numbers, in other places).
AS_ROUGH = 2.0
DATA = str(Path(os.environ.get("TILTMETER_SHARED", "../shared")) / "data")


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    """What vLLM must be told on a small machine: little room for keys and values, and no cores of its own."""
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    for name, value in (settings | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.skipif(find_spec("vllm") is None, reason="runs in the environment of vLLM")
def test_vllm_answers_as_transformers_does():
    settings = {"models": [str(MODEL)], "dtype": "float32", "limit": 8, "data": DATA}
    for row in measure(make_study(**settings), make_study(backend="vllm", **settings)):
        assert row.answered == row.requests > 0, row
        assert not row.worst > 1e-3 and not row.equal < 0.95, row


@pytest.mark.skipif(find_spec("vllm") is None, reason="runs in the environment of vLLM")
@pytest.mark.parametrize("strategy", ["w8a8", "w4a16", "w8a16"])
def test_vllm_reads_what_tiltmeter_made_and_answers_as_transformers_does(strategy, monkeypatch):
    """In bfloat16: with AVX-512 vLLM's kernels for these weights take nothing else, without it there are none."""
    checkpoint = CHECKPOINTS / strategy
    if not checkpoint.exists():
        pytest.skip(f"needs {checkpoint}: python -m benchmarks.checkpoints {MODEL} --to {CHECKPOINTS}")
    if strategy == "w8a8" and max(vllm_int8.errors().values()) > vllm_int8.ROUNDING:
        pytest.skip("vLLM multiplies integers wrongly on this CPU: python -m benchmarks.vllm_int8")
    monkeypatch.setenv("VLLM_CPU_INT4_W4A8", "0")  # else it rounds activations to 8 bits where the CPU has AMX
    settings = {"models": [str(checkpoint)], "limit": 8, "data": DATA}
    exact, rough = (make_study(dtype=dtype, **settings) for dtype in ("float32", "bfloat16"))
    asked = ("crows-pairs", "global-opinion-qa")
    try:
        found = measure(exact, make_study(backend="vllm", dtype="bfloat16", **settings), asked)
    except UserError as refusal:
        assert "--backend vllm cannot start" in str(refusal)
        pytest.skip(str(refusal))
    for row, own in zip(found, measure(exact, rough, asked), strict=True):
        assert row.answered == row.requests > 0, row
        assert row.mean < AS_ROUGH * own.mean, (row, own)
