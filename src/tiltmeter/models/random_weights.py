"""A checkpoint of a given shape with random weights: to measure speed and memory without any download.

Its weights come from the configuration's own initialization (seed 0) and its tokenizer maps every byte of a text to
one token; its answers mean nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError
from tiltmeter.models.artifacts import Artifacts


def from_shape(config_file: str, *, cache_dir: str | Path | None = None) -> str:
    """Folder of a random model with the shape of `config_file` (a model's config.json); made once, then cached.

    Raises UserError for a missing file or one that describes no causal language model.
    """
    path = Path(config_file).expanduser()
    try:
        shape = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the configuration {config_file}: {error}",
            fix="give a model's config.json, a model folder or a hub id",
        ) from None
    if not isinstance(shape, dict) or "model_type" not in shape:
        raise UserError(f"{config_file} describes no model (no model_type)", fix="give a model's config.json")
    shape.pop("quantization_config", None)

    def make(folder: Path) -> dict[str, object]:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(shape))
        config = AutoConfig.from_pretrained(folder / "model", trust_remote_code=False)
        state = torch.random.get_rng_state()
        torch.manual_seed(0)
        dtype = config.dtype or torch.float32
        AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False).save_pretrained(folder / "model")
        torch.random.set_rng_state(state)
        _byte_tokenizer(config.vocab_size).save_pretrained(folder / "model")
        return {"title": f"random weights in the shape of {path.name}"}

    return str(Artifacts(cache_dir).get_or_make({"kind": "random weights", "shape": shape}, make).path / "model")


def _byte_tokenizer(vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<unk>", "<s>", "</s>", *letters][:vocab_size]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
