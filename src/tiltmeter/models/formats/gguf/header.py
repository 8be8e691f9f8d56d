"""What a GGUF file says about itself: settings, vocabulary, and the type of every tensor. No weight is read.

Read with llama.cpp's own `gguf` package, under two guards more: every access is checked against the file's length, and
their number is limited, so that a file that ends early, or lies about a length, is an error rather than a wrong array
or a loop that fills the memory. Nothing in a GGUF file can run code; texts in it are shown with `repr`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiltmeter.errors import UserError, missing_extra
from tiltmeter.models.formats.gguf.source import in_parts

MAGIC = b"GGUF"
LFS_POINTER = b"version https://git-lfs"
PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # types that hold values, not blocks
MOST_VALUES = 5_000_000  # in a header; the largest vocabularies with their merges make about 1.5 million
FACTORS = {"long_factor": "rope_factors_long.weight", "short_factor": "rope_factors_short.weight"}
FREQUENCIES = "rope_freqs.weight"  # one factor per pair of dimensions: Llama 3.1's scaling, worked out
BROKEN = (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, OSError)  # what gguf raises


@dataclass(frozen=True)
class Header:
    """A GGUF file without its weights.

    Attributes:
        metadata: key -> number, text, truth value, or list of them.
        types: tensor name -> how it is stored ("Q4_K", "F32" …).
        shapes: tensor name -> shape as torch has it, outputs first.
        rotary: the factors by which rotary positions are scaled, of the names in FREQUENCIES and FACTORS.
    """

    metadata: dict[str, Any]
    types: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    rotary: dict[str, Any]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def setting(self, key: str) -> Any:
        """`key` under the architecture's name ("llama.rope.freq_base"); None where the file does not say."""
        return self.metadata.get(f"{self.architecture}.{key}")

    @property
    def counts(self) -> dict[str, int]:
        """Tensors of each type, the quantized ones first, then the most frequent."""
        counted = Counter(self.types.values())
        return {kind: counted[kind] for kind in sorted(counted, key=lambda kind: (kind in PLAIN, -counted[kind], kind))}


def read_header(path: Path, model: str) -> Header:
    """The header of a GGUF file. Raises UserError for a file that is none, is broken, or is one of several parts, and
    for tensor types that the gguf package cannot turn into numbers."""
    gguf = package()
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise UserError(f"{model} is a git-lfs pointer, not the GGUF file itself", fix="fetch the file: git lfs pull")
    if start[: len(MAGIC)] != MAGIC:
        raise UserError(
            f"{model} is not a GGUF file (it does not begin with {MAGIC.decode()!r})",
            fix="name a file that llama.cpp can load, or a folder that save_pretrained wrote",
        )

    class Reader(gguf.GGUFReader):  # type: ignore[misc,name-defined]
        read = 0

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            found = super()._get(offset, dtype, count, override_order)
            self.read += 1
            if self.read > MOST_VALUES:
                raise ValueError(f"its header promises more than {MOST_VALUES:,} values")
            if len(found) < int(count):
                raise ValueError(f"it ends within what it promises, after {len(self.data):,} bytes")
            return found

    try:
        reader = Reader(path)
        if reader.byte_order == "S":
            raise ValueError("it was written for machines of the other byte order")
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
        shapes = {tensor.name: tuple(int(n) for n in reversed(tensor.shape)) for tensor in reader.tensors}
        rotary = {
            tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(-1)
            for tensor in reader.tensors
            if tensor.name in (FREQUENCIES, *FACTORS.values())
        }
    except (NotImplementedError, *BROKEN) as error:
        raise UserError(f"{model} is a broken GGUF file: {str(error)[:200]!r}", fix="fetch the file again") from None
    n_parts = metadata.get("split.count")
    if isinstance(n_parts, int) and n_parts > 1:
        raise in_parts(model, n_parts, path.stem)
    for kind in set(kinds.values()):
        _refuse_unreadable(gguf, kind, model)
    return Header(metadata, {name: kind.name for name, kind in kinds.items()}, shapes, rotary)


def package() -> Any:
    """The gguf package. Raises UserError where it is not installed."""
    try:
        import gguf
    except ImportError:
        raise missing_extra("gguf", "gguf", "reading a GGUF file") from None
    return gguf


def _refuse_unreadable(gguf: Any, kind: Any, model: str) -> None:
    import numpy as np

    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros((1, block_bytes), dtype=np.uint8), kind)
    except NotImplementedError:
        raise UserError(
            f"{model} holds tensors of the type {kind.name}, which the gguf package cannot read",
            fix="pip install --upgrade gguf; or name a file of another type, such as Q4_K_M",
        ) from None
