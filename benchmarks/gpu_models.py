"""The models that checks on a card run: random ones in real shapes, and a trained toy."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.gpu_protocol import LLAMA_8B, cell
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.requests import Request

SHAPES = {
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "8b-wide": {**LLAMA_8B, "num_hidden_layers": 2},
}
COMMON = {"vocab_size": 32000, "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2}


class Models:
    """Makes them on one device."""

    def __init__(self, shared: Path, where: str) -> None:
        self.shared, self.where = shared, where
        self.on_card = where.startswith("cuda")

    def variant(self, shape: str, dtype: torch.dtype, head: float = 1.0) -> LoadedVariant:
        """A random model of a shape, or the trained toy; its output layer times `head`."""
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(self.shared / "tokenizers" / "llama2")
        if shape == "stories":
            folder = self.shared / "models" / "tinystories-656k"
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        else:
            with torch.device(self.where):  # billions of random numbers take a CPU minutes
                model = LlamaForCausalLM._from_config(LlamaConfig(**{**COMMON, **SHAPES[shape]}), dtype=dtype)
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(head)
        name = str(dtype).removeprefix("torch.")
        longest = model.config.max_position_embeddings
        model = model.eval().to(self.where)
        return LoadedVariant(shape, "none", model, tokenizer, self.where, name, frozenset(), longest, "random")

    def requests(self, variant: LoadedVariant, name: str, count: int) -> list[Request]:
        return cell(self.shared, variant, name, "greedy", 0.05)[:count]
