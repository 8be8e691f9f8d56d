"""The base model as it is: what every variant is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from tiltmeter.registry import register
from tiltmeter.strategies.base import Strategy


@register("strategy", "none")
@dataclass(frozen=True)
class NoStrategy(Strategy):
    """The model unchanged. In a chain it is left out."""

    name = "none"
    summary = "the base model, unchanged"
    source = "-"
    library = "transformers"
    hardware = "CPU, GPU"
    paper_setting = "the base of every comparison"
    role = "none"
    aliases = ("base",)
