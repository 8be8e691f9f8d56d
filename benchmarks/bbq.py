"""BBQ on a real model: are its option probabilities those of a plain transformers loop, and what do all rows cost?

    python -m benchmarks.bbq MODEL --data DIR [--check 24] [--questions 6]

Prints what docs/engine.md quotes. The loop renders and tokenizes each prompt by itself and runs `model(ids)` once per
prompt: no tree, no batch, nothing of the engine. The tokens of all 58,476 rows are counted, not estimated: the engine
answers them all with a model of one narrow layer in the place of the real one, since what it computes follows from the
token ids and the budget alone. The time is measured on whole questions (a row of a quad shares nearly all of its
context with the next), one or two of every category by turns, and scaled by the computed tokens.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tiltmeter.benchmarks.base import Item
from tiltmeter.benchmarks.bbq import BBQ, RaceAndGender, RaceAndIncome
from tiltmeter.scoring.engine import Engine, Stats
from tiltmeter.scoring.prompts import renderer
from tiltmeter.scoring.requests import OptionAnswer, OptionProbs
from tiltmeter.strategies.chain import parse
from tiltmeter.variants.apply import load

PARTS = (BBQ(), RaceAndIncome(), RaceAndGender())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--check", type=int, default=24, help="rows compared with the plain loop, by limit")
    parser.add_argument("--questions", type=int, default=6, help="whole questions whose cost is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    variant = load(options.model, parse("none"), device="cpu", dtype="float32")
    for cell_format in ("plain", "chat"):
        render, _ = renderer(cell_format, variant.tokenizer)
        worst = largest_difference(variant, render, options.data, options.check)
        print(
            f"{cell_format}: {options.check} rows, largest difference from a plain transformers loop {worst:.2e} nats"
        )
    render, _ = renderer("plain", variant.tokenizer)
    items = [(part, item) for part in PARTS for item in part.load(options.data)]
    requests = [requests_of(part, item, render)[0] for part, item in items]
    chosen = whole_questions([item for _, item in items], options.questions)
    engine = Engine(variant)
    asked, computed, seconds = cost(engine, [requests[place] for place in chosen])
    print(
        f"{len(chosen):,} rows of {options.questions} whole questions: {asked:,} tokens asked, "
        f"{computed:,} computed ({asked / computed:.2f} times fewer), {seconds:.1f} s"
    )
    counted = Engine(replace(variant, model=narrow(variant.model)), batch_tokens=engine.batch_tokens)
    asked_all, computed_all, _ = cost(counted, requests)
    minutes = seconds / computed * computed_all / 60
    print(
        f"all {len(items):,} rows: {asked_all:,} tokens asked, {computed_all:,} computed "
        f"({asked_all / computed_all:.2f} times fewer); "
        f"{minutes:.0f} minutes on one thread at that slice's rate ({computed / computed_all:.1%} of them)"
    )


def cost(engine: Engine, requests: Sequence[OptionProbs]) -> tuple[int, int, float]:
    """(tokens asked, tokens computed, seconds) of all requests, without the self-test."""
    engine.answer(requests[:4])
    engine.stats = Stats()
    started = time.perf_counter()
    for batch in engine.plan(requests):
        engine.answer([requests[place] for place in batch])
    return engine.stats.tokens_asked, engine.stats.tokens_computed, time.perf_counter() - started


def narrow(model: PreTrainedModel) -> LlamaForCausalLM:
    """One layer, 16 wide, over the same vocabulary and positions, random weights."""
    config = LlamaConfig(
        vocab_size=model.config.vocab_size,
        max_position_embeddings=model.config.max_position_embeddings,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def requests_of(part: BBQ, item: Item, render) -> Sequence[OptionProbs]:  # type: ignore[no-untyped-def]
    return part.requests(item, render, decoding="greedy", n_samples=1, seed=0)


@torch.inference_mode()
def largest_difference(variant, render, data: Path, rows: int) -> float:  # type: ignore[no-untyped-def]
    """Largest |log-probability, engine - loop| over the forms of the options, in nats; both over the vocabulary."""
    part = PARTS[0]
    items = part.subset(part.load(data), rows, seed=0)
    requests = [requests_of(part, item, render)[0] for item in items]
    answers = Engine(variant).answer(requests)
    vocabulary, worst = variant.tokenizer.get_vocab(), 0.0
    for request, answer in zip(requests, answers):
        assert isinstance(answer, OptionAnswer) and answer.logprobs is not None
        ids = variant.tokenizer(request.prompt, return_tensors="pt")["input_ids"]
        logits = variant.model(ids).logits[0, -1].double()
        logprobs = torch.log_softmax(logits, dim=-1)
        for forms, found in zip(request.options, answer.logprobs):
            for form, value in zip(forms, found):
                if value is not None:
                    worst = max(worst, math.fabs(float(logprobs[vocabulary[form]]) - value))
    return worst


def whole_questions(items: Sequence[Item], count: int) -> list[int]:
    """Places of the rows of `count` questions, one of each category by turns, in file order."""
    by_category: dict[str, dict[str, list[int]]] = {}
    for place, item in enumerate(items):
        by_category.setdefault(item.id.partition("/")[0], {}).setdefault(item.cluster, []).append(place)
    turns = [list(questions.values()) for questions in by_category.values()]
    dealt = [queue[depth] for depth in range(max(map(len, turns))) for queue in turns if depth < len(queue)]
    return sorted(place for question in dealt[:count] for place in question)


if __name__ == "__main__":
    main()
