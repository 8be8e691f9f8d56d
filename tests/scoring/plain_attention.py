"""Attention the long way: what every faster one is held to."""

from __future__ import annotations

import torch


def plain(query, key, value, hidden, scores):
    """softmax(scores) V with every key's group of query heads, the long way."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    products = query @ key.transpose(-1, -2) * scores.scale
    if scores.softcap:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    return products.masked_fill(hidden, -torch.inf).softmax(-1) @ value
