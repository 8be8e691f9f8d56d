"""Fixtures shared by all tests. No network; real data and models come from the folder TILTMETER_SHARED names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data files, tiny models and tokenizers. Absent: skipped, or failed where CI says so."""
    folder = Path(os.environ.get("TILTMETER_SHARED", ROOT / ".." / "shared")).resolve()
    if not folder.is_dir():
        message = f"needs the shared data folder ({folder} is absent; set TILTMETER_SHARED)"
        if os.environ.get("TILTMETER_REQUIRE_SHARED") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Literal prompts and parser/score pairs of the published study's own functions."""
    return ROOT / "tests" / "golden"


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed checkpoints of tests never land in, or come from, a person's own cache."""
    monkeypatch.setenv("TILTMETER_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
