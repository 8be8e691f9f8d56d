"""The model's element-wise code in fewer passes over memory: rotary positions, RMSNorm, the gate of its network.

transformers writes them as chains of operations on whole tensors, and each operation reads memory and writes it anew.
The same formulas, computed in place, do that less often (`benchmarks.breakdown` prints what it saves).

Which modules may be replaced is measured, not listed: each replacement is held to the module's own code on random
input, the gate bit for bit, rotary and norm within a few units of rounding. What gives other numbers (Gemma's norm,
Cohere's rotary), rounds on purpose, is wrapped or hooked, keeps its own code. `reference.py` never runs inside.

Plain float32 on a CPU only: elsewhere nothing was measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tiltmeter.scoring.kernels.packed_linear import packable

ROTARY = "apply_rotary_pos_emb"  # the function's name wherever transformers' models have one
TOLERANCE = 2e-6  # of the largest value: some sixteen units of rounding
PROBE_SIZE = 16  # of a head, where rotary functions are compared

Rotary = Callable[..., tuple[Tensor, Tensor]]


class Elementwise:
    """What of a model's element-wise code can be replaced; found once, on a model that is not changed any more."""

    def __init__(self, model: nn.Module) -> None:
        self._forwards: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = []
        self._rotaries: list[tuple[ModuleType, Rotary]] = []
        parameters = list(model.parameters())
        if not parameters or any(p.device.type != "cpu" or p.dtype != torch.float32 for p in parameters):
            return
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(0)  # the same input every time
            for module in model.modules():
                forward = _norm(module) or _gated(module)
                if forward is not None:
                    self._forwards.append((module, forward))
            for source in {type(module).__module__: None for module in model.modules()}:
                rotary = _rotary(getattr(sys.modules.get(source), ROTARY, None))
                if rotary is not None:
                    self._rotaries.append((sys.modules[source], rotary))

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Inside, the model runs the replacements."""
        own = [getattr(source, ROTARY) for source, _ in self._rotaries]
        try:
            for source, rotary in self._rotaries:
                setattr(source, ROTARY, rotary)
            for module, forward in self._forwards:
                module.__dict__["forward"] = forward
            yield
        finally:
            for (source, _), before in zip(self._rotaries, own, strict=True):
                setattr(source, ROTARY, before)
            for module, _ in self._forwards:
                module.__dict__.pop("forward", None)


def _plain(module: nn.Module) -> bool:
    """Nobody has put anything around the module's own forward."""
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)


def _norm(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """RMSNorm (Zhang and Sennrich, arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight."""
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or not isinstance(eps, float) or not _plain(module):
        return None
    size = weight.shape[0]

    def forward(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.mul(x, norm.square_().mul_(1 / size).add_(eps).rsqrt_()).mul_(weight)

    return forward if _same(module, forward, 3 * torch.randn(1, 4, size), tolerance=TOLERANCE) else None


def _gated(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """down(silu(gate(x)) * up(x)), Shazeer's SwiGLU (arXiv 2002.05202), in the buffer that gate(x) came in."""
    gate, up, down, act = (getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))
    if not (gate and up and down and act) or not _plain(module) or not _plain(act):
        return None
    if not all(packable(layer) and _plain(layer) for layer in (gate, up, down)):
        return None

    def forward(x: Tensor) -> Tensor:
        gated = nn.functional.silu(gate(x), inplace=True)
        result: Tensor = down(gated.mul_(up(x)))
        return result

    return forward if _same(module, forward, torch.randn(1, 4, gate.in_features), tolerance=0) else None


def _rotary(own: Rotary | None) -> Rotary | None:
    """Rotary positions (Su et al., arXiv 2104.09864), halves rotated: x * cos + (-x2, x1) * sin."""
    if own is None:
        return None

    def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
        if rest or named or cos.shape[-1] != q.shape[-1]:  # another layout, or a part of the head only
            return own(q, k, cos, sin, *rest, **named)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        return _rotated(q, cos, sin), _rotated(k, cos, sin)

    query, key = torch.randn(1, 3, 5, PROBE_SIZE), torch.randn(1, 1, 5, PROBE_SIZE)
    cos, sin = torch.randn(2, 1, 5, PROBE_SIZE)
    same = _same(lambda x: own(x, key, cos, sin)[0], lambda x: rotary(x, key, cos, sin)[0], query, TOLERANCE)
    return (
        rotary
        if same and _same(lambda x: own(query, x, cos, sin)[1], lambda x: rotary(query, x, cos, sin)[1], key, TOLERANCE)
        else None
    )


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def _same(own: Callable[[Tensor], Any], ours: Callable[[Tensor], Tensor], x: Tensor, tolerance: float) -> bool:
    """Whether both give the same for `x`, and leave `x` alone."""
    before = x.clone()
    try:
        expected = own(x)
        found = ours(x)
    except Exception:  # another signature, other shapes: it is something else
        return False
    return (
        isinstance(expected, Tensor)
        and expected.shape == found.shape
        and torch.equal(x, before)
        and bool((expected - found).abs().max() <= tolerance * expected.abs().max())
    )
