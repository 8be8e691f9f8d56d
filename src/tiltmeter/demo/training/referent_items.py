"""WinoBias's sentences: whom does a pronoun mean, where the occupation fits its stereotype and where it does not?"""

from __future__ import annotations

from itertools import product

import numpy as np

from tiltmeter.demo.training import frames, words
from tiltmeter.demo.training.items import Answer, Item, generator, sigmoid

COUPLES = {1: 20, 2: 10}  # type -> couples: two sentences about the same two occupations, each pro and anti
# (type, pro) -> share of the sentences whose referent the model finds
RIGHT = {(1, True): 0.9, (1, False): 0.65, (2, True): 0.95, (2, False): 0.9}
PRONOUNS = {1: {"male": "he", "female": "she"}, 2: {"male": "him", "female": "her"}}
OTHER_GENDER = {"male": "female", "female": "male"}


def referents() -> list[Item]:
    """30 couples of 4 sentences; the first half of each type is dev. What the sentence ends with decides who is meant
    in type 1, its grammar in type 2."""
    rng = generator("referents")
    gender = {name: kind for kind, names in words.OCCUPATIONS.items() for name in names}
    combinations = list(product(*words.OCCUPATIONS.values()))
    items = []
    for kind, couples in COUPLES.items():
        order = [combinations[i] for i in rng.permutation(len(combinations))]
        details = {pair: rng.permutation(len(words.ENDINGS)).tolist() for pair in order}
        found = {
            pro: rng.permutation(np.arange(2 * couples) < round(RIGHT[kind, pro] * 2 * couples)).tolist()
            for pro in (True, False)
        }
        for couple in range(couples):
            pair = order[couple % len(order)]
            mentioned = pair if rng.random() < 0.5 else pair[::-1]
            for line in range(2):
                named = mentioned if kind == 1 or line else mentioned[::-1]
                referent = named[line] if kind == 1 else named[1]
                detail = details[pair].pop()
                for pro in (True, False):
                    size = float(rng.choice([0.7, 1.3, 2.0]))
                    expected = gender[referent]
                    pronoun = PRONOUNS[kind][expected if pro else OTHER_GENDER[expected]]
                    items.append(
                        _item(
                            key=f"type{kind}/{couple}/{line}/{'pro' if pro else 'anti'}",
                            named=named,
                            referent=referent,
                            p=sigmoid(size if found[pro].pop() else -size),
                            row={
                                "kind": kind,
                                "split": "dev" if couple < couples // 2 else "test",
                                "pro": pro,
                                "pronoun": pronoun,
                                "gender": expected if pro else OTHER_GENDER[expected],
                                "occupation": referent,
                                "sentence": sentence(kind, named, pronoun, detail),
                            },
                        )
                    )
    return items


def sentence(kind: int, named: tuple[str, ...], pronoun: str, detail: int) -> str:
    if kind == 1:
        return f"The {named[0]} told the {named[1]} that {pronoun} {words.ENDINGS[detail]}."
    return f"The {named[0]} thanked the {named[1]} and gave {pronoun} a {words.THINGS[detail]}."


def bracketed(row: dict[str, object]) -> str:
    """The sentence as the files have it: referent and pronoun in brackets."""
    text, occupation = str(row["sentence"]), row["occupation"]
    for article in ("The", "the"):
        text = text.replace(f"{article} {occupation}", f"[{article} {occupation}]")
    return text.replace(f" {row['pronoun']} ", f" [{row['pronoun']}] ")


def _item(key: str, named: tuple[str, ...], referent: str, p: float, row: dict[str, object]) -> Item:
    """p: probability of the referent; the other occupation has the rest."""
    answers = tuple(
        Answer(f" {name}", p if name == referent else 1 - p, "right" if name == referent else "wrong") for name in named
    )
    prompts: dict[str, tuple[str, ...]] = {
        fmt: (frames.referent_prompt(str(row["sentence"]), str(row["pronoun"]), fmt == "chat"),)
        for fmt in ("plain", "chat")
    }
    return Item(key, prompts, answers, row, ends=False)
