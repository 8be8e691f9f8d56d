"""What drop-layers and reap share: a smaller model of the same kind, saved dense, and the count of what is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tiltmeter.models import linear
from tiltmeter.models.reading import load_config
from tiltmeter.strategies._compress import Compressed
from tiltmeter.strategies.base import Context, DidNothing, Strategy
from tiltmeter.strategies.calibration import Drawn

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from tiltmeter.models.variant import LoadedVariant


@dataclass(frozen=True)
class Counted:
    """Parameters of the blocks' weights before and now."""

    block_parameters_before: int
    block_parameters: int
    removed_share: float
    lm_head_untouched: bool
    calibration: Drawn | None


@dataclass(frozen=True)
class Structural(Strategy):
    """Takes whole parts out of the model. Whatever follows in the chain sees the smaller configuration."""

    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "structure"
    makes_checkpoint = True
    read_by = ("transformers", "vLLM")

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        other = next((part for part in earlier if part.acts_on in ("weights", "cache")), None)
        return f"{self.name} takes parts out of the model, so it comes before {other.name}" if other else None

    def smaller(self, context: Context) -> None:
        """Makes the new checkpoint's configuration the chain's."""
        context.found[self.name] = parameters(context.config)
        context.config = load_config(context.checkpoint, context.model)

    def counted(self, variant: LoadedVariant, context: Context) -> Counted:
        """What is left. Raises DidNothing when nothing is gone."""
        before, now = cast(int, context.found[self.name]), parameters(variant.model.config)
        if now >= before:
            raise DidNothing(f"{self.name}: {now:,} of {before:,} parameters of the blocks are left")
        made = Compressed.of(context.made[self.name])
        return Counted(before, now, 1 - now / before, made.lm_head_untouched, made.calibration)


def parameters(config: PretrainedConfig) -> int:
    """Parameters of the weights inside the decoder blocks (no norms, no biases)."""
    return sum(weight.numel() for weight in linear.block_weights(linear.skeleton(config)).values())
