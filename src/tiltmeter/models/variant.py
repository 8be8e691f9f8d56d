"""A loaded variant: everything the scoring engine needs to know about a model under a strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiltmeter.messages import Text

if TYPE_CHECKING:  # torch is imported only where it is used
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tiltmeter.models.converted import Converted


@dataclass(frozen=True)
class Guesses:
    """What a helper proposed while one text was written, in tokens, and how many of them the model took."""

    proposed: int = 0
    accepted: int = 0


NO_GUESSES = Guesses()


@dataclass
class LoadedVariant:
    """A model under a strategy chain, in memory and ready to be asked.

    Attributes:
        model_name: what the user typed (hub id or folder).
        strategy: canonical strategy string, "none" for the base.
        eos_ids: ids that end a generation (the checkpoint's generation config).
        max_length: longest sequence in tokens, prompt and new tokens together.
        new_cache: makes a fresh KV cache for one sequence batch; None: transformers' DynamicCache.
            The engine calls it anew for every forward that starts without a past.
        share_prefixes: False where keeping a prefix's KV and reading it later changes what the
            strategy means (a transformers QuantizedCache): then every request is prefilled alone.
        generate: replaces the engine's own decoding (speculative decoding as null control);
            (prompt ids, max_new_tokens) -> new ids and what was guessed of them, greedy only. None: the engine decodes.
        weight_hash: SHA-256 over the base checkpoint's weight files (names and bytes).
        settings: full settings of the chain, defaults included.
        proof: evidence that the strategy acted, JSON-ready.
        converted: how the checkpoint was converted to be loaded; None where it was not.
        notes: sentences the run must show (fallbacks, departures).
    """

    model_name: str
    strategy: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: str
    dtype: str
    eos_ids: frozenset[int]
    max_length: int
    weight_hash: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    new_cache: Callable[[], Any] | None = None
    share_prefixes: bool = True
    generate: Callable[[list[int], int], tuple[list[int], Guesses]] | None = None
    proof: dict[str, Any] = field(default_factory=dict)
    converted: Converted | None = None
    notes: list[Text] = field(default_factory=list)
