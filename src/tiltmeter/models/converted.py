"""A checkpoint whose format is turned into another one for loading: what was converted, told beside the proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from tiltmeter.messages import Message


@dataclass(frozen=True)
class Converted:
    """What a loaded copy was made of. Formats add fields of their own.

    Attributes:
        summary: the original's format.
        method: "awq", "gptq" or "gguf".
        quantized_layers, layer_names: of the original.
    """

    summary: Message
    method: str
    quantized_layers: int
    layer_names: Sequence[str]

    @property
    def how(self) -> Message:
        """One clause on the conversion."""
        return Message("proof.gguf")

    @property
    def figures(self) -> dict[str, object]:
        """All of it by name: what a run keeps."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
