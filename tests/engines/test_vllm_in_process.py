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
# largest difference of a log-probability, nats: kernels round activations in another order, and integers as coarsely
# as their format does. Weights alone: float32 products of the same numbers.
NOISE = {"w8a8": 0.5, "w4a16": 0.05, "w8a16": 0.05}
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
@pytest.mark.parametrize("strategy", NOISE)
def test_vllm_reads_what_tiltmeter_made_and_answers_as_transformers_does(strategy):
    checkpoint = CHECKPOINTS / strategy
    if not checkpoint.exists():
        pytest.skip(f"needs {checkpoint}: python -m benchmarks.checkpoints {MODEL} --to {CHECKPOINTS}")
    if strategy == "w8a8" and max(vllm_int8.errors().values()) > vllm_int8.ROUNDING:
        pytest.skip("vLLM multiplies integers wrongly on this CPU: python -m benchmarks.vllm_int8")
    settings = {"models": [str(checkpoint)], "dtype": "float32", "limit": 8, "data": DATA}
    asked = ("crows-pairs", "global-opinion-qa")
    try:
        rows = measure(make_study(**settings), make_study(backend="vllm", **settings), asked)
    except UserError as refusal:  # kernels for packed weights need AVX-512
        assert "--backend vllm cannot start" in str(refusal)
        pytest.skip(str(refusal))
    for row in rows:
        assert row.answered == row.requests > 0, row
        assert row.worst < NOISE[strategy], row
