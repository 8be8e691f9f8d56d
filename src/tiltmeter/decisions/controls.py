"""Which strategies are controls: they measure what mere repetition or a dtype does, and accelerate nothing.

The one definition, read by the report, the gate, the choice and the findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tiltmeter.errors import UserError
from tiltmeter.schema import Variant
from tiltmeter.schema.place import kind_of
from tiltmeter.strategies.chain import parse


def controls_of(variants: Iterable[Variant]) -> frozenset[str]:
    """Strategies that are controls by what was found: the base's own weights in another engine."""
    return frozenset(variant.strategy for variant in variants if variant.proof.control)


@lru_cache(maxsize=1024)
def is_control(strategy: str, found: frozenset[str] = frozenset()) -> bool:
    """Whether a canonical strategy is a control: anything measured again, or a chain of controls alone.

    `int4+assisted` accelerates (INT4 changes the answers); `int4+rerun` and `rerun+int4` measure INT4's own noise. A
    strategy that is not installed here is taken for an acceleration: it is judged, not left out.

    found: what `controls_of` the run's variants says, for checkpoints and endpoints.
    """
    if strategy in found:
        return True
    if kind_of(strategy) == "checkpoint":
        return False
    try:
        return parse(strategy).is_control
    except UserError:
        return False
