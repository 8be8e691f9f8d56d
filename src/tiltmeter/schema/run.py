"""What a run folder says of itself: run.json, a finished cell's counts, what failed."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic reads it before Python 3.12

from tiltmeter.schema.base import Sentence, Stored
from tiltmeter.schema.place import Place

SCHEMA: Final = "tiltmeter/run/1"


_OPEN = ConfigDict(extra="allow", use_attribute_docstrings=True)  # a later version may say more


@with_config(_OPEN)
class Gpu(TypedDict):
    """One accelerator."""

    name: str
    """As its driver calls it."""
    memory_bytes: int
    """All of its memory."""


@with_config(_OPEN)
class Hardware(TypedDict, total=False):
    """Where answers were computed."""

    machine: str
    """Kind of processor: x86_64, arm64."""
    system: str
    """Operating system."""
    cpu: str
    """The processor's own name."""
    cores: int | None
    """Logical cores; null where the system does not tell."""
    threads: int
    """That torch computed with."""
    memory_bytes: int
    """Main memory; absent where the system does not tell."""
    gpus: list[Gpu]
    """Those that torch sees."""


@with_config(_OPEN)
class HardwareKind(TypedDict, total=False):
    """What of the hardware can change an answer."""

    machine: str | None
    """Kind of processor."""
    cpu: str | None
    """The processor's own name."""
    threads: int | None
    """That torch computed with."""
    gpus: list[str]
    """Names of the accelerators."""


class DataFacts(Stored):
    """The copy of a benchmark's data that was used."""

    source: str = ""
    """Where it is published."""
    revision: str | None = None
    """Pinned revision, if it has one."""
    licence: str = ""
    """Licence of the data."""
    rows: int | None = None
    """Items found."""
    files: dict[str, str] = Field(default_factory=dict)
    """File -> SHA-256."""
    published: bool = False
    """Whether every file is the published one."""
    notes: tuple[Sentence, ...] = ()
    """What must be said wherever numbers from this copy appear."""


class Failure(Stored):
    """A cell, or all cells of a variant, that could not be computed."""

    model: str
    """Hub id or folder."""
    strategy: str
    """Canonical strategy."""
    reason: Sentence
    """What went wrong."""
    cells: tuple[str, ...] | Literal["all"] = "all"
    """Cells as "format-decoding benchmark"; "all" for the whole variant."""

    def concerns(self, place: Place) -> bool:
        """Whether the cell at `place` is among those that could not be computed."""
        if (self.model, self.strategy) != (place.model, place.strategy):
            return False
        return self.cells == "all" or cell_of(place) in self.cells


def cell_of(place: Place) -> str:
    """A cell of a variant, as failures name it."""
    return f"{place.format}-{place.decoding} {place.benchmark}"


class Done(Stored):
    """done.json: a finished cell."""

    seconds: float = 0.0
    """Wall time of its answers, in seconds."""
    tokens: int = 0
    """Tokens asked."""
    n_answers: int = 0
    """Answers committed."""
    notes: tuple[Sentence, ...] = ()
    """What the engine must say about them."""


class Environment(Stored):
    """Where answers come about."""

    versions: dict[str, str] = Field(default_factory=dict)
    """Installed versions of what can change a number."""
    hardware: HardwareKind = Field(default_factory=HardwareKind)
    """What of it can change one: machine, CPU, threads, names of GPUs."""


class RunRecord(Stored):
    """run.json: written before the first answer; it grows as cells are planned, so it is not frozen."""

    model_config = ConfigDict(frozen=False, extra="allow", validate_assignment=True)

    schema_: Literal["tiltmeter/run/1"] = Field(default=SCHEMA, alias="schema")
    """Version of the run folder."""
    started: str = ""
    """When the run began, ISO 8601, UTC."""
    cells: list[str] = Field(default_factory=list)
    """Folders of the cells in the order the study asked; the newest cell of a row is last."""
    notes: dict[str, list[Sentence]] = Field(default_factory=dict)
    """Cell folder -> what must be said about it."""
    batch_tokens: int | None = None
    """Tokens a forward pass may hold; fixed by the first variant that is loaded."""
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Variant -> kind of request -> how the engine computes it, as its self-test chose at the first start."""
    study: dict[str, Any] = Field(default_factory=dict)
    """What was asked: every field of `tiltmeter.study.Study`."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Installed versions of what can change a number."""
    hardware: Hardware = Field(default_factory=Hardware)
    """CPU, cores, threads, memory (bytes), GPUs."""
    more_hardware: list[Hardware] | None = None
    """Of the cluster's workers that differ from the first, where there are any."""
    environments: list[Environment] = Field(default_factory=list)
    """All that answers of this run come of, in the order of first use."""
    answered_in: dict[str, list[int]] = Field(default_factory=dict)
    """Cell folder -> which of `environments` its answers come of."""
    data: dict[str, DataFacts] = Field(default_factory=dict)
    """Benchmark -> the copy of its data that was used."""
