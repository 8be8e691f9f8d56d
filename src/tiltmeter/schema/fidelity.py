"""How far a variant's distributions lie from its base's. Displacement, not direction: no verdict rests on it."""

from __future__ import annotations

from pydantic import Field

from tiltmeter.schema.base import Number, Sentence, Stored
from tiltmeter.schema.place import Place


class Divergence(Stored):
    """KL(base || variant) over some positions, in nats per token."""

    n: int = 0
    """Positions: tokens of the text, or places where the benchmark reads."""
    mean: Number = float("nan")
    """Mean."""
    median: Number = float("nan")
    """Median."""
    p99: Number = float("nan")
    """99th percentile; the largest where there are fewer than 100 positions."""
    largest: Number = float("nan")
    """Largest."""
    same_top: Number = float("nan")
    """Share of positions where both find the same token most probable."""
    perplexity_ratio: Number = float("nan")
    """Perplexity of the variant over the base's, on the same tokens; null where no token followed."""
    items: tuple[str, ...] = ()
    """Items of the benchmark that were measured, a seeded sample."""
    of_item: tuple[Number, ...] = ()
    """Each one's mean divergence over its positions."""


class Fidelity(Stored):
    """A variant beside its base, token by token."""

    key: str | None = None
    """What was measured: digest of both models, text and prompts; another key is measured anew."""
    text: Divergence | None = None
    """On the given text."""
    text_name: str = ""
    """File name of the text."""
    prompts: dict[str, Divergence] = Field(default_factory=dict)
    """Cell ("benchmark format decoding") -> on its own prompts, where its answers are read."""
    reason: Sentence | None = None
    """Why nothing was measured."""
    seconds: float = 0.0
    """What it cost beside the answers, wall time."""

    def on(self, place: Place) -> Divergence | None:
        """On the prompts of a cell: of its benchmark and format, which both decodings share."""
        start = f"{place.benchmark} {place.format} "
        return next((found for name, found in self.prompts.items() if name.startswith(start)), None)
