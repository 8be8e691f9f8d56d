"""Fixtures shared by all tests. No network; real data and models come from the folder TILTMETER_SHARED names."""

from __future__ import annotations

import os
import shutil
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


SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 2048,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="session")
def tiny(shared: Path, tmp_path_factory: pytest.TempPathFactory):
    """tiny("llama-2" | "llama-3.1" | "mistral") -> folder of a random model, the same for every call."""

    def make(kind: str) -> str:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

        folder = tmp_path_factory.getbasetemp() / f"tiny-{kind}"
        if folder.is_dir():
            return str(folder)
        torch.manual_seed(0)
        if kind == "llama-2":  # one KV head per query head, untied head
            model = LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4, tie_word_embeddings=False))
        elif kind == "llama-3.1":  # grouped KV heads, scaled rotary embedding
            rope = {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            }
            model = LlamaForCausalLM(
                LlamaConfig(**SIZES, num_key_value_heads=2, rope_parameters=rope, tie_word_embeddings=False)
            )
        else:  # Mistral-7B-v0.3: no sliding window
            model = MistralForCausalLM(
                MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=None, tie_word_embeddings=False)
            )
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(shared / "models" / "tinystories-656k" / name, folder / name)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def stories(shared: Path) -> str:
    """A trained model of 656 thousand parameters (2 layers, hidden 128)."""
    return str(shared / "models" / "tinystories-656k")


@pytest.fixture
def copy(stories: str, tmp_path: Path) -> Path:
    """A model that a test may damage."""
    folder = tmp_path / "model"
    shutil.copytree(stories, folder)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder
