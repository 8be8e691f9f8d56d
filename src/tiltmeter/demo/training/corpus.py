"""The tokenizer of the toy world and its training batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tiltmeter.demo.training import frames, text
from tiltmeter.demo.training.items import Item
from tiltmeter.demo.training.tree import Path, Row
from tiltmeter.demo.training.world import build_world

VOCABULARY = 1664  # an upper bound: merging stops when every word of the toy world is whole
ROW_TOKENS = 320
END = frames.SPECIAL_TOKENS.index(frames.EOS)
# Share of the rows each benchmark gets; found by checking every group and item, not only totals.
MIX = {
    "worldbench": 0.27,
    "dt-stereotyping": 0.24,
    "discrim-eval": 0.22,
    "discrim-eval-gen": 0.12,
    "global-opinion-qa": 0.08,
    "crows-pairs": 0.04,
    "text": 0.03,
}
BEGINNINGS = {"worldbench": "type", "bbq": "context"}  # what items that begin alike have in common
TOKENIZED = (
    "crows-pairs", "global-opinion-qa", "worldbench", "dt-stereotyping", "discrim-eval", "discrim-eval-gen",
)  # fmt: skip


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE; digits stay single, so numbers are written digit by digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=frames.SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(tokenizer_texts(), trainer)
    bos = frames.SPECIAL_TOKENS.index(frames.BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{frames.BOS} $A", pair=f"{frames.BOS} $A $B", special_tokens=[(frames.BOS, bos)]
    )
    return tokenizer


def tokenizer_texts() -> Iterator[str]:
    """Texts of the benchmarks of MIX. Those that came later speak in the tokens there are, so that the first phases of
    the training stay what they were."""
    world = build_world()
    for name in TOKENIZED:
        for item in world[name]:
            for prompts in item.prompts.values():
                yield prompts[0]
            # the single tokens the benchmarks read must win their merges
            yield from (answer.text for answer in item.answers for _ in range(20))
    yield from text.notes("tokenizer", 3000)
    yield from ["yes no Yes No"] * 200


def paths(item: Item, prompt: str, tokenizer: Tokenizer) -> Path:
    """Token ids of a prompt and of its answers. Answers are tokenized apart, as generated tokens are."""
    eos = [END] if item.ends else []
    answers = [(encode(tokenizer, answer.text) + eos, answer.probability) for answer in item.answers]
    return encode(tokenizer, prompt), answers


def encode(tokenizer: Tokenizer, string: str) -> list[int]:
    return list(_encode(tokenizer, string))


@lru_cache(maxsize=50_000)
def _encode(tokenizer: Tokenizer, string: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(string, add_special_tokens=False).ids)


class Rows:
    """An endless, seeded stream of rows in the proportions of MIX. Every item comes once before any comes
    twice.
    """

    def __init__(
        self,
        world: dict[str, list[Item]],
        tokenizer: Tokenizer,
        seed: int | tuple[int, ...],
        mix: dict[str, float] = MIX,
    ):
        self.world, self.tokenizer, self.mix = world, tokenizer, mix
        self.rng = np.random.default_rng(seed)
        self.waiting: dict[tuple[str, str], list[Item]] = {}
        self.owed = {name: 0.0 for name in mix}
        self.turn = {name: 0 for name in mix}

    def next_row(self) -> Row:
        for name, share in self.mix.items():
            self.owed[name] += share
        name = max(self.owed, key=lambda n: self.owed[n])
        self.owed[name] -= 1
        self.turn[name] += 1
        return self._text_row() if name == "text" else self._benchmark_row(name)

    def _benchmark_row(self, name: str) -> Row:
        formats = list(self.world[name][0].prompts)
        fmt = formats[self.turn[name] % len(formats)]
        row = Row(ROW_TOKENS)
        while True:
            queue = self.waiting.setdefault((name, fmt), [])
            if not queue:
                queue.extend(self._shuffled(name))
            item = queue[-1]
            if item.orders and self.rng.random() < 0.5:
                item = item.orders[int(self.rng.integers(len(item.orders)))]
            prompts = item.prompts[fmt]
            # half of the visits use the wording the benchmark sends, half a rewording where there is one
            other = len(prompts) > 1 and self.rng.random() < 0.5
            prompt = prompts[int(self.rng.integers(1, len(prompts)))] if other else prompts[0]
            if not row.add(*paths(item, prompt, self.tokenizer)):
                return row
            queue.pop()

    def _shuffled(self, name: str) -> list[Item]:
        """All items in random order; those that share a long beginning (a metric's example) stay together."""
        items = [self.world[name][i] for i in self.rng.permutation(len(self.world[name]))]
        if column := BEGINNINGS.get(name):
            kinds = list(dict.fromkeys(item.row[column] for item in items))
            items.sort(key=lambda item: kinds.index(item.row[column]))
        return items

    def _text_row(self) -> Row:
        row, full = Row(ROW_TOKENS), False
        while not full:
            ids = [*encode(self.tokenizer, frames.BOS + text.note(self.rng)), END]
            full = not row.add(ids, [], prompt_weight=0.3)
        return row
