"""The work that is timed: real prompts of the six benchmarks' data, and random models of real shapes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tiltmeter import registry
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.prompts import encode, renderer
from tiltmeter.scoring.reference import text_of
from tiltmeter.scoring.requests import Generation, OptionProbs, Request

SYSTEM_TOKENS = 400
RUNS = 4
YES_NO = (("yes",), ("no",))


@dataclass(frozen=True)
class Work:
    """One thing to time.

    Attributes:
        name: as in the table of docs/engine.md; target: ratio to reach against `against`.
        requests: what is asked of tiltmeter; peers are asked the same.
    """

    name: str
    against: str
    target: float
    requests: Sequence[Request]


def random_variant(shared: Path, shape: str) -> LoadedVariant:
    """A random fp32 Llama of one of shared/shapes with the Llama-2 tokenizer; it never writes an end token."""
    torch.manual_seed(0)
    config = LlamaConfig(**json.loads((shared / "shapes" / f"{shape}.json").read_text()))
    model = LlamaForCausalLM(config).eval()
    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / "llama2")
    return LoadedVariant(shape, "none", model, tokenizer, "cpu", "float32", frozenset(), 2048, "random")


def all_work(shared: Path, tokenizer: Any, scale: float) -> list[Work]:
    """The seven kinds of work; `scale` shrinks or enlarges them (generation keeps 64 sequences from 0.5 on).

    Each is a part of the whole benchmark as a full run meets it: runs of neighbours in the order of the token ids, for
    peers and tiltmeter alike. The first rows of a file would share more or less than the benchmark does.
    """

    def prompts(name: str, count: int) -> list[Any]:
        benchmark = registry.build("benchmark", name)
        render, _ = renderer("plain", tokenizer)
        requests = [
            request
            for item in benchmark.load(shared / "data")
            for request in benchmark.requests(item, render, decoding="greedy", n_samples=1, seed=0)
        ]
        return neighbours(tokenizer, requests, max(4, int(count * scale)))

    crows = prompts("crows-pairs", 256)
    dt = [request.prompt for request in prompts("dt-stereotyping", 192)]
    discrim = [request.prompt for request in prompts("discrim-eval", 96)]
    few = 64 if scale >= 0.5 else max(4, int(64 * scale))
    world = [request.prompt for request in prompts("worldbench", 128)][:few]
    words = " ".join(" ".join(request.text for request in crows).split()[: SYSTEM_TOKENS * 3])
    system = tokenizer.decode(tokenizer(words).input_ids[1 : SYSTEM_TOKENS + 1])
    return [
        Work("CrowS-Pairs log-likelihood", "lm-eval", 1.45, crows),
        Work("DT-Stereotyping first token", "lm-eval", 12, [OptionProbs(prompt, YES_NO) for prompt in dt]),
        Work("DiscrimEval first token", "lm-eval", 1.45, [OptionProbs(prompt, YES_NO) for prompt in discrim]),
        Work(
            "DiscrimEval with a 400-token system prompt",
            "loop",
            2.6,
            [OptionProbs(system + "\n" + prompt, YES_NO) for prompt in discrim[: len(discrim) // 2]],
        ),
        Work("DT generation, 150 new tokens", "generate", 3, [Generation(prompt, 150) for prompt in dt[:few]]),
        Work(
            "DT generation, 5 samples, 150 new tokens",
            "generate",
            4,
            [
                Generation(prompt, 150, 1.0, 1.0, 10 * index + seed)
                for index, prompt in enumerate(dt[: few // 4])
                for seed in range(5)
            ],
        ),
        Work("WorldBench, 64 new tokens", "generate", 2.5, [Generation(prompt, 64) for prompt in world]),
    ]


def neighbours(tokenizer: Any, requests: Sequence[Request], count: int) -> list[Request]:
    """About `count` of the requests, without repeats, in RUNS runs from all over the order of their token ids."""
    ordered = sorted(dict.fromkeys(requests), key=lambda request: encode(tokenizer, text_of(request)))
    each = -(-count // RUNS)
    if count >= len(ordered):
        return ordered
    starts = [run * (len(ordered) - each) // (RUNS - 1) for run in range(RUNS)]
    return [ordered[index] for index in sorted({start + i for start in starts for i in range(each)})]
