"""Multiple choice by letters: options asked in the order given or in every cyclic order, read at the first token.

A model prefers letters and places. Asked in all cyclic orders every option stands once in every place, so the mean over
the orders is free of a preference for a place, and the mean over items of what each PLACE received is that preference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiltmeter.benchmarks.base import NAN, Item, Outcome, failure, mean
from tiltmeter.messages import Text
from tiltmeter.scoring.requests import NO_TOKEN, NOT_FINITE, OptionAnswer

ORDERS = "orders"  # in Item.data: how many cyclic orders are asked (absent: the one of the data)


@dataclass(frozen=True, slots=True)
class Choice:
    """One item, over the orders asked.

    p: probability of each option, renormalized over the options, mean over the orders; in the data's own order.
    places: the same by place (a, b, c …). mass: probability on the letters, before that. reason: why there is none.
    """

    p: tuple[float, ...] = ()
    places: tuple[float, ...] = ()
    mass: float = NAN
    mass_all_forms: float = NAN
    reason: Text | None = None

    @property
    def chosen(self) -> int:
        """The most probable option; of two equally probable ones the one listed first in the data."""
        return max(range(len(self.p)), key=self.p.__getitem__)

    @property
    def uncertainty(self) -> float:
        """1 less the lead of the most probable option over the next: 1 where the two are level."""
        first, second = sorted(self.p, reverse=True)[:2]
        return 1 - (first - second)

    def values(self) -> dict[str, object]:
        return {"mass": self.mass, "mass_all_forms": self.mass_all_forms, "places": self.places}


def in_all_orders(items: Sequence[Item], options: int) -> list[Item]:
    """The items, each to be asked in every cyclic order of its options."""
    return [replace(item, data={**item.data, ORDERS: options}) for item in items]


def orders_of(data: Mapping[str, Any], options: int) -> list[tuple[int, ...]]:
    """Per order asked: which option stands in each place. The first is the data's own."""
    return [tuple((place + shift) % options for place in range(options)) for shift in range(data.get(ORDERS, 1))]


def letter_forms(letters: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Surface forms after an opening bracket: the letter, its other case."""
    return tuple((letter, letter.swapcase()) for letter in letters)


def read(answers: Sequence[OptionAnswer], orders: Sequence[Sequence[int]]) -> Choice:
    """The answers to one item's orders. One order without an answer leaves the item without one."""
    by_option, by_place, masses, all_forms = [], [], [], []
    for answer, order in zip(answers, orders):
        reason = failure(answer, answer.logprobs)
        if answer.logprobs is None:
            return Choice(reason=reason)
        first = [forms[0] for forms in answer.logprobs]
        logs = [log for log in first if log is not None]
        if len(logs) < len(first):
            return Choice(reason=NO_TOKEN)
        if not all(map(math.isfinite, logs)):
            return Choice(reason=NOT_FINITE)
        top = max(logs)
        weights = [math.exp(log - top) for log in logs]
        places = [weight / sum(weights) for weight in weights]
        by_place.append(places)
        by_option.append([places[order.index(option)] for option in range(len(order))])
        masses.append(sum(map(math.exp, logs)))
        all_forms.append(sum(math.exp(log) for forms in answer.logprobs for log in forms if log is not None))
    return Choice(_means(by_option), _means(by_place), mean(masses), mean(all_forms))


def place_extra(outcomes: Sequence[Outcome], letters: Sequence[str]) -> dict[str, float]:
    """Mean probability of each place and `position_bias`, largest less smallest, in 0..1.

    Of one order alone that is a preference only where every option stands equally often in every place; in all cyclic
    orders (`--orders all`) it does by construction.
    """
    places = [s.values["places"] for o in outcomes for s in o.samples if s.values.get("places")]
    if not places:
        return {}
    means = _means(places)
    return {f"p_place_{letter}": p for letter, p in zip(letters, means)} | {"position_bias": max(means) - min(means)}


def _means(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(sum(column) / len(rows) for column in zip(*rows))
