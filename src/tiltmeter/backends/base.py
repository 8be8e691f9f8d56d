"""What a backend is: a model's name becomes something that can be asked. No torch here.

The pipeline knows four moments:

    identity(source)               tokenizer and hash of a model, before anything is loaded or computed
    load(spec)                     the variant, with proof that it is one
    engine(variant, budget)        what answers requests about it (`Answering`)
    release(variant)               memory is free again

A backend registers itself with ``@register("backend", name)``; `tiltmeter list backends` prints its class attributes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tiltmeter.errors import UserError
from tiltmeter.messages import Text
from tiltmeter.models import reading
from tiltmeter.models.address import is_address
from tiltmeter.models.resolve import resolve
from tiltmeter.scoring import prompts
from tiltmeter.scoring.requests import Answer, Format, Render, Request

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.scoring.remembered import Outcome
    from tiltmeter.strategies.base import Strategy
    from tiltmeter.study import Study, VariantSpec


class BackendFailed(Exception):
    """A backend broke while it answered, through no mistake of the user's: the cell fails, the others go on."""


@dataclass(frozen=True)
class Identity:
    """What makes a model's prompts and answers its own, known before its weights are loaded.

    Attributes:
        weight_hash: SHA-256 of the weights; where they cannot be seen, of everything that is known instead.
        settings: joins the strategy's settings in rows and in the key of a cell, so that two backends never share one.
        render: how prompts become text where the tokenizer does not say it: a server applies a template of its own.
    """

    tokenizer: Any
    weight_hash: str
    dtype: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    render: Callable[[Format], tuple[Render, list[Text]]] | None = None

    def renderer(self, format: Format) -> tuple[Render, list[Text]]:
        """How prompts of one format become text, and notes the run must show. Raises UserError where they cannot."""
        return self.render(format) if self.render else prompts.renderer(format, self.tokenizer)


class Answering(Protocol):
    """What the pipeline asks; `scoring.engine.Engine` is the built-in one.

    Attributes:
        stats: see `scoring.engine.Stats`.
        notes: sentences the run must show.
        outcomes: of its self-tests, by kind of request; empty where it has none. What is put here before the first
            answer is taken as it is.

    One that has `rows`, sequences decoded side by side, says that its plan follows from them, the token budget, the
    requests and the salt alone: variants of one model then share it.
    """

    stats: Any
    notes: list[Text]
    outcomes: dict[str, Outcome]

    def plan(self, requests: Iterable[Request], salt: str = "") -> list[list[int]]: ...

    def answer(self, requests: Sequence[Request]) -> list[Answer]: ...


class Backend(ABC):
    """Base of all backends.

    Args:
        study: what the run measures.
        probed: a base's name -> what it answered to the probe questions in this run (nats); None: it was not asked.
        say: gets one line per step that may take long.
    """

    about: ClassVar[str]  # one line: what it is
    runs_on: ClassVar[str]
    source: ClassVar[str]  # who does the work

    def __init__(
        self, study: Study, probed: Callable[[str], Sequence[float] | None], say: Callable[[str], None]
    ) -> None:
        self.study, self.probed, self.say = study, probed, say

    @abstractmethod
    def check(self) -> None:
        """Raises UserError for a library that is missing, or a strategy of the study that cannot work here."""

    @abstractmethod
    def identity(self, source: str) -> Identity:
        """Raises UserError for a model that is absent or cannot be asked: nothing has been computed then."""

    @abstractmethod
    def load(self, spec: VariantSpec) -> LoadedVariant:
        """The variant, proven. Raises UserError, or `strategies.base.VariantFailed`."""

    @abstractmethod
    def engine(self, variant: LoadedVariant, batch_tokens: int) -> Answering: ...

    @abstractmethod
    def auto_batch_tokens(self, variant: LoadedVariant) -> int:
        """The token budget of a run whose first variant this is, where none was given."""

    def release(self, variant: LoadedVariant) -> None:  # noqa: B027  (most hold nothing)
        """Frees what the variant holds; it cannot be asked afterwards."""

    def base_of(self, source: str) -> str | None:
        """The checkpoint that a ready-made one is compared with; None for a model of the study itself, and where the
        base is served."""
        base = self.study.models[0]
        return None if source in self.study.models or is_address(base) else base

    def dtype_of(self, source: str) -> str:
        """The floating-point type that a checkpoint runs in: its base's, by the rule of `tiltmeter.variants.apply`."""
        base = self.base_of(source) or source
        config = reading.load_config(resolve(base), base)
        return reading.pick_dtype(self.study.dtype, reading.pick_device(self.study.device), config)

    def refuse(self, why: Callable[[Strategy], str | None], fix: str, served: bool = False) -> None:
        """Raises UserError for the first strategy of a checkpoint (`served`: of an address) that `why` objects to."""
        for spec in self.study.variants():
            if is_address(spec.source) is not served:
                continue
            for part in spec.chain.parts:
                reason = why(part)
                if reason:
                    raise UserError(f"{spec.strategy} cannot run there: {reason}", fix=fix)
