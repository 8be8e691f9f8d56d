"""`--backend vllm` over the real vLLM, on the CPU: held to transformers.

Run by the environment that has vLLM (`make engines-test`); anywhere else it skips.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks.engines import measure

from tiltmeter.study import make_study

pytestmark = [pytest.mark.engines, pytest.mark.timeout(3600)]
REAL = Path(os.environ.get("TILTMETER_REAL", "build/real")).resolve()
MODEL = REAL / "SmolLM2-135M-Instruct"

DATA = str(Path(os.environ.get("TILTMETER_SHARED", "../shared")) / "data")


@pytest.mark.skipif(find_spec("vllm") is None, reason="runs in the environment of vLLM")
def test_vllm_answers_as_transformers_does():
    settings = {"models": [str(MODEL)], "dtype": "float32", "limit": 8, "data": DATA}
    for row in measure(make_study(**settings), make_study(backend="vllm", **settings)):
        assert row.answered == row.requests > 0, row
        assert not row.worst > 1e-3 and not row.equal < 0.95, row
