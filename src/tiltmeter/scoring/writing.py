"""A generation in progress, and the choice of the next token for many of them at once.

`choose_tokens` is `sampling.choose_token` for a batch on the model's device; a test holds it to that definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.sampling import uniforms


@dataclass
class Writing:
    """One request's new tokens so far.

    Attributes:
        ids: new ids, the end token included.
        broken: the model returned NaN or infinite logits.
        logprobs: log-probability (nats, before temperature) of each chosen id; filled only when `recorded`.
    """

    request: Generation
    eos_ids: frozenset[int]
    recorded: bool = False
    ids: list[int] = field(default_factory=list)
    broken: bool = False
    logprobs: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draws = uniforms(self.request.seed, self.request.max_new_tokens) if self.request.temperature else None

    @property
    def done(self) -> bool:
        ended = bool(self.ids) and self.ids[-1] in self.eos_ids
        return self.broken or ended or len(self.ids) >= self.request.max_new_tokens


def extend(writings: Sequence[Writing], logits: Tensor) -> None:
    """Give each writing its next token from its row of `logits`, float32 (n, V)."""
    largest, greedy = logits.max(-1)
    finite = largest.isfinite().tolist()  # NaN or +inf anywhere in the row, or nothing but -inf
    ids = greedy.tolist()
    sampled = [row for row, writing in enumerate(writings) if writing.request.temperature and finite[row]]
    if sampled:
        chosen = choose_tokens(
            logits[torch.tensor(sampled, device=logits.device)],
            np.array([writings[row].request.temperature for row in sampled]),
            np.array([writings[row].request.top_p for row in sampled]),
            np.array([writings[row].draws[len(writings[row].ids)] for row in sampled]),  # type: ignore[index]
        )
        for row, token in zip(sampled, chosen, strict=True):
            ids[row] = token
    if any(writing.recorded for writing in writings):
        logprobs = (logits[torch.arange(len(ids)), ids] - logits.logsumexp(-1)).tolist()
        for writing, logprob in zip(writings, logprobs, strict=True):
            writing.logprobs.append(logprob)
    for writing, token, sound in zip(writings, ids, finite, strict=True):
        if sound:
            writing.ids.append(token)
        else:
            writing.broken = True


def choose_tokens(logits: Tensor, temperature: np.ndarray, top_p: np.ndarray, uniform: np.ndarray) -> list[int]:
    """Sampled ids, one per row: `sampling.choose_token` for logits (n, V) and arrays (n,), temperature above 0."""
    heat, mass, draw = (torch.from_numpy(part).to(logits.device)[:, None] for part in (temperature, top_p, uniform))
    scaled = logits / heat.float()
    weights = (scaled - scaled.amax(-1, keepdim=True)).exp_()  # (n, V)
    if (top_p < 1).any():
        ordered, order = weights.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1, dtype=torch.float64) - ordered
        ordered[(before >= mass * weights.sum(-1, keepdim=True, dtype=torch.float64)) & (mass < 1)] = 0
        weights = torch.zeros_like(weights).scatter_(-1, order, ordered)
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    found = torch.searchsorted(cumulative, draw * cumulative[:, -1:], right=True)[:, 0]
    beyond = found == weights.shape[-1]  # the uniform rounded up to the whole mass
    if beyond.any():
        found[beyond] = torch.stack([row.nonzero()[-1, 0] for row in weights[beyond]])
    ids: list[int] = found.tolist()
    return ids
