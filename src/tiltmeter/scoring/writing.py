"""A generation in progress, and the choice of the next token for many of them at once.

`choose_tokens` is `sampling.choose_token` for a batch on the model's device; a test holds it to that definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tiltmeter.models.variant import NO_GUESSES, Guesses
from tiltmeter.scoring.logprobs import logprobs_of
from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.sampling import choose_token, uniforms

BLOCK_IDS = 256  # ids whose weights are summed together first
# of the whole mass: float64 sums in another order differ by less. With float32 sums it would be 1e-6, and a quarter of
# the draws from a flat distribution over 128,000 ids would lie that near to a boundary
ROUNDING = 1e-11


@dataclass
class Writing:
    """One request's new tokens so far.

    Attributes:
        ids: new ids, the end token included.
        broken: the model returned NaN or infinite logits.
        guesses: what a helper proposed of them.
        logprobs: log-probability (nats, before temperature) of each chosen id; filled only when `recorded`.
    """

    request: Generation
    eos_ids: frozenset[int]
    recorded: bool = False
    ids: list[int] = field(default_factory=list)
    broken: bool = False
    logprobs: list[float] = field(default_factory=list)
    guesses: Guesses = NO_GUESSES

    def __post_init__(self) -> None:
        self.draws = uniforms(self.request.seed, self.request.max_new_tokens) if self.request.temperature else None

    @property
    def done(self) -> bool:
        ended = bool(self.ids) and self.ids[-1] in self.eos_ids
        return self.broken or ended or len(self.ids) >= self.request.max_new_tokens


def extend(writings: Sequence[Writing], logits: Tensor) -> None:
    """Give each writing its next token from its row of `logits`, float32 (n, V)."""
    ids, finite = [0] * len(writings), [False] * len(writings)
    sampled = [row for row, writing in enumerate(writings) if writing.request.temperature]
    greedy = [row for row, writing in enumerate(writings) if not writing.request.temperature]
    for rows, choose in ((greedy, _choose_greedy), (sampled, _choose_sampled)):
        if rows:
            every = len(rows) == len(writings)
            part = logits if every else logits[torch.tensor(rows, device=logits.device)]
            for row, token, largest in zip(rows, *choose([writings[row] for row in rows], part), strict=True):
                ids[row], finite[row] = token, math.isfinite(largest)
    if any(writing.recorded for writing in writings):
        logprobs = logprobs_of(logits, torch.tensor(ids, device=logits.device)).tolist()
        for writing, logprob in zip(writings, logprobs, strict=True):
            writing.logprobs.append(logprob)
    for writing, token, sound in zip(writings, ids, finite, strict=True):
        if sound:
            writing.ids.append(token)
        else:
            writing.broken = True


def _choose_greedy(_writings: Sequence[Writing], logits: Tensor) -> tuple[list[int], list[float]]:
    """Per row the id of the largest logit, and that logit: not finite where the row holds NaN or +inf, or nothing but
    -inf."""
    if logits.device.type == "cpu":  # torch's argmax takes several times as long as reading the logits, numpy's not
        ids = torch.from_numpy(logits.numpy().argmax(-1))
    else:
        ids = logits.argmax(-1)
    return ids.tolist(), logits.gather(-1, ids[:, None])[:, 0].tolist()


def _choose_sampled(writings: Sequence[Writing], logits: Tensor) -> tuple[list[int], list[float]]:
    """Per row a sampled id, and the largest logit, as above."""
    largest = logits.amax(-1)
    finite = largest.isfinite()
    if not finite.all():  # any id will do for a broken row
        logits, chosen_from = logits.where(finite[:, None], 0), largest.where(finite, 0)
    else:
        chosen_from = largest
    ids = choose_tokens(
        logits,
        np.array([writing.request.temperature for writing in writings]),
        np.array([writing.request.top_p for writing in writings]),
        np.array([writing.draws[len(writing.ids)] for writing in writings]),  # type: ignore[index]
        chosen_from,
    )
    return ids, largest.tolist()


def choose_tokens(
    logits: Tensor, temperature: np.ndarray, top_p: np.ndarray, uniform: np.ndarray, largest: Tensor
) -> list[int]:
    """Sampled ids, one per row: `sampling.choose_token` for logits (n, V) and arrays (n,), temperature above 0.

    `largest`: of each row's logits, (n,).
    """
    heat, mass, draw = (torch.from_numpy(part).to(logits.device)[:, None] for part in (temperature, top_p, uniform))
    hot, nucleus = bool((temperature != 1).any()), bool((top_p < 1).any())
    found, certain = sampled_ids(logits, heat, mass, draw, largest, hot=hot, nucleus=nucleus)
    for row in (~certain).nonzero()[:, 0].tolist():
        found[row] = choose_token(logits[row].cpu().numpy(), temperature[row], top_p[row], uniform[row])
    ids: list[int] = found.tolist()
    return ids


def sampled_ids(
    logits: Tensor, heat: Tensor, mass: Tensor, draw: Tensor, largest: Tensor, *, hot: bool, nucleus: bool
) -> tuple[Tensor, Tensor]:
    """`choose_tokens` without a value read on the host: ids (n,), and whether rounding leaves no doubt (n,).

    Args:
        heat, mass, draw: temperature above 0, top_p and uniform, float64 (n, 1); largest: of each row's logits, (n,).
        hot: some temperature is not 1; nucleus: some top_p is below 1.
    """
    if hot:
        scaled, top = logits / heat.float(), largest[:, None] / heat.float()
    else:
        scaled, top = logits, largest[:, None]
    weights = (scaled - top).exp_()  # (n, V)
    if nucleus:
        ordered, order = weights.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1, dtype=torch.float64) - ordered
        beyond = (before >= mass * weights.sum(-1, keepdim=True, dtype=torch.float64)) & (mass < 1)
        weights = torch.zeros_like(weights).scatter_(-1, order, ordered.masked_fill_(beyond, 0))
    return _inverted(weights, draw)


def _inverted(weights: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """First id whose cumulative weight exceeds draw (n, 1) times the whole, and whether rounding leaves no doubt.

    In two steps, blocks of ids and then one block, because a cumulative sum over a whole vocabulary in float64 takes
    longer than a small model.
    """
    size = weights.shape[-1]
    whole = size // BLOCK_IDS * BLOCK_IDS
    sums = weights[:, :whole].unflatten(-1, (-1, BLOCK_IDS)).sum(-1, dtype=torch.float64)
    sums = torch.cat(
        [sums, weights[:, whole:].sum(-1, keepdim=True, dtype=torch.float64)], -1
    )  # (n, blocks), the last may be empty
    ends = sums.cumsum(-1)
    target = draw * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp_max(sums.shape[-1] - 1)  # (n, 1)
    ids = block * BLOCK_IDS + torch.arange(BLOCK_IDS, device=weights.device)
    inside = weights.gather(-1, ids.clamp_max(size - 1)).double().masked_fill(ids >= size, 0)
    within = (ends.gather(-1, block) - sums.gather(-1, block)) + inside.cumsum(-1)
    place = torch.searchsorted(within, target, right=True)
    nearest = (within - target).abs().amin(-1) > ROUNDING * ends[:, -1]
    return (block * BLOCK_IDS + place)[:, 0], nearest & (place[:, 0] < BLOCK_IDS)
