"""One rule for every random draw: its seed is derived from what the draw is for."""

from __future__ import annotations

import hashlib


def seed_for(*parts: object) -> int:
    """A 63-bit seed from the parts' text, e.g. ``seed_for(run_seed, "sample", item_id, 3)``.

    The same parts give the same seed in every process, order, batch and machine;
    different parts give unrelated seeds (SHA-256).
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
