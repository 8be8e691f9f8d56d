"""What a benchmark asks about, as a run's inputs keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Item:
    """The unit a benchmark scores.

    Attributes:
        id: unique within the benchmark and stable across runs and machines.
        cluster: items of one cluster are resampled together.
        groups: demographic attribute -> group (``{"age": "20", "race": "Black"}``); may be empty.
        data: what the outcome needs besides the answers (ground truth, options, texts).
        variation: "" for the protocol's own item; else the name of a robustness variation
            (``--robust``), scored apart from the others.
        counted: False for items outside the published score (DiscrimEvalGen's race rows).
    """

    id: str
    cluster: str
    groups: Mapping[str, str]
    data: Mapping[str, Any]
    variation: str = ""
    counted: bool = True
