"""REAP: the experts of a mixture that add least are taken out, the same number in every layer.

Source      Lasby et al. 2025, https://arxiv.org/abs/2510.13999, by llm-compressor (REAPPruningModifier): saliency is
            the mean of router weight times norm of the expert's output over the tokens routed to it.
Changes     int(sparsity x experts) experts of every layer and their rows of the router; no other weight.
Saves       their share of weights, everywhere; no time, since as many experts answer each token as before.
Trap        llm-compressor saves Mixtral's experts as gate_proj, down_proj, up_proj, where transformers reads w1, w2, w3
            and would draw experts at random, with a report in its log alone: the names are put right after saving, and
            loading refuses what its report names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tiltmeter.errors import UserError
from tiltmeter.messages import say
from tiltmeter.models import linear
from tiltmeter.registry import register
from tiltmeter.strategies import _bitsandbytes, _compress
from tiltmeter.strategies._structure import Counted, Structural
from tiltmeter.strategies.base import Context, Evidence
from tiltmeter.strategies.calibration import Calibrated

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from tiltmeter.models.variant import LoadedVariant

MIXTRAL = {".gate_proj.": ".w1.", ".down_proj.": ".w2.", ".up_proj.": ".w3."}  # as saved -> as transformers reads


@dataclass(frozen=True)
class FewerExperts(Counted, Evidence):
    """Experts of each layer before and now."""

    experts_before: int
    experts: int


@register("strategy", "reap")
@dataclass(frozen=True)
class Reap(Calibrated, Structural):
    """sparsity: fraction of every layer's experts taken out, rounded down to whole experts."""

    sparsity: float = 0.25

    name = "reap"
    summary = "mixtures of experts: those that add least left out"
    source = "https://arxiv.org/abs/2510.13999"
    library = "llm-compressor"
    needs = ("a mixture of experts",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _compress.check_fraction(self.name, "sparsity", self.sparsity)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        _compress.check_library("llmcompressor", self.name)
        n = experts_of(context.config)
        if not n:
            raise UserError(
                f"reap takes experts out of a mixture; this {context.config.model_type} model has none",
                fix="use drop-layers, wanda or magnitude for a dense model",
            )
        gone = int(n * self.sparsity)
        chosen = int(context.config.get_text_config(decoder=True).num_experts_per_tok)
        if gone == 0 or n - gone < chosen:
            raise UserError(
                f"reap: sparsity={self.sparsity} takes {gone} of {n} experts; the router chooses {chosen} per token",
                fix=f"between 1 and {n - chosen} can go: for instance reap:sparsity={1 / n:.4g}",
            )
        self.check_text(context)

    def before_loading(self, context: Context) -> None:
        _compress.require_library(self.name)
        windows = self.windows(context)

        def change(model: PreTrainedModel) -> None:
            from llmcompressor.modifiers.pruning import REAPPruningModifier

            _compress.oneshot(model, [REAPPruningModifier(sparsity=self.sparsity)], context, windows)

        put_right = _rename_mixtral if context.config.model_type == "mixtral" else None
        context.found["experts"] = experts_of(context.config)
        _compress.compressed(self, context, change, windows, after_saving=put_right)
        self.smaller(context)

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        before, now = cast(int, context.found["experts"]), experts_of(variant.model.config)
        summary = say("proof.experts_gone", gone=before - now, all=before)
        return FewerExperts(summary, **vars(self.counted(variant, context)), experts_before=before, experts=now)


def experts_of(config: PretrainedConfig) -> int:
    """Experts in each layer of a mixture; 0 for a dense model."""
    return next((int(weight.shape[0]) for weight in linear.experts(linear.skeleton(config)).values()), 0)


def _rename_mixtral(folder: Path) -> None:
    """Experts under the names that transformers reads, in place."""
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        for name in [name for name in tensors if ".experts." in name]:
            renamed = name
            for saved, read in MIXTRAL.items():
                renamed = renamed.replace(saved, read)
            tensors[renamed] = tensors.pop(name)
        save_file(tensors, file, {"format": "pt"})
