"""Which strategies are controls: they measure what mere repetition or a dtype does, and accelerate nothing.

The one definition, read by the report, the gate, the choice and the findings.
"""

from __future__ import annotations

from functools import lru_cache

from tiltmeter.errors import UserError
from tiltmeter.strategies.chain import parse
from tiltmeter.study import CHECKPOINT

CONTROL_ROLES = ("control", "dtype", "decoding")


@lru_cache(maxsize=1024)
def is_control(strategy: str) -> bool:
    """Whether a canonical strategy is a control: anything measured again, or a chain of controls alone.

    `int4+assisted` accelerates (INT4 changes the answers); `int4+rerun` and `rerun+int4` measure INT4's own noise. A
    strategy that is not installed here is taken for an acceleration: it is judged, not left out.
    """
    if strategy.startswith(CHECKPOINT):
        return False
    try:
        roles = [part.role for part in parse(strategy).parts]
    except UserError:
        return False
    return "control" in roles or (bool(roles) and all(role in CONTROL_ROLES for role in roles))
