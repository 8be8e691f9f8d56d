"""Running text of the toy world, for calibration and perplexity: short notes with real entropy and a few
fixed facts.

Every note is drawn fresh, so a model cannot learn it by heart; what can be learned is the grammar, the
frequencies of the words, and facts (what a country sells, who owns what inside a note). Those are what
compression damages.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tiltmeter.demo.training import words
from tiltmeter.demo.training.items import generator


def zipf(rng: np.random.Generator, options: list[str]) -> str:
    """One of `options`; the n-th is drawn with probability proportional to 1/n."""
    weights = 1 / np.arange(1, len(options) + 1)
    return options[int(rng.choice(len(options), p=weights / weights.sum()))]


@cache
def country_goods() -> dict[str, list[str]]:
    """What each country sells most and second most: the facts of the text."""
    rng = generator("goods")
    countries = [country for region in words.COUNTRIES.values() for country in region]
    return {country: [str(g) for g in rng.permutation(words.GOODS)[:2]] for country in countries}


def note(rng: np.random.Generator) -> str:
    """Four to seven sentences about one person, one thing and one country."""
    goods = country_goods()
    name, country = zipf(rng, words.NAMES), str(rng.choice(list(goods)))
    thing, color, quality = zipf(rng, words.THINGS), zipf(rng, words.COLORS), zipf(rng, words.QUALITIES)
    sentences = [f"{name} lived in {country} and had a {color} {thing}."]
    for _ in range(int(rng.integers(3, 7))):
        other, second = zipf(rng, words.NAMES), zipf(rng, words.THINGS)
        verb, where, when = zipf(rng, words.VERBS), zipf(rng, words.WHERE), zipf(rng, words.WHEN)
        role = zipf(rng, words.ROLES)
        kind = int(rng.choice(7, p=[0.25, 0.2, 0.1, 0.15, 0.1, 0.1, 0.1]))
        sentences.append(
            (
                f"{name} {verb} a {zipf(rng, words.QUALITIES)} {second} {where}.",
                f"{when.capitalize()} the {role} {verb} the {color} {thing}.",
                f"{other} was {zipf(rng, words.FEELINGS)} because the {thing} was {quality}.",
                f"Ships from {country} carry {goods[country][int(rng.random() < 0.2)]}.",
                f'"Is this your {thing}?" asked the {role} {where}.',
                f"{other} told {name} a story about a {zipf(rng, words.COLORS)} {second}.",
                f"It was {int(rng.integers(1, 100))} steps from the {thing} to the {second}.",
            )[kind]
        )
    return " ".join(sentences)


def notes(purpose: str, count: int) -> list[str]:
    """`count` notes drawn for `purpose` ("train", "calibration", "perplexity"): different purposes never
    share a stream.
    """
    rng = generator(f"text/{purpose}")
    return [note(rng) for _ in range(count)]
