"""The same model asked again with other batches and other sampling seeds: the noise floor.

Source      Dror et al. 2018, https://aclanthology.org/P18-1128 (why a comparison needs its own noise).
Changes     nothing in the model; batch composition and sampling seeds (``Chain.salt``).
Use         ``rerun`` beside ``none``, ``int8+rerun`` beside ``int8``: the difference is not the strategy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiltmeter.messages import say
from tiltmeter.registry import register
from tiltmeter.strategies.base import Context, Evidence, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@register("strategy", "rerun")
@dataclass(frozen=True)
class Rerun(Strategy):
    """Control."""

    seed: int = 0  # tells several reruns apart

    name = "rerun"
    summary = "control: the same variant with other batches and sampling seeds (noise floor)"
    source = "https://aclanthology.org/P18-1128"
    library = "tiltmeter"
    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "control"
    seeded = True

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        return Evidence(say("proof.rerun"))
