"""The whole protocol on one GPU: model time of six benchmarks, greedy and 5 samples, against transformers' generate.

    TILTMETER_SHARED=.carry python -m benchmarks.gpu_protocol [--share 1.0] [--budget auto] [--decoding WAY] [--peers]

Random weights in the shape of Llama-3.1-8B, bf16, so nothing has to be downloaded; no answer ends early, which makes
generation the worst case. Prompts are the real ones with the Llama-2 tokenizer. Goal on an H200: under 180 s of
model time; the calculated floor (13.96 GFLOP a token, 60 % of peak) is 88 s. Generation is also timed through
transformers' generate on 64 sequences of the first greedy benchmark with --peers.

The first method that is not prefix trees ends the run: a slower one would only burn the time of a lent card. Results
go to $OUT (else benchmarks/results) after every cell: gpu.json.
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
import transformers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.generate_peer import generate
from tiltmeter import registry
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import device
from tiltmeter.scoring.engine import Engine
from tiltmeter.scoring.methods import NAMES
from tiltmeter.scoring.prompts import renderer
from tiltmeter.scoring.requests import Generation, Request

RESULTS = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
PEER_SEQUENCES = 64
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
    parser.add_argument("--decoding", choices=NAMES, help="instead of what the self-test chooses: to compare the ways")
    parser.add_argument("--peers", action="store_true", help="time transformers' generate too")
    options = parser.parse_args()
    os.environ[device.STRICT] = "1"
    started = time.perf_counter()
    variant = random_8b(options.shared, options.layers, options.device)
    engine = Engine(variant, batch_tokens=None if options.budget == "auto" else int(options.budget))
    if options.decoding:
        engine.outcomes["generation"] = {"method": str(NAMES[options.decoding]), "notes": []}
    on_card = options.device.startswith("cuda")
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if on_card else options.device,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "cuda": torch.version.cuda},
        "share": options.share,
        "layers": options.layers,
        "budget": engine.batch_tokens,
        "rows": engine.rows,
        "loading_seconds": time.perf_counter() - started,
        "cells": [],
    }
    print({key: value for key, value in found.items() if key != "cells"}, flush=True)
    for name, decoding in CELLS:
        row = measured(engine, cell(options.shared, variant, name, decoding, options.share), on_card)
        found["cells"].append({"benchmark": name, "decoding": decoding, **row})
        found["seconds"] = sum(each["seconds"] for each in found["cells"])
        found["methods"], found["self_test_seconds"] = engine.outcomes, engine.stats.test_seconds
        found["notes"] = [str(note) for note in engine.notes]
        write(found)
        print(found["cells"][-1], flush=True)
    print(f"model time {found['seconds']:.0f} s; extrapolated to all items {found['seconds'] / options.share:.0f} s")
    if options.peers:
        requests = cell(options.shared, variant, "dt-stereotyping", "greedy", options.share)[:PEER_SEQUENCES]
        found["generate_ratio"] = against_generate(variant, engine, requests)
        write(found)
        print(f"transformers' generate took {found['generate_ratio']:.2f} times as long")


def measured(engine: Engine, requests: list[Request], on_card: bool) -> dict[str, Any]:
    """Seconds of model time, tokens, and peak memory in bytes of one cell."""
    if on_card:
        torch.cuda.reset_peak_memory_stats()
    before = engine.stats.seconds, engine.stats.tokens_computed
    for batch in engine.plan(requests):
        engine.answer([requests[index] for index in batch])
    if on_card:
        torch.cuda.synchronize()
    return {
        "requests": len(requests),
        "seconds": engine.stats.seconds - before[0],
        "tokens_computed": engine.stats.tokens_computed - before[1],
        "peak_bytes": torch.cuda.max_memory_allocated() if on_card else None,
    }


def write(found: dict[str, Any]) -> None:
    """What is known so far: a command that is cut off returns its finished cells."""
    RESULTS.mkdir(parents=True, exist_ok=True)
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

    peer = seconds(lambda: generate(variant, asked, PEER_SEQUENCES))
    return peer / seconds(lambda: engine.answer(asked))


if __name__ == "__main__":
    main()
