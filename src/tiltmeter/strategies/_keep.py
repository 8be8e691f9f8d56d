"""``keep=0-3+29+down_proj``: blocks and kinds of layers that a quantizer leaves in high precision.

Grammar     pieces joined by "+": a block's number, a range of blocks (both ends included), or the name of a module
            inside a block (``self_attn``, ``down_proj``).
Trap        the library's own ``ignore`` takes whole module names or patterns that match from the start: "layers.0"
            ignores nothing, silently, and "re:.*layers.1.*" hits blocks 10 to 19. It gets full names from here, and
            the proof holds the layers that were quantized to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tiltmeter.errors import UserError

PIECE = re.compile(r"\d+(-\d+)?|[A-Za-z_][A-Za-z0-9_]*")


def check_grammar(name: str, keep: str) -> None:
    """Raises UserError for a piece that can name nothing."""
    for piece in filter(None, keep.split("+")):
        first, _, last = piece.partition("-")
        if not PIECE.fullmatch(piece) or (last and int(last) < int(first)):
            raise UserError(
                f"{name}: keep={piece!r} names no block and no kind of layer",
                fix=f"for instance {name}:keep=0-3+29 (blocks), or {name}:keep=down_proj",
            )


def kept(name: str, keep: str, layers: Iterable[str]) -> list[str]:
    """The layers of `layers` (full names) that `keep` names, in their order.

    Raises UserError for a piece that names none of them, and where nothing else is left.
    """
    layers = list(layers)
    found: set[str] = set()
    for piece in filter(None, keep.split("+")):
        hit = [layer for layer in layers if _names(piece, layer)]
        if not hit:
            blocks = sorted({_block(layer) for layer in layers})
            kinds = dict.fromkeys(part for layer in layers for part in _inside(layer))
            raise UserError(
                f"{name}: keep={piece} names no layer of this model",
                fix=f"blocks are {blocks[0]}-{blocks[-1]}, kinds of layers: {', '.join(kinds)}",
            )
        found.update(hit)
    if found and len(found) == len(layers):
        raise UserError(f"{name}: keep={keep} keeps every layer, so nothing would be quantized", fix="keep fewer")
    return [layer for layer in layers if layer in found]


def _names(piece: str, layer: str) -> bool:
    first, dash, last = piece.partition("-")
    if first.isdigit():
        return int(first) <= _block(layer) <= int(last if dash else first)
    return piece in _inside(layer)


def _block(layer: str) -> int:
    return next(int(part) for part in layer.split(".") if part.isdigit())


def _inside(layer: str) -> list[str]:
    """The parts of the name after the block's number."""
    parts = layer.split(".")
    return parts[parts.index(str(_block(layer))) + 1 :]
