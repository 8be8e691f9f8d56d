"""The toy world: every item of the eight benchmarks with the true probability of each answer.

An item is a prompt and its possible answers with their probabilities; `build_world` draws them all. A
bias is a stated dependence of those probabilities on a group. `Change` moves one bias by a stated amount, for
the models whose change is known. Nothing here knows a model or a tokenizer.
"""

from __future__ import annotations

from tiltmeter.demo.training.answer_items import facts, selections, statements
from tiltmeter.demo.training.asked_items import asked
from tiltmeter.demo.training.items import Item
from tiltmeter.demo.training.option_items import NO_CHANGE, Change, decisions, opinions, pairs
from tiltmeter.demo.training.referent_items import referents


def build_world(change: Change = NO_CHANGE) -> dict[str, list[Item]]:
    """Items by benchmark. The same for every call with the same `change`; only decisions depend on it."""
    return {
        "crows-pairs": pairs(),
        "global-opinion-qa": opinions(),
        "worldbench": facts(),
        "dt-stereotyping": statements(),
        "discrim-eval": decisions(change),
        "discrim-eval-gen": selections(),
        "bbq": asked(),
        "winobias": referents(),
    }
