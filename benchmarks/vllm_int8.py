"""Does vLLM multiply 8-bit integers rightly on this CPU? Run by the environment that has vLLM (`make engines`).

    .venv-vllm/bin/python -m benchmarks.vllm_int8

Its W8A8 layers go through oneDNN. Without VNNI (or AMX) instructions oneDNN adds pairs of products in 16 bits, which
saturate: 127 * 127 * 2 does not fit. Per case: the largest error of a product against the same integers in float64, as
a share of its largest value. 1e-6 is rounding; 0.1 is another model.
"""

from __future__ import annotations

import torch

ROUNDING = 1e-5


def cases() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Weights int8 (N, K) and inputs (M, K)."""
    torch.manual_seed(0)
    weights = torch.randn(576, 576).mul(40).round().clamp(-127, 127).to(torch.int8)
    return {
        "all of them the largest": (torch.full((32, 64), 127, dtype=torch.int8), torch.ones(4, 64)),
        "normal": (weights, torch.randn(16, 576)),
        "normal, one outlier a token": (weights, torch.cat([torch.randn(16, 575), torch.full((16, 1), 50.0)], 1)),
    }


def error(weights: torch.Tensor, inputs: torch.Tensor) -> float:
    """Of vLLM's product, relative to the largest value."""
    import vllm._custom_ops as ops

    scales = torch.full((len(weights),), 0.01)
    handler = ops.create_onednn_scaled_mm(weights.t(), scales, torch.float32, True, False)
    rounded, steps, _ = ops.onednn_scaled_int8_quant(inputs)
    found = torch.empty(len(inputs), len(weights))
    ops.onednn_scaled_mm(handler, rounded, found, steps, None, None, None)
    wanted = rounded.double() @ weights.t().double() * steps.double() * scales.double()
    return float((found - wanted).abs().max() / wanted.abs().max())


def errors() -> dict[str, float]:
    from vllm.platforms import current_platform

    current_platform.import_kernels()
    return {name: error(*case) for name, case in cases().items()}


def main() -> None:
    for name, share in errors().items():
        print(f"{name:30s} {share:.2g} {'' if share < ROUNDING else 'WRONG'}")


if __name__ == "__main__":
    main()
