"""Noise on the weights: how far do scores move when every weight is a little wrong, for no reason at all?

Source      none; an example of a strategy in a package of its own.
Changes     adds normal noise to every linear layer, sd = `relative` times that layer's own weight sd.
Saves       nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from tiltmeter.plugins import Context, DidNothing, Evidence, LoadedVariant, Strategy, UserError, register, translated


@dataclass(frozen=True)
class Noise(Evidence):
    """The fields stand in the run beside the summary."""

    n_layers: int


@register("strategy", "weight-noise")
@dataclass(frozen=True)
class WeightNoise(Strategy):
    """The dataclass fields are the settings: weight-noise:relative=0.05,seed=1."""

    relative: float = 0.05  # sd of the noise, as a fraction of the layer's weight sd
    seed: int = 0

    name = "weight-noise"
    summary = "normal noise on every linear layer"
    source = "example of the documentation"
    library = "torch"
    hardware = "CPU, GPU"
    paper_setting = "not part of the study"
    role = "weights"  # it changes them, so that its probe logits must differ from the base's
    seeded = True  # weight-noise:seed=1 is a replicate, no other method

    def __post_init__(self) -> None:
        if not self.relative > 0:
            raise UserError(f"weight-noise: relative must be above 0, got {self.relative}", fix="try relative=0.05")

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        import torch  # only where a model is touched

        draws = torch.Generator().manual_seed(self.seed)
        changed = 0
        with torch.no_grad():
            for module in variant.model.modules():
                if isinstance(module, torch.nn.Linear):
                    weight = module.weight
                    noise = torch.randn(weight.shape, generator=draws).to(weight)  # (out, in)
                    weight += self.relative * weight.std() * noise
                    changed += 1
        context.found[self.name] = changed

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        changed = context.found.get(self.name, 0)
        if not changed:
            raise DidNothing("weight-noise: the model has no linear layer")
        summary = translated(
            f"noise of {self.relative:g} sd on {changed} linear layers",
            zh=f"{changed} 个线性层加入 {self.relative:g} 倍标准差的噪声",
        )
        return Noise(summary, n_layers=changed)
