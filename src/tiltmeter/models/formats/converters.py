"""AWQ and GPTQ tensors -> compressed-tensors' packed ones: the same integers, the same scales, packed another way.

Both formats store a layer of shape (out, in), transposed, in three tensors; `value` fields of `bits` bits each lie in
int32 words, the first field in the lowest bits:

            GPTQ (AutoGPTQ, GPTQModel)                        AWQ (AutoAWQ, GEMM layout)
    qweight (in * bits / 32, out): fields run along `in`      (in, out / 8): along `out`, in the order 0 2 4 6 1 3 5 7
    qzeros  (groups, out * bits / 32): fields along `out`     (groups, out / 8): likewise, same order
    scales  (groups, out)                                     (groups, out)
    g_idx   (in): the group of each input                     none: input i is of group i // group_size

A weight is (q - z) * s with the zero and scale of its group. GPTQ's first format ("gptq") stores z - 1, subtracted from
whole words, "gptq_v2" stores z.

Source      AutoGPTQ `QuantLinear.pack`, GPTQModel's conversion between its two formats, AutoAWQ `WQLinear_GEMM`.
Departure   compressed-tensors 0.19 keeps no group index. A layer whose groups do not follow the order of its inputs
            (act-order without static groups, or a last group that is short) becomes a dense weight, (q - z) * s
            computed in float32 and rounded once to the run's type.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.config import CompressionFormat
from compressed_tensors.entrypoints.convert import AutoAWQConverter, Converter
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    QuantizationStrategy,
    QuantizationType,
)
from torch import Tensor

WORD = 32  # bits of an int32


class AwqConverter(AutoAWQConverter):
    """compressed-tensors' own reader of AutoAWQ's GEMM layout; it also takes one group per output (group_size -1)."""

    def __init__(self, *, group_size: int, names: Collection[str]) -> None:
        """names: every tensor of the checkpoint. Zeros count where they are stored, as in AutoAWQ's kernels."""
        stored = any(name.endswith(".qzeros") for name in names)
        super().__init__(bits=4, group_size=group_size, zero_point=stored, version="gemm", ignore=left_alone(names))
        self.dense: list[str] = []

    def update_config(self, config: QuantizationConfig | None) -> QuantizationConfig | None:
        return packed_config(4, self.group_size, symmetric=not self.zero_point, ignore=self.ignore)


class GptqConverter(Converter):
    """Reader of both GPTQ formats.

    Args:
        v1: zeros are stored less one (checkpoint_format "gptq").
        borrows: the producer subtracts whole words (GPTQModel), so that a zero of 0 borrows from the next field and
            is restored by adding. Others wrote over the neighbours: such a checkpoint is refused.
        dtype: of the weights that become dense.
    """

    def __init__(
        self, *, bits: int, group_size: int, v1: bool, borrows: bool, dtype: torch.dtype, names: Collection[str]
    ) -> None:
        self.bits, self.group_size, self.v1, self.borrows = bits, group_size, v1, borrows
        self.dtype, self.names = dtype, frozenset(names)
        self.packed: list[str] = []
        self.dense: list[str] = []

    def get_dependencies(self, weight_name: str) -> set[str]:
        layer, _, kind = weight_name.rpartition(".")
        others = {f"{layer}.{other}" for other in ("qzeros", "scales", "g_idx")} if kind == "qweight" else set()
        return others & self.names

    def validate(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Checks shapes before anything is converted. Raises ValueError naming the layer."""
        for name in tensors:
            if name.endswith(".qweight"):
                self._check(name.removesuffix(".qweight"), tensors)
        return tensors

    def process(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for name in [name for name in tensors if name.endswith(".qweight")]:
            layer = name.removesuffix(".qweight")
            stored = {kind: tensors.pop(f"{layer}.{kind}", None) for kind in ("qweight", "qzeros", "scales", "g_idx")}
            for kind, tensor in self._layer(layer, stored).items():
                tensors[f"{layer}.{kind}"] = tensor
        return tensors

    def update_config(self, config: QuantizationConfig | None) -> QuantizationConfig | None:
        """The layers that were packed; None, a plain checkpoint, when there is none."""
        if not self.packed:
            return None
        return packed_config(self.bits, self.group_size, symmetric=False, ignore=[*left_alone(self.names), *self.dense])

    def _layer(self, layer: str, stored: Mapping[str, Any]) -> dict[str, Tensor]:
        """The new tensors of one layer, by the last part of their name."""
        scales = stored["scales"]  # (groups, out)
        integers = unpack(stored["qweight"], self.bits, along=0)  # (in, out), 0 ... 2^bits - 1
        zeros = self._zeros(layer, stored["qzeros"])[:, : scales.shape[1]]  # (groups, out)
        group_size = self.group_size if self.group_size > 0 else len(integers)
        in_order = torch.arange(len(integers)) // group_size  # (in)
        group = in_order if stored["g_idx"] is None else stored["g_idx"].long()
        if not torch.equal(group, in_order) or len(integers) % group_size:
            self.dense.append(layer)
            weight = (integers - zeros[group]).float() * scales[group].float()
            return {"weight": weight.T.to(self.dtype).contiguous()}
        self.packed.append(layer)
        middle = 2 ** (self.bits - 1)  # compressed-tensors counts from the middle of the range
        weight, points = (((each - middle).T.to(torch.int8).contiguous()) for each in (integers, zeros))
        return {
            "weight_packed": pack_to_int32(weight, self.bits),
            "weight_shape": torch.tensor(weight.shape),
            "weight_scale": scales.T.contiguous(),
            "weight_zero_point": pack_to_int32(points, self.bits, packed_dim=0).contiguous(),
        }

    def _zeros(self, layer: str, qzeros: Tensor) -> Tensor:
        if not self.v1:
            return unpack(qzeros, self.bits, along=1)
        largest = 2**self.bits - 1
        if not self.borrows and bool((unpack(qzeros, self.bits, along=1) == largest).any()):
            raise ValueError(f"{layer} has zero points of 0, which this producer's format damages")
        one_each = sum(1 << shift for shift in range(0, WORD, self.bits))  # 1 in every field of a word
        return unpack(qzeros + one_each, self.bits, along=1)

    def _check(self, layer: str, tensors: Mapping[str, Tensor]) -> None:
        missing = [kind for kind in ("qzeros", "scales") if f"{layer}.{kind}" not in tensors]
        if missing:
            raise ValueError(f"{layer} has no {missing[0]}")
        qweight, qzeros, scales = (tensors[f"{layer}.{kind}"] for kind in ("qweight", "qzeros", "scales"))
        n_in, n_out = qweight.shape[0] * WORD // self.bits, qweight.shape[1]
        groups = 1 if self.group_size <= 0 else -(-n_in // self.group_size)
        index = tensors.get(f"{layer}.g_idx")
        if (qweight.dtype, qzeros.dtype) != (torch.int32, torch.int32):
            raise ValueError(f"{layer} is not packed in 32-bit words")
        if (
            (index is not None and len(index) != n_in)
            or tuple(scales.shape) != (groups, n_out)
            or tuple(qzeros.shape) != (groups, -(-n_out * self.bits // WORD))
        ):
            raise ValueError(f"the tensors of {layer} do not fit {self.bits} bits in groups of {self.group_size}")


def unpack(words: Tensor, bits: int, *, along: int) -> Tensor:
    """int32 words (a, b) -> the unsigned fields in them, int32, that dimension 32 / bits times as long."""
    shifts = torch.arange(0, WORD, bits, dtype=torch.int32)
    fields = (words.unsqueeze(along + 1) >> shifts.reshape((-1, 1) if along == 0 else (1, -1))) & (2**bits - 1)
    return fields.flatten(along, along + 1)


def packed_config(bits: int, group_size: int, *, symmetric: bool, ignore: Collection[str]) -> QuantizationConfig:
    """The compressed-tensors configuration of integer weights, one scale per group, or per output (group_size -1)."""
    grouped = group_size > 0
    weights = QuantizationArgs(
        num_bits=bits,
        type=QuantizationType.INT,
        symmetric=symmetric,
        group_size=group_size if grouped else None,
        strategy=QuantizationStrategy.GROUP if grouped else QuantizationStrategy.CHANNEL,
    )
    layout = CompressionFormat.pack_quantized.value
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, format=layout)
    return QuantizationConfig(
        config_groups={"group_0": scheme},
        ignore=sorted(ignore),
        format=layout,
        quantization_status=QuantizationStatus.COMPRESSED.value,
    )


def left_alone(names: Collection[str]) -> list[str]:
    """Modules with a plain weight, and the output head unless it is quantized: it may share the embedding's weight."""
    plain = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}
    head = set() if "lm_head.qweight" in names else {"lm_head"}
    return sorted(plain | head)
