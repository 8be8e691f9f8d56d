"""Which strategies are controls: they measure what mere repetition or a dtype does, and accelerate nothing.

The one definition, read by the report, the gate, the choice and the findings.
"""

from __future__ import annotations

from functools import lru_cache

from tiltmeter.errors import UserError
from tiltmeter.strategies.chain import parse
from tiltmeter.study import kind_of


@lru_cache(maxsize=1024)
def is_control(strategy: str) -> bool:
    """Whether a canonical strategy is a control: anything measured again, or a chain of controls alone.

    `int4+assisted` accelerates (INT4 changes the answers); `int4+rerun` and `rerun+int4` measure INT4's own noise. A
    strategy that is not installed here is taken for an acceleration: it is judged, not left out.
    """
    if kind_of(strategy) == "checkpoint":
        return False
    try:
        return parse(strategy).is_control
    except UserError:
        return False
