"""The built-in demo model as a GGUF file, with its own vocabulary and template: small, and trained."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from gguf import TokenType
from gguf_checkpoints import write_gguf

DEMO = Path(str(files("tiltmeter.demo"))) / "models" / "base"
NORMAL, CONTROL, UNUSED = (int(kind) for kind in (TokenType.NORMAL, TokenType.CONTROL, TokenType.UNUSED))


def demo_gguf(file: Path, base: Path = DEMO, kinds: dict[str, str] | None = None, **metadata) -> Path:
    """Writes the model of `base` in float32; `metadata` overrides what the file says."""
    config = json.loads((base / "config.json").read_text())
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    entries = dict(tokenizer["model"]["vocab"])
    special = {token["content"] for token in tokenizer["added_tokens"]}
    entries |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    by_id = {index: entry for entry, index in entries.items()}
    tokens = [by_id.get(index, f"[unused{index}]") for index in range(config["vocab_size"])]
    sorts = [CONTROL if t in special else NORMAL if i in by_id else UNUSED for i, t in enumerate(tokens)]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    says = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",  # digits one by one, then GPT-2's pattern: as the demo's tokenizer
        "tokenizer.ggml.token_type": sorts,
        "tokenizer.ggml.merges": merges,
        "tokenizer.chat_template": (base / "chat_template.jinja").read_text(),
        **metadata,
    }
    write_gguf(base, file, kinds=kinds, tokens=tokens, **says)
    return file
