"""What the pruning strategies share: order rule, proof, and the run of one llm-compressor modifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiltmeter.messages import say
from tiltmeter.models import linear
from tiltmeter.models.artifacts import Artifact
from tiltmeter.strategies import _bitsandbytes, _compress
from tiltmeter.strategies._compress import Compressed
from tiltmeter.strategies.base import Context, DidNothing, Evidence, Strategy
from tiltmeter.strategies.calibration import Calibrated

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tiltmeter.models.variant import LoadedVariant


def cannot_prune_after(name: str, earlier: Sequence[Strategy]) -> str | None:
    """Pruning needs dense, unpruned weights."""
    for part in earlier:
        if part.quantizes:
            return f"{name} prunes weights, so it comes before {part.name}, which quantizes them"
        if part.prunes:
            return f"{name} would prune again what {part.name} has pruned"
    return None


@dataclass(frozen=True)
class Zeros(Compressed, Evidence):
    """What a pruned checkpoint holds."""


def proof_of_sparsity(name: str, artifact: Artifact, wanted: float, two_four: bool) -> Evidence:
    """Evidence from the saved weights. Raises DidNothing when the sparsity or the 2:4 pattern was not reached."""
    facts = Compressed.of(artifact)
    if facts.sparsity < wanted - 0.01:
        raise DidNothing(f"{name}: {facts.sparsity:.1%} of the weights are zero, {wanted:.0%} were asked for")
    if two_four and (facts.intact_2_4_share or 0.0) < 1.0:
        raise DidNothing(f"{name}: only {facts.intact_2_4_share or 0.0:.1%} of the groups of four hold two zeros")
    worst = min(facts.sparsity_per_layer.values())
    summary = say(
        "proof.zeros_experts" if facts.expert_matrices else "proof.zeros",
        share=f"{facts.sparsity:.1%}",
        n=facts.layers,
        experts=facts.expert_matrices,
        worst=f"{worst:.1%}",
        pattern=say("proof.two_four") if two_four else "",
    )
    return Zeros(summary, **vars(facts))


@dataclass(frozen=True)
class OneShotPruning(Calibrated):
    """Pruning through an llm-compressor modifier. Subclasses set `modifier` and `two_four`."""

    library = "llm-compressor"
    hardware = "CPU, GPU"
    role = "pruning"
    makes_checkpoint = True
    simulated = True
    read_by = ("transformers", "vLLM")

    @property
    def wanted(self) -> float:
        return float(self.settings.get("sparsity", 0.5))

    @property
    def two_four(self) -> bool:
        return self.name.endswith("2:4")

    def modifier(self, blocks: list[str]) -> Any:
        """The llm-compressor modifier for these decoder blocks."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        _compress.check_fraction(self.name, "sparsity", self.wanted)

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        return cannot_prune_after(self.name, earlier)

    def check(self, context: Context) -> None:
        _bitsandbytes.check_weights_float(context.config, self.name)
        _compress.check_library("llmcompressor", self.name)
        shapes = linear.require_linear_layers(context.config, self.name)
        if self.two_four:
            linear.require_multiple(shapes, 4, f"{self.name}: a group of")
        self.check_text(context)

    def before_loading(self, context: Context) -> None:
        _compress.require_library(self.name)
        windows = self.windows(context)

        def change(model: PreTrainedModel) -> None:
            _compress.oneshot(model, [self.modifier(list(linear.blocks(model)))], context, windows)

        _compress.compressed(self, context, change, windows)

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        return proof_of_sparsity(self.name, context.made[self.name], self.wanted, self.two_four)
