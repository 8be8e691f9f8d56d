"""Sequence and option log-probabilities by prefix trees: shared tokens once, only needed rows through the head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import torch

from tiltmeter.scoring import prefix_tree
from tiltmeter.scoring.tree_model import TreeModel, path_beginning, shared_blocks

CHUNK_VALUES = 2**19  # logits normalized at a time: 2 MiB, which a core's cache holds


def sequence_logprobs(model: TreeModel, sequences: Sequence[Sequence[int]], budget: int) -> list[float]:
    """Sum of log p(token | before) over all tokens but the first, per sequence, in nats.

    Log-sum-exp in float32, sums along a path in float64. No prefix is kept between packs: every token's own
    probability is needed, and whole texts rarely share more than a few words.

    Args:
        sequences: at least 2 ids each, sorted.
        budget: new tokens per pack.
    """
    totals: list[float] = []
    for members in prefix_tree.pack(sequences, budget):
        tree = prefix_tree.build(sequences[members.start : members.stop])
        parents = np.full(tree.size, -1)
        for path in tree.paths:
            parents[path[1:]] = path[:-1]
        children = np.nonzero(parents >= 0)[0]
        rows, row_of_child = np.unique(parents[children], return_inverse=True)
        logits, _ = model.run(tree, rows)
        found = _logprobs(logits, row_of_child, tree.tokens[children])
        node_logprobs = np.zeros(tree.size)
        node_logprobs[children] = found
        totals += [float(node_logprobs[path[1:]].sum()) for path in tree.paths]
    return totals


def option_logprobs(
    model: TreeModel, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], budget: int
) -> list[list[float]]:
    """Log-probability (nats) of each of a prompt's option ids at the token after it.

    What all prompts share is computed once and kept; of what else a pack's first prompt shares with the last one of
    the pack before, keys and values are handed on.

    Args:
        prompts: ids, sorted.
        options: per prompt, the ids asked for.
        budget: new tokens per pack.
    """
    found: list[list[float]] = []
    carries = model.caches_prefixes
    start = shared_blocks(prompts, budget) if carries else 0
    kept = prefix = model.prefix_of(prompts[0][:start])  # keys and values that the next pack need not compute
    packs = list(prefix_tree.pack(prompts, budget, start, carry=carries))
    for members, after in zip_longest(packs, packs[1:]):
        before = prompts[members.start - 1] if carries and members.start else ()
        tree = prefix_tree.build(prompts[members.start : members.stop], start, before)
        rows, row_of = np.unique([path[-1] for path in tree.paths], return_inverse=True)  # equal prompts share a row
        shared = prefix_tree.common_prefix(prompts[after.start - 1], prompts[after.start]) if carries and after else 0
        logits, new = model.run(tree, rows, kept, keep=shared > start)
        kept = path_beginning(tree, kept, new, shared) if shared > start else prefix
        asked = [options[index] for index in members]
        flat_rows = np.repeat(row_of, [len(ids) for ids in asked])
        flat = _logprobs(logits, flat_rows, np.array([i for ids in asked for i in ids], dtype=np.int64))
        found += [part.tolist() for part in np.split(flat, np.cumsum([len(ids) for ids in asked])[:-1])]
    return found


def _logprobs(logits: torch.Tensor, rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """log softmax(logits)[rows, ids], float64."""
    chunk = max(1, CHUNK_VALUES // logits.shape[-1])  # whole-pack temporaries cost more in memory than in arithmetic
    normalizers = torch.cat([part.logsumexp(-1) for part in logits.split(chunk)])
    where = torch.from_numpy(rows).to(logits.device)
    which = torch.from_numpy(ids).to(logits.device)
    return (logits[where, which] - normalizers[where]).double().cpu().numpy()
