"""Sequence and option log-probabilities by prefix trees: shared tokens once, only needed rows through the head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tiltmeter.scoring.logprobs import normalizers
from tiltmeter.scoring.trees import prefix_tree
from tiltmeter.scoring.trees.prefix_tree import Tree
from tiltmeter.scoring.trees.tree_model import TreeModel, shared_blocks


def sequence_logprobs(model: TreeModel, sequences: Sequence[Sequence[int]], budget: int) -> list[float]:
    """Sum of log p(token | before) over all tokens but the first, per sequence, in nats.

    Log-sum-exp in float32, sums along a path in float64. No prefix is kept for the next batch: every token's own
    probability is needed, and whole texts rarely share more than a few words.

    Args:
        sequences: at least 2 ids each, sorted.
        budget: nodes per piece.
    """
    if not model.caches_prefixes:
        return [
            total
            for run in prefix_tree.runs(sequences, budget)
            for total in _sequence_logprobs(model, sequences[run.start : run.stop], None)
        ]
    return _sequence_logprobs(model, sequences, budget)


def _sequence_logprobs(model: TreeModel, sequences: Sequence[Sequence[int]], budget: int | None) -> list[float]:
    tree = prefix_tree.build(sequences)
    children = np.nonzero(tree.parents >= 0)[0]
    children = children[np.argsort(tree.parents[children], kind="stable")]  # a piece computes its nodes' children
    parents = tree.parents[children]
    logprobs = np.zeros(tree.size)
    for done in model.over(tree, np.unique(parents), budget=budget, passing=True):
        of_piece = slice(*np.searchsorted(parents, [done.piece.first, done.piece.stop]))
        rows = np.searchsorted(done.nodes, parents[of_piece])
        logprobs[children[of_piece]] = _logprobs(done.logits, rows, tree.tokens[children[of_piece]])
    return [float(logprobs[path[1:]].sum()) for path in tree.paths]


def option_logprobs(
    model: TreeModel, prompts: Sequence[Sequence[int]], options: Sequence[Sequence[int]], budget: int
) -> list[list[float]]:
    """Log-probability (nats) of each of a prompt's option ids at the token after it.

    What all prompts share is computed once and kept for the next batch too.

    Args:
        prompts: ids, sorted.
        options: per prompt, the ids asked for.
        budget: nodes per piece.
    """
    if not model.caches_prefixes:
        return [
            found
            for run in prefix_tree.runs(prompts, budget)
            for found in _option_logprobs(
                model, prefix_tree.build(prompts[run.start : run.stop]), options[run.start : run.stop]
            )
        ]
    tree = prefix_tree.build(prompts)
    start = shared_blocks(prompts) if tree.size > budget else 0
    if start:
        return _option_logprobs(model, prefix_tree.build(prompts, start), options, prompts[0][:start], budget)
    return _option_logprobs(model, tree, options, budget=budget)


def _option_logprobs(
    model: TreeModel,
    tree: Tree,
    options: Sequence[Sequence[int]],
    prefix: Sequence[int] = (),
    budget: int | None = None,
) -> list[list[float]]:
    found: list[list[float]] = []
    for done in model.over(tree, np.unique(tree.last_nodes), model.prefix_of(prefix), budget):
        first, stop = np.searchsorted(tree.last_nodes, [done.piece.first, done.piece.stop])
        asked = options[first:stop]
        if not asked:  # a piece in the middle of a long prompt
            continue
        rows = np.searchsorted(done.nodes, tree.last_nodes[first:stop])  # equal prompts share a row
        flat_rows = np.repeat(rows, [len(ids) for ids in asked])
        flat = _logprobs(done.logits, flat_rows, np.array([i for ids in asked for i in ids], dtype=np.int64))
        found += [part.tolist() for part in np.split(flat, np.cumsum([len(ids) for ids in asked])[:-1])]
    return found


def _logprobs(logits: torch.Tensor, rows: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """log softmax(logits)[rows, ids], float64."""
    where = torch.from_numpy(rows).to(logits.device)
    which = torch.from_numpy(ids).to(logits.device)
    return (logits[where, which].double() - normalizers(logits).double()[where]).cpu().numpy()
