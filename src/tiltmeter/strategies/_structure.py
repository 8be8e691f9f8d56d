"""What drop-layers and reap share: a smaller model of the same kind, saved dense, and the count of what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiltmeter.messages import Text
from tiltmeter.models import linear
from tiltmeter.models.artifacts import Artifact
from tiltmeter.models.reading import load_config
from tiltmeter.strategies.base import Context, DidNothing, Strategy

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class Structural(Strategy):
    """Takes whole parts out of the model. Whatever follows in the chain sees the smaller configuration."""

    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "structure"
    makes_checkpoint = True
    read_by = ("transformers", "vLLM")

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        other = next((part for part in earlier if part.role in ("weights", "pruning", "cache")), None)
        return f"{self.name} takes parts out of the model, so it comes before {other.name}" if other else None

    def smaller(self, context: Context, artifact: Artifact) -> None:
        """Makes the artifact's configuration the chain's."""
        context.found[self.name] = (parameters(context.config), artifact)
        context.config = load_config(context.checkpoint, context.model)

    def counted(self, variant: LoadedVariant, context: Context, summary: Text) -> dict[str, Any]:
        """Evidence: parameters of the blocks' weights before and now. Raises DidNothing when none are gone."""
        before, artifact = context.found[self.name]
        now = parameters(variant.model.config)
        if now >= before:
            raise DidNothing(f"{self.name}: {now:,} of {before:,} parameters of the blocks are left")
        return {
            "summary": summary,
            "block_parameters_before": before,
            "block_parameters": now,
            "removed_share": 1 - now / before,
            "lm_head_untouched": artifact.facts["lm_head_untouched"],
            "calibration": artifact.facts["calibration"],
        }


def parameters(config: PretrainedConfig) -> int:
    """Parameters of the weights inside the decoder blocks (no norms, no biases)."""
    return sum(weight.numel() for weight in linear.block_weights(linear.skeleton(config)).values())
