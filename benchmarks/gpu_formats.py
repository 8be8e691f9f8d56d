"""What number formats really buy on a card, on the shape of Llama-3.1-8B: memory and tokens per second.

    python -m benchmarks.gpu_formats [--shape 8b] [--formats bf16 int8 …]        (see gpu_carry)

Random weights; each format holds the same linear layers of the decoder blocks, by the library that a strategy of that
name uses (int8, nf4: bitsandbytes; torchao-int8, torchao-fp8: torchao; 2:4: torch's semi-structured kernels after
magnitude pruning in groups of four).

Alone     `tiltmeter speed`'s own pass through transformers, 1 and 64 sequences: base and format in alternation.
Engine    milliseconds of a decoding step of 512 rows through tiltmeter's engine, captured where the format lets itself
          be captured (else why not), which is what a run gets.
Limit     weights read once per step at the rate of a device-to-device copy; two operations per weight and token at
          the rate of an 8192 x 8192 x 8192 product of bf16: both measured here first.

Results go to $OUT (else benchmarks/results) after every format: gpu_formats.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_decoding import Decoding
from benchmarks.gpu_models import SHAPES
from benchmarks.gpu_protocol import LLAMA_8B
from tiltmeter.models import linear
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring import device
from tiltmeter.scoring.methods import Trees
from tiltmeter.variants import speed

RESULTS = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
SETTINGS = (speed.Setting(1, 512, 32, 3), speed.Setting(64, 256, 32, 3))
TRIAL = (speed.Setting(1, 16, 2, 1),)  # where there is no card
ROWS = 512


def each_layer(model: nn.Module, change: Callable[[nn.Linear], nn.Module]) -> None:
    """Put what `change` makes of every linear layer of the blocks in its place."""
    for name, layer in linear.linear_layers(model).items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, change(layer))  # type: ignore[arg-type]


def int8(model: nn.Module) -> None:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    def held(layer: nn.Linear) -> nn.Module:
        new = Linear8bitLt(layer.in_features, layer.out_features, False, has_fp16_weights=False, threshold=6.0)
        new.weight = Int8Params(layer.weight.data.half().cpu(), requires_grad=False, has_fp16_weights=False)
        return new.to(layer.weight.device)

    each_layer(model, held)


def nf4(model: nn.Module) -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit

    def held(layer: nn.Linear) -> nn.Module:
        new = Linear4bit(layer.in_features, layer.out_features, False, layer.weight.dtype, quant_type="nf4")
        new.weight = Params4bit(layer.weight.data.cpu(), requires_grad=False, quant_type="nf4")
        return new.to(layer.weight.device)

    each_layer(model, held)


def by_torchao(model: nn.Module, configuration: Any) -> None:
    from torchao.quantization import quantize_

    chosen = set(linear.linear_layers(model))
    quantize_(model, configuration, filter_fn=lambda _, name: name in chosen)


def torchao_int8(model: nn.Module) -> None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    by_torchao(model, Int8DynamicActivationInt8WeightConfig())


def torchao_fp8(model: nn.Module) -> None:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

    by_torchao(model, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))


def two_of_four(model: nn.Module) -> None:
    for layer in linear.linear_layers(model).values():
        groups = layer.weight.data.view(layer.weight.shape[0], -1, 4)
        groups.scatter_(-1, groups.abs().topk(2, -1, largest=False).indices, 0)
        layer.weight = nn.Parameter(torch.sparse.to_sparse_semi_structured(layer.weight.data), requires_grad=False)


FORMATS: dict[str, Callable[[nn.Module], None]] = {
    "bf16": lambda model: None,
    "torchao-fp8": torchao_fp8,
    "int8": int8,
    "nf4": nf4,
    "torchao-int8": torchao_int8,
    "2:4": two_of_four,
}


class Formats(Decoding):
    def limits(self) -> dict[str, float]:
        """Bytes a second of a copy, counting both ways, and operations a second of a product."""
        size = 8192 if self.on_card else 256
        one = torch.randn(size, size, device=self.where, dtype=torch.bfloat16)
        line = torch.empty(2**31 if self.on_card else 2**24, dtype=torch.uint8, device=self.where)
        other = torch.empty_like(line)
        return {
            "copy_bytes_per_s": 2000 * line.nbytes / self.milliseconds(lambda: other.copy_(line), 10),
            "product_per_s": 2000 * size**3 / self.milliseconds(lambda: one @ one, 10),
        }

    def measured(self, base: LoadedVariant, name: str, limits: dict[str, float]) -> dict[str, Any]:
        """One format beside the base."""
        layers = linear.linear_layers(base.model)
        variant = base
        if name != "bf16":
            variant = replace(base, model=copy.deepcopy(base.model), strategy=name)
            FORMATS[name](variant.model)
        weights = speed.weight_bytes(variant.model)
        embedded = base.model.get_input_embeddings().weight.nbytes  # a step reads a few of its rows
        read = weights - embedded
        products = 2 * sum(layer.weight.numel() for layer in layers.values())  # the head sees one token of a prompt
        found: dict[str, Any] = {"weight_bytes": weights, "limit_ms_per_step": 1000 * read / limits["copy_bytes_per_s"]}
        vocabulary = base.model.config.vocab_size
        for setting in SETTINGS if self.on_card else TRIAL:
            ids = speed._tokens(setting, vocabulary, 0, self.where)
            if self.on_card:
                torch.cuda.reset_peak_memory_stats()
            ours, theirs = speed._time(base, variant, ids, setting)
            prefill = speed._timing([setting.batch * setting.prompt_tokens / s for s in theirs.prefill]).median
            found[f"{setting.batch} sequences"] = {
                "prefill_tokens_per_s": prefill,
                "prefill_share_of_bf16_limit": prefill * products / limits["product_per_s"],
                "prefill_speedup": speed._timing([b / m for b, m in zip(ours.prefill, theirs.prefill)]).median,
                "decode_ms_per_step": 1000 * speed._timing(theirs.decode).median / setting.new_tokens,
                "decode_speedup": speed._timing([b / m for b, m in zip(ours.decode, theirs.decode)]).median,
            }
        return {**found, "engine": self.step_of(variant)}

    def step_of(self, variant: LoadedVariant) -> dict[str, Any]:
        """Milliseconds of the engine's step of `ROWS` rows."""
        seconds = []
        rows = ROWS if self.on_card else 16
        trees = Trees(variant, sparse=True, decoding="captured")
        lengths = (17, 81) if self.on_card else (2, 3)
        for new in lengths:
            self.write_rows(trees, rows, new)
            started = time.perf_counter()
            self.write_rows(trees, rows, new)
            seconds.append(time.perf_counter() - started)
        per_step = 1000 * (seconds[1] - seconds[0]) / (lengths[1] - lengths[0])
        return {"rows": rows, "ms_per_step": per_step, "notes": [str(note) for note in trees.notes]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TILTMETER_SHARED", "../shared")))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", default="8b", choices=["8b", *SHAPES])
    parser.add_argument("--layers", type=int, default=32, help="of the 8b shape: fewer are made sooner")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    options = parser.parse_args()
    os.environ.pop(device.STRICT, None)  # a format that refuses to be captured goes on, and that is a finding
    SHAPES["8b"] = {**LLAMA_8B, "num_hidden_layers": options.layers}
    formats = Formats(options.shared, options.device)
    base = formats.variant(options.shape, torch.bfloat16)
    limits = formats.limits()
    card = torch.cuda.get_device_name() if formats.on_card else options.device
    found: dict[str, Any] = {
        "device": card,
        "torch": torch.__version__,
        "shape": options.shape,
        "layers": options.layers,
        **limits,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.formats:
        started = time.perf_counter()
        try:
            found[name] = formats.measured(base, name, limits)
        except Exception as error:
            if device.is_lost(error):
                raise
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        found[name]["seconds"] = round(time.perf_counter() - started, 1)
        (RESULTS / "gpu_formats.json").write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(found[name]), flush=True)
        if formats.on_card:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
