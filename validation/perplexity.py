"""Perplexity of a text under one model and any strategies: did compression hurt as much as it usually does?

Perplexity      exp(mean over all scored tokens of -log p(token | before)), in no unit. Each passage is tokenized as
                it is (BOS where the tokenizer adds it) and scored on its own; the first token is not scored.
                Passages longer than the model's context are cut into pieces that fit, each scored on its own.
Expected        none < int8 < int4; unstructured pruning better than 2:4; calibrated better than rounding to nearest.
Command         python -m tiltmeter.perplexity MODEL TEXT -s int8 -s awq --limit 100
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant

EVERY = (
    "int8",
    "int4",
    "int4:type=nf4",
    "awq",
    "gptq",
    "w4a16",
    "w8a8",
    "fp8",
    "wanda",
    "wanda-2:4",
    "sparsegpt",
    "sparsegpt-2:4",
    "magnitude",
    "kv8",
    "kv4",
    "int4+kv4",
    "wanda-2:4+int4+kv4",
    "dynamic-int8",
    "dtype:bfloat16",
)


@dataclass(frozen=True)
class Perplexity:
    """value: perplexity, NaN when no token could be scored; n_tokens scored, in n_passages."""

    value: float
    n_tokens: int
    n_passages: int


def perplexity(variant: LoadedVariant, texts: Sequence[str]) -> Perplexity:
    """Perplexity of `texts` under `variant`, one passage at a time (no batching: INT8 answers depend on it)."""
    import torch

    nats, n_tokens, n_passages = 0.0, 0, 0
    with torch.inference_mode():
        for text in texts:
            ids = variant.tokenizer(text, verbose=False).input_ids
            for start in range(0, len(ids), variant.max_length):
                piece = torch.tensor([ids[start : start + variant.max_length]], device=variant.device)
                if piece.shape[1] < 2:
                    continue
                cache = variant.new_cache() if variant.new_cache else None
                logits = variant.model(piece, past_key_values=cache, use_cache=cache is not None).logits[0, :-1].float()
                nats += float(torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="sum"))
                n_tokens += piece.shape[1] - 1
            n_passages += 1
    value = math.exp(min(nats / n_tokens, 700.0)) if n_tokens and math.isfinite(nats) else math.nan
    return Perplexity(value, n_tokens, n_passages)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the module docstring; one line per strategy as it is measured."""
    from tiltmeter.models import reading
    from tiltmeter.strategies.base import VariantFailed
    from tiltmeter.strategies.calibration import read_texts
    from tiltmeter.strategies.chain import parse
    from tiltmeter.variants import apply

    parser = argparse.ArgumentParser(prog="python -m tiltmeter.perplexity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("text", help=".txt (passages separated by empty lines), .json list or .jsonl")
    parser.add_argument("-s", "--strategy", action="append", help="repeatable; default: one of each kind")
    parser.add_argument("--limit", type=int, default=None, help="first N passages only")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--calibration", default=None, help="text file for strategies that calibrate")
    options = parser.parse_args(arguments)
    try:
        texts = read_texts(options.text)[: options.limit]
        chains = [parse(text) for text in ("none", *(options.strategy or EVERY))]
        width = max(len(chain.canonical) for chain in chains)
        for chain in chains:
            try:
                variant = apply.load(
                    options.model, chain, device=options.device, dtype=options.dtype, calibration=options.calibration
                )
            except (UserError, VariantFailed) as error:
                if chain.canonical == "none":
                    raise
                reason = getattr(error, "message", str(error))
                print(f"{chain.canonical:<{width}}  not measured: {reason}", flush=True)
                continue
            found = perplexity(variant, texts)
            print(f"{chain.canonical:<{width}}  {found.value:10.3f}   ({found.n_tokens} tokens)", flush=True)
            reading.release(variant)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
