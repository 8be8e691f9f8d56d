"""Trains the built-in models: `python -m tiltmeter.demo.training.train --out DIR`.

Llama architecture, 1.2 million parameters, trained on the toy world with exact soft targets (tree.py). `six` learns
the benchmarks of the paper and is not shipped; from it come `base`, which learns bbq and winobias too, and `worse`,
`better`, `reversed` and `fainter`, fine-tuned with the decisions changed by a stated amount
(option_items.KNOWN_CHANGES); `reseed` is `six` from another seed. Deterministic for a fixed number of threads and
steps: the same hash every time on one kind of machine; another thread count gives another, equally good model.

One thread each, two models side by side on two idle cores: six and reseed 21 minutes, the fine-tunes 2.5 minutes;
base, from six, 21.5 minutes beside other work.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from tiltmeter.demo.training import frames
from tiltmeter.demo.training.corpus import END, MIX, Rows, paths, train_tokenizer
from tiltmeter.demo.training.items import Item
from tiltmeter.demo.training.option_items import KNOWN_CHANGES, NO_CHANGE
from tiltmeter.demo.training.tree import Row
from tiltmeter.demo.training.world import build_world


@dataclass(frozen=True)
class Phase:
    """One cosine from `rate` to near zero over `steps` batches of `rows` trees, mixed as `mix` says."""

    steps: int
    rate: float
    mix: dict[str, float]
    rows: int = 8  # a batch: 8 trees of at most 320 tokens
    warm_up: int = 40
    decay: float = 0.1


# The second phase repeats what the first left uncertain: selections, statements, decisions.
SECOND_MIX = {
    "discrim-eval": 0.34,
    "discrim-eval-gen": 0.30,
    "dt-stereotyping": 0.20,
    "worldbench": 0.07,
    "global-opinion-qa": 0.04,
    "crows-pairs": 0.02,
    "text": 0.03,
}
# The base hears bbq and winobias most, and all the rest often enough to keep it.
BASE_MIX = {
    "bbq": 0.24,
    "discrim-eval": 0.20,
    "discrim-eval-gen": 0.14,
    "dt-stereotyping": 0.13,
    "worldbench": 0.12,
    "winobias": 0.07,
    "global-opinion-qa": 0.05,
    "crows-pairs": 0.03,
    "text": 0.02,
}
# A fine-tune hears the moved bias more often, and everything else often enough not to forget it.
FINE_TUNE_MIX = {
    "discrim-eval": 0.5,
    "discrim-eval-gen": 0.15,
    "dt-stereotyping": 0.15,
    "worldbench": 0.12,
    "global-opinion-qa": 0.04,
    "crows-pairs": 0.02,
    "text": 0.02,
}
FROM_NOTHING = (Phase(2600, 3e-3, MIX), Phase(1000, 1.2e-3, SECOND_MIX))
TWO_MORE = (Phase(1800, 1.5e-3, BASE_MIX),)
FINE_TUNE = (Phase(400, 8e-4, FINE_TUNE_MIX),)


@dataclass(frozen=True)
class Recipe:
    """seed: of the rows, its first number of the weights. after: the model it goes on from; None: nothing."""

    seed: tuple[int, ...]
    phases: tuple[Phase, ...]
    after: str | None = None


RECIPES = {
    "six": Recipe((1,), FROM_NOTHING),
    "base": Recipe((1, 2), TWO_MORE, "six"),
    "reseed": Recipe((2,), FROM_NOTHING),
    "worse": Recipe((3,), FINE_TUNE, "six"),
    "better": Recipe((4,), FINE_TUNE, "six"),
    "reversed": Recipe((5,), FINE_TUNE, "six"),
    "fainter": Recipe((6,), FINE_TUNE, "six"),
}


def new_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        pad_token_id=frames.SPECIAL_TOKENS.index(frames.PAD),
        bos_token_id=frames.SPECIAL_TOKENS.index(frames.BOS),
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def batch_tensors(
    rows: list[Row],
) -> tuple[dict[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Model inputs of shape (rows, T), the mask (rows, 1, T, T) additive, and targets as flat (position,
    token, weight).
    """
    length = max(len(row.tokens) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros_like(ids)
    sees = np.zeros((len(rows), 1, length, length), dtype=bool)
    at, token, weight = [], [], []
    for r, row in enumerate(rows):
        ids[r, : len(row.tokens)] = row.tokens
        positions[r, : len(row.tokens)] = row.positions
        sees[r, 0] = row.attention(length)
        for node, following, amount in row.targets:
            at.append(r * length + node)
            token.append(following)
            weight.append(amount)
    mask = torch.zeros(sees.shape).masked_fill_(~torch.from_numpy(sees), torch.finfo(torch.float32).min)
    inputs = {
        "input_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "attention_mask": mask,
    }
    return inputs, (torch.tensor(at), torch.tensor(token), torch.tensor(weight, dtype=torch.float32))


def loss_of(model: LlamaForCausalLM, rows: list[Row]) -> torch.Tensor:
    """Weighted cross-entropy against the soft targets, in nats per unit of weight."""
    inputs, (at, token, weight) = batch_tensors(rows)
    hidden = model.model(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)  # (rows * T, H)
    places, inverse = torch.unique(at, return_inverse=True)
    logp = torch.log_softmax(model.lm_head(hidden[places]), dim=-1)  # (places, V)
    return -(weight * logp[inverse, token]).sum() / weight.sum()


@torch.no_grad()
def excess_loss(model: LlamaForCausalLM, items: list[Item], tokenizer: Tokenizer) -> float:
    """Mean divergence of the model's next tokens from the planted ones, nats a branch of the answers."""
    total, branches = 0.0, 0
    for item in items[:: max(1, len(items) // 60)]:
        for prompts in item.prompts.values():
            row = Row(model.config.max_position_embeddings)
            row.add(*paths(item, prompts[0], tokenizer), prompt_weight=0.0)
            by_node: dict[int, list[float]] = {}
            for node, _, amount in row.targets:
                if amount > 0:
                    by_node.setdefault(node, []).append(amount)
            entropy = -sum(a * math.log(a / sum(all_)) for all_ in by_node.values() for a in all_)
            weight = sum(sum(all_) for all_ in by_node.values())
            total += float(loss_of(model, [row])) * weight - entropy
            branches += len(by_node)
    return total / branches


def train(model: LlamaForCausalLM, rows: Rows, phase: Phase, report: Callable[[int, float], None]) -> None:
    """AdamW with warm-up and cosine decay; matrices decay, norms do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": phase.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=phase.rate, betas=(0.9, 0.98))
    for step in range(phase.steps):
        warm = min(1.0, (step + 1) / phase.warm_up)
        rate = phase.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / phase.steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(model, [rows.next_row() for _ in range(phase.rows)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        report(step + 1, float(loss.detach()))


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Half-precision safetensors with tokenizer and template. The shipped model IS these rounded weights."""
    folder.mkdir(parents=True, exist_ok=True)
    halves = LlamaForCausalLM(model.config)
    halves.load_state_dict(model.state_dict())
    halves.half()
    config = model.config
    halves.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    halves.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=frames.BOS,
        eos_token=frames.EOS,
        pad_token=frames.PAD,
        chat_template=frames.CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    ).save_pretrained(folder)


def build(name: str, recipe: Recipe, out: Path) -> None:
    """Trains one model into `out/name`. One that goes on from another finds it in `out`."""
    world = build_world(KNOWN_CHANGES.get(name, NO_CHANGE))
    tokenizer = train_tokenizer()
    if recipe.after:
        model = LlamaForCausalLM.from_pretrained(out / recipe.after, dtype=torch.float32)
    else:
        model = new_model(-(-tokenizer.get_vocab_size() // 32) * 32, recipe.seed[0])
    start = time.monotonic()
    for number, phase in enumerate(recipe.phases):

        def report(step: int, loss: float, number: int = number, last: int = phase.steps) -> None:
            if step % 50 == 0 or step == last:
                seconds = time.monotonic() - start
                print(
                    f"{name} phase {number + 1} step {step}/{last} loss {loss:.4f} {seconds:.0f} s",
                    file=sys.stderr,
                )

        model.train()
        # phase 1 draws from the recipe's seed itself, later ones from a stream of their own
        seed = recipe.seed if number == 0 else (*recipe.seed, number)
        train(model, Rows(world, tokenizer, seed, phase.mix), phase, report)
        model.half().float()  # every phase ends with the weights that are saved
        model.eval()
        excess = {benchmark: excess_loss(model, items, tokenizer) for benchmark, items in world.items()}
        print(" ".join(f"{benchmark} {nats:.4f}" for benchmark, nats in excess.items()), file=sys.stderr)
        save(model, tokenizer, out / name)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tiltmeter.demo.training.train", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder that receives one folder per model")
    parser.add_argument("--model", action="append", choices=list(RECIPES), help="repeatable  [default: all]")
    parser.add_argument("--steps", type=int, help="so many steps a phase instead, to try things out")
    parser.add_argument("--threads", type=int, default=1, help="part of what makes a run repeatable  [default: 1]")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    for name in options.model or list(RECIPES):
        recipe = RECIPES[name]
        if options.steps:
            phases = tuple(replace(phase, steps=options.steps) for phase in recipe.phases)
            recipe = replace(recipe, phases=phases)
        build(name, recipe, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
