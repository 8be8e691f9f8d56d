"""Runs prefix trees through a variant's model: rows of nodes, positions = depths, an additive ancestor mask.

Shapes: Q nodes of a piece, P tokens of its tree's cached prefix, V vocabulary, K key-value heads, D head size.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.kernels.accelerated import accelerated
from tiltmeter.scoring.kernels.blockwise import Blockwise
from tiltmeter.scoring.kernels.visibility import Visibility
from tiltmeter.scoring.trees import prefix_tree
from tiltmeter.scoring.trees.cache import KV, TreeCache
from tiltmeter.scoring.trees.prefix_tree import Piece, Tree

if TYPE_CHECKING:
    from tiltmeter.scoring.trees.decode_store import DecodeStore

PREFIX_BLOCK = 64  # tokens; prefixes are computed and remembered in blocks, so their bits depend on their tokens alone
BLOCK_ROWS = {"cpu": 64}  # rows per attention block; elsewhere 512: kernels there want more work per launch


@dataclass(frozen=True)
class Computed:
    """A piece that went through the model.

    Attributes:
        nodes: those of its nodes whose logits were needed, numbered as in the tree, shape (R,).
        logits: theirs, float32 (R, V).
        kept: keys and values of its known nodes and its own, per layer; [] where nobody needs them.
    """

    piece: Piece
    nodes: np.ndarray
    logits: Tensor
    kept: KV


class TreeModel:
    """A variant's model, asked for trees.

    Args:
        sparse: use `Blockwise` instead of the model's own attention over the full mask.
    """

    def __init__(self, variant: LoadedVariant, *, sparse: bool) -> None:
        self.variant = variant
        self.sparse = sparse
        self.tokens_computed = 0
        self.layer_kinds = layer_kinds(variant.model.config)
        self._fast = accelerated(variant.model)
        parameters = inspect.signature(variant.model.forward).parameters
        self._keeps_logits = "logits_to_keep" in parameters
        self._prefix_tokens: list[int] = []
        self._prefix: KV = []

    @property
    def caches_prefixes(self) -> bool:
        """Whether a prefix's keys and values may be kept: not where the strategy brings its own cache."""
        return self.variant.share_prefixes and self.variant.new_cache is None

    def over(
        self,
        tree: Tree,
        needed: np.ndarray,
        prefix: KV | None = None,
        budget: int | None = None,
        keep: bool = False,
        passing: bool = False,
    ) -> Iterator[Computed]:
        """Run a whole tree, piece by piece; what a piece has to know of earlier ones is handed on to it.

        Args:
            needed: nodes whose logits are needed, ascending.
            prefix: keys and values of the `tree.start` tokens before the tree.
            budget: nodes per piece; None: all at once, with nothing handed on.
            keep: keys and values are needed.
            passing: logits are read before the next piece is asked for, which may then stand in their place.
        """
        pieces = tree.pieces(budget)
        known: KV = []
        buffer: list[Tensor] | None = [] if passing else None
        for piece, after in zip_longest(pieces, pieces[1:]):
            nodes = needed[slice(*np.searchsorted(needed, [piece.first, piece.stop]))]
            hands_on = after is not None and len(after.known) > 0
            logits, own = self.run(piece, nodes, prefix, known, keep or hands_on, buffer)
            kept = own
            if own and known:
                kept = [
                    tuple(torch.cat(parts, 2) for parts in zip(*layers, strict=True))  # type: ignore[misc]
                    for layers in zip(known, own, strict=True)
                ]
            yield Computed(piece, nodes, logits, kept)
            known = []
            if hands_on:
                columns = torch.from_numpy(piece.columns(after.known)).to(self.variant.device)
                known = [(key.index_select(2, columns), value.index_select(2, columns)) for key, value in kept]

    def run(
        self,
        piece: Piece,
        nodes: np.ndarray,
        prefix: KV | None = None,
        known: KV | None = None,
        keep: bool = False,
        buffer: list[Tensor] | None = None,
    ) -> tuple[Tensor, KV]:
        """Logits of some of a piece's nodes, and the keys and values of all of them when `keep`.

        Args:
            nodes: those whose logits are needed, numbered as in the tree, shape (R,).
            prefix, known: keys and values of the tokens before the tree, and of `piece.known`.
            buffer: where large logits may stand, see `OutputLayer`; None: in a tensor of their own.
        Returns: float32 (R, V); per layer (1, K, piece.size, D) twice, or [] without `keep`.
        """
        variant = self.variant
        self.tokens_computed += piece.size
        row = slice(piece.first, piece.stop)
        ids = torch.from_numpy(piece.tree.tokens[None, row]).to(variant.device)
        positions = torch.from_numpy(piece.tree.depths[None, row]).to(variant.device)
        visible = {kind: piece.visible(window) for kind, window in self.layer_kinds.items()}
        masks = {kind: self._mask(seen) for kind, seen in visible.items()}
        wanted = torch.from_numpy(nodes - piece.first).to(variant.device)
        arguments: dict[str, object] = {"logits_to_keep": wanted} if self._keeps_logits else {}
        before = [part for part in (prefix, known) if part]
        cache: Any = None
        if variant.new_cache is not None:
            cache = variant.new_cache()
        elif before or keep:
            cache = TreeCache(before, keep)
        sparse = None
        if self.sparse:
            given = [(masks[kind], seen) for kind, seen in visible.items()]
            sparse = Blockwise(given, BLOCK_ROWS.get(torch.device(variant.device).type, 512))
        with self._fast.piece(piece.size, wanted, sparse, buffer):
            logits = variant.model(
                ids,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
                attention_mask=next(iter(masks.values())) if len(masks) == 1 else masks,
                **arguments,
            ).logits[0]  # (R, V)
        if sparse is not None and not sparse.calls:
            raise NotImplementedError("the model's attention cannot be chosen by name")
        logits = logits if self._keeps_logits else logits[wanted]
        return logits.float(), cache.new if keep else []

    def step(self, ids: Tensor, positions: Tensor, store: DecodeStore) -> Tensor:
        """One more token for the rows that `store` has begun a step with: float32 logits (n, V) after `ids` (n,) at
        `positions` (n,). No value is read on the host, unless the model or the store does."""
        variant = self.variant
        unread = torch.zeros(1, dtype=variant.model.dtype, device=ids.device).expand(1, 1, len(ids), len(ids))
        calls = store.calls
        with self._fast.step(len(ids), store.attend):
            logits = variant.model(
                ids[None],
                position_ids=positions[None],
                past_key_values=store,
                use_cache=True,
                attention_mask=unread if len(self.layer_kinds) == 1 else dict.fromkeys(self.layer_kinds, unread),
            ).logits[0]
        if store.calls == calls:
            raise NotImplementedError("the model's attention cannot be chosen by name")
        return logits.float()

    def prefix_of(self, tokens: Sequence[int]) -> KV | None:
        """Keys and values of `tokens`, a multiple of `PREFIX_BLOCK` long; the longest known beginning is not
        computed again. Every block is one forward on top of the blocks before it, so the same tokens give the same
        bits whatever was asked earlier."""
        if not tokens:
            return None
        tokens = list(tokens)
        known = prefix_tree.common_prefix(self._prefix_tokens, tokens) // PREFIX_BLOCK * PREFIX_BLOCK
        parts = [(key[:, :, :known], value[:, :, :known]) for key, value in self._prefix]
        for start in range(known, len(tokens), PREFIX_BLOCK):
            [block] = prefix_tree.build([tokens[: start + PREFIX_BLOCK]], start).pieces()
            _, new = self.run(block, np.array([block.stop - 1]), parts if start else None, keep=True)
            parts = (
                [
                    (torch.cat([key, new_key], 2), torch.cat([value, new_value], 2))
                    for (key, value), (new_key, new_value) in zip(parts, new, strict=True)
                ]
                if start
                else new
            )
        if len(tokens) > known:
            self._prefix_tokens, self._prefix = tokens, parts
        return parts

    def _mask(self, visible: Visibility) -> Tensor:
        """Additive mask (1, 1, Q, P + known + Q). Float, because a bool one is wrong under eager attention; where
        `Blockwise` attends, one that only stands for it, and whose values are all the same zero."""
        shape = (1, 1, len(visible.rows), len(visible.keys))
        dtype, device = self.variant.model.dtype, self.variant.device
        if self.sparse:
            return torch.zeros(1, dtype=dtype, device=device).expand(shape)
        mask = np.where(visible.dense(), np.float32(0), np.float32(torch.finfo(dtype).min))
        return torch.from_numpy(mask[None, None]).to(device, dtype)


def layer_kinds(config: Any) -> dict[str, int | None]:
    """The attention kinds among a model's layers and the window of each (None: everything before).

    Raises NotImplementedError for kinds that a tree mask cannot express (chunked, recurrent).
    """
    text = config.get_text_config(decoder=True)
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None) or (["sliding_attention"] if window else ["full_attention"])
    if getattr(text, "attention_chunk_size", None) or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise NotImplementedError(f"layers of kind {sorted(set(kinds))}")
    return {kind: window if kind == "sliding_attention" else None for kind in dict.fromkeys(kinds)}


def shared_blocks(sequences: Sequence[Sequence[int]]) -> int:
    """How many leading tokens of the sorted `sequences` to compute once and keep, for more pieces than one.

    A path that pieces share is handed on from one to the next, but the next batch computes it anew; a kept prefix of s
    tokens is computed once for all batches, in s / PREFIX_BLOCK forwards, each of which also reads the weights (worth
    a fraction of a block). It is cut to whole blocks and leaves each sequence at least one token of its own, whose
    logits are needed.
    """
    if len(sequences) < 2:
        return 0
    shared = min(prefix_tree.common_prefix(sequences[0], sequences[-1]), min(map(len, sequences)) - 1)
    return shared // PREFIX_BLOCK * PREFIX_BLOCK


def windows_of_layers(config: Any) -> list[int | None]:
    """The window of every layer, in order."""
    text = config.get_text_config(decoder=True)
    kinds = layer_kinds(config)
    types = getattr(text, "layer_types", None) or list(kinds) * text.num_hidden_layers
    return [kinds[kind] for kind in types]
