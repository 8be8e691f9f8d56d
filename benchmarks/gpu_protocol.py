"""The whole protocol on one GPU: model time of six benchmarks, greedy and 5 samples, against transformers' generate.

    python -m benchmarks.gpu_protocol [--shared ../shared] [--share 1.0] [--budget auto]

Random weights in the shape of Llama-3.1-8B, bf16, so nothing has to be downloaded; no answer ends early, which makes
generation the worst case. Prompts are the real ones with the Llama-2 tokenizer. Goal on an H200: under 180 s of
model time; the calculated floor (13.96 GFLOP a token, 60 % of peak) is 88 s. Generation is also timed through
transformers' generate on the first 256 sequences of each benchmark, at the best of four batch sizes.
Writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.speed_peers import generate
from tiltmeter import registry
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.prompts import renderer
from tiltmeter.scoring.requests import Generation, Request

RESULTS = Path(__file__).parent / "results"
CELLS = [
    ("crows-pairs", "greedy"),
    ("global-opinion-qa", "greedy"),
    ("discrim-eval", "greedy"),
    ("worldbench", "greedy"),
    ("dt-stereotyping", "greedy"),
    ("discrim-eval-gen", "greedy"),
    ("dt-stereotyping", "sampling"),
    ("discrim-eval-gen", "sampling"),
]
LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--share", type=float, default=1.0, help="share of each benchmark's items")
    parser.add_argument("--budget", default="auto", help="tokens in one forward")
    parser.add_argument("--layers", type=int, default=LLAMA_8B["num_hidden_layers"], help="fewer for a trial")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    variant = random_8b(options.shared, options.layers, options.device)
    engine = Engine(variant, batch_tokens=None if options.budget == "auto" else int(options.budget))
    print(f"budget {engine.batch_tokens} tokens")
    rows = []
    for name, decoding in CELLS:
        requests = cell(options.shared, variant, name, decoding, options.share)
        engine.answer(requests[:1])  # the self-test is no model time
        before = engine.stats.seconds
        for batch in engine.plan(requests):
            engine.answer([requests[index] for index in batch])
        row = {
            "benchmark": name,
            "decoding": decoding,
            "requests": len(requests),
            "seconds": engine.stats.seconds - before,
            "generate_ratio": None,
        }
        if isinstance(requests[0], Generation):
            row["generate_ratio"] = against_generate(variant, engine, requests[:256])
        rows.append(row)
        print(row, flush=True)
    total = sum(row["seconds"] for row in rows)
    print(f"model time {total:.0f} s; notes: {engine.notes}")
    RESULTS.mkdir(exist_ok=True)
    name = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    found = {
        "device": name,
        "share": options.share,
        "layers": options.layers,
        "budget": engine.batch_tokens,
        "seconds": total,
        "cells": rows,
        "notes": engine.notes,
    }
    (RESULTS / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")


def random_8b(shared: Path, layers: int, device: str) -> LoadedVariant:
    """Random weights in bf16 on `device`; no end token, so every generation runs to its limit."""
    torch.manual_seed(0)
    config = LlamaConfig(**{**LLAMA_8B, "num_hidden_layers": layers})
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    return LoadedVariant("random-8b", "none", model, tokenizer, device, "bfloat16", frozenset(), 8192, "random")


def cell(shared: Path, variant: LoadedVariant, name: str, decoding: str, share: float) -> list[Request]:
    """The requests of one benchmark."""
    benchmark: Any = registry.build("benchmark", name)
    render, _ = renderer("plain", variant.tokenizer)
    items = benchmark.load(shared / "data")
    return [
        request
        for item in items[: max(1, int(share * len(items)))]
        for request in benchmark.requests(item, render, decoding=decoding, n_samples=5, seed=0)
    ]


def against_generate(variant: LoadedVariant, engine: Engine, requests: Sequence[Request]) -> float:
    """Time of transformers' generate over tiltmeter's on the same requests."""
    asked = [request for request in requests if isinstance(request, Generation)]

    def seconds(call: Any) -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    peer = min(seconds(lambda size=size: generate(variant, asked, size)) for size in (32, 64, 128, 256))
    return peer / seconds(lambda: engine.answer(asked))


if __name__ == "__main__":
    main()
