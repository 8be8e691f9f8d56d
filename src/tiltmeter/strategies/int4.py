"""4-bit weights in blocks of 64, dequantized for every product: FP4 or NF4.

Source      Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, by bitsandbytes.
Changes     every linear layer but the output head, and the experts of a mixture; activations stay in the run's dtype.
Saves       about three quarters of 16-bit weight memory; slower than 16 bit in many shapes: measure it.
Departure   none in the default: the study ran bitsandbytes' own default, which is FP4, not the better NF4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes
from tiltmeter.strategies.base import Context, Evidence, Strategy

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant


@register("strategy", "int4")
@dataclass(frozen=True)
class Int4(Strategy):
    """type: the 16 values a weight can take; double_quant: quantize the block scales too."""

    type: Literal["fp4", "nf4"] = "fp4"
    double_quant: bool = False

    name = "int4"
    summary = "4-bit weights, fp4 as the study ran it or type=nf4"
    source = "https://arxiv.org/abs/2305.14314"
    library = "bitsandbytes"
    hardware = "GPU; runs on CPU"
    paper_setting = "bitsandbytes load_in_4bit with its defaults: fp4"
    role = "weights"

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return _bitsandbytes.refuse_second_quantizer(self.name, earlier)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        linear.require_reach(context.config, self.name, with_experts=True)

    def before_loading(self, context: Context) -> None:
        _bitsandbytes.require()

    def loading_options(self, context: Context) -> Mapping[str, object]:
        import torch
        from transformers import BitsAndBytesConfig

        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type=self.type,
                bnb_4bit_use_double_quant=self.double_quant,
                bnb_4bit_compute_dtype=getattr(torch, context.dtype),
            )
        }

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        """The experts, which transformers leaves alone: held in 4 bit, dequantized where they are used."""
        from bitsandbytes.nn.parametrize import replace_parameter_4bit

        for name in list(linear.experts(variant.model)):
            owner, _, last = name.rpartition(".")
            replace_parameter_4bit(
                variant.model.get_submodule(owner),
                last,
                compress_statistics=self.double_quant,
                quant_type=self.type,
                blocksize=64,
            )

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        import bitsandbytes as bnb

        return _bitsandbytes.evidence(variant.model, bnb.nn.Linear4bit, f"bitsandbytes {self.type}")
