"""What a strategy is: one file, one frozen dataclass whose fields are its settings.

A strategy acts at up to six moments, each a method that does nothing by default:

    check(context)                     refuse a model, text or device that it cannot work with, from configuration,
                                       tokenizer and settings alone; asked before a run computes anything
    before_loading(context)            look at the checkpoint first; replace it by a compressed one (an
                                       artifact), or calibrate scales that are attached after loading
    loading_options(context)           keyword arguments for ``from_pretrained`` (weight quantization, dtype)
    after_loading(variant, context)    change the loaded model, its cache or its decoding
    prove(variant, context)            evidence that it acted, or ``DidNothing``
    not_exercised(request_kind)        why it cannot have acted on such requests, if that is so

The strategies of a chain run each moment from left to right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tiltmeter.messages import Message, Text

if TYPE_CHECKING:  # torch and transformers are imported only where a model is touched
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from tiltmeter.models.artifacts import Artifact, Artifacts
    from tiltmeter.models.converted import Converted
    from tiltmeter.models.variant import LoadedVariant

RequestKind = Literal["sequence", "options", "generation"]
Setting = str | int | float | bool  # one setting of a strategy
Role = Literal["none", "dtype", "structure", "pruning", "weights", "cache", "decoding", "control"]

Target = Literal["structure", "weights", "cache", "dtype", "decoding"]
ACTS_ON: Mapping[Role, Target] = {
    "structure": "structure",
    "weights": "weights",
    "pruning": "weights",
    "cache": "cache",
    "dtype": "dtype",
    "decoding": "decoding",
}

SIMULATED = Message("note.simulated")


class VariantFailed(Exception):
    """A variant could not be made, through no mistake of the user's: its cells fail, the others go on."""


class DidNothing(VariantFailed):
    """The strategy ran without error and left the model as it was."""


class LoadFailed(VariantFailed):
    """A library failed while it made the variant; the original error is the cause."""


@dataclass(frozen=True)
class Part:
    """A figure of several figures of its own."""


@dataclass(frozen=True)
class Evidence:
    """What a strategy shows for having acted: one readable line, and figures of its own as fields of a subclass."""

    summary: Text

    @property
    def figures(self) -> dict[str, object]:
        """All of it by name, in the order of the fields: what a run keeps."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: asdict(value) if isinstance(value, Part) else value for name, value in found.items()}


def figures(found: Evidence | Mapping[str, object]) -> dict[str, object]:
    """Of what `prove` gave; a plain mapping with a "summary" is taken as it is."""
    return found.figures if isinstance(found, Evidence) else dict(found)


@dataclass
class Context:
    """What the strategies of one chain see and hand on while a variant is being made.

    Attributes:
        model: what the user typed (hub id or folder).
        checkpoint: folder of the checkpoint as it stands after the strategies to the left.
        config: the base checkpoint's configuration.
        device: where the model will run ("cpu", "cuda", "cuda:1" …).
        dtype: the dtype the variant runs in ("float32", "bfloat16", "float16").
        base_dtype: the dtype the base of this variant runs in.
        calibration: text file (or data set name) named for the run; None: the built-in text.
        artifacts: cache of compressed checkpoints and calibrated scales.
        seed: the run's seed; calibration draws depend on it.
        lineage: what made `checkpoint`, for cache keys: weight hash, then one entry per step.
        expected_probe: probe logits that the model of `checkpoint` gave before it was saved.
        made: strategy -> the artifact it made or found in the cache.
        converted: how the checkpoint was converted to be loaded; None where it was not.
        intact: share of groups of four columns with two zeros that the last step left; None: not known.
        found: what a strategy learned at an earlier moment and needs later (by strategy name).
        notes: sentences the run must show.
    """

    model: str
    checkpoint: Path
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    device: str
    dtype: str
    base_dtype: str
    calibration: str | None
    artifacts: Artifacts
    lineage: tuple[str, ...]
    progress: Callable[[str], None]
    seed: int = 0
    expected_probe: Path | None = None
    made: dict[str, Artifact] = field(default_factory=dict)
    converted: Converted | None = None
    intact: float | None = None
    found: dict[str, object] = field(default_factory=dict)
    notes: list[Text] = field(default_factory=list)


@dataclass(frozen=True)
class Strategy:
    """Base of all strategies. Class attributes are printed by ``tiltmeter list strategies``.

    `role` is one of

        weights    changes the weights: quantization, noise. Its probe logits must differ from the base's
        structure  takes whole blocks or experts out; comes before `pruning`. The same proof
        pruning    sets weights to zero; comes before `weights`, which would round what is then cut. The same proof
        cache      changes what attention reads of past tokens. The same proof
        dtype      another floating-point type: a control, it accelerates nothing by a method of its own. The same proof
        decoding   changes how text is generated and no distribution: a control that must change nothing
        control    changes nothing: the same variant with other batches and sampling seeds, whose noise it measures
        none       the base; left out of chains
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # one line: what it does
    source: ClassVar[str]  # paper and address
    library: ClassVar[str]  # who does the work
    hardware: ClassVar[str]  # where it runs
    paper_setting: ClassVar[str]  # what the study ran, or that it did not
    role: ClassVar[Role]  # what kind of thing it does, see below; order rules and proofs follow from it
    aliases: ClassVar[tuple[str, ...]] = ()  # the study's own names
    shorthand: ClassVar[str | None] = None  # setting that may be given without its name: dtype:bfloat16
    bare: ClassVar[bool] = False  # its settings may stand without its name: ctk=q8_0,ctv=q8_0
    makes_checkpoint: ClassVar[bool] = False  # acts by a compressed checkpoint on disk and by nothing else
    seeded: ClassVar[bool] = False  # another `seed` is a replicate of the same method, no method of its own
    lists: ClassVar[tuple[str, ...]] = ()  # settings whose value may hold a "+", which else begins the next strategy
    needs: ClassVar[tuple[str, ...]] = ()  # beside its library: "a GPU", "a mixture of experts" …; shown by `list`
    read_by: ClassVar[tuple[str, ...]] = ()  # engines that read the checkpoint it makes, as their documents say
    rounds_activations: ClassVar[bool] = False  # beside weights: what enters a layer is rounded too
    simulated: ClassVar[bool] = False  # runs dense here: answers change as they would, speed and memory do not

    def __post_init__(self) -> None:
        """Raises UserError for settings that no model could take; whoever adds checks calls this one too."""

    @property
    def is_control(self) -> bool:
        """Whether it measures noise or a null effect instead of an acceleration."""
        return self.role in ("control", "dtype", "decoding")

    @property
    def redraws(self) -> bool:
        """Whether batches and sampling seeds are drawn anew, which changes nothing else."""
        return self.role == "control"

    @property
    def is_base(self) -> bool:
        """Whether it stands for nothing applied."""
        return self.role == "none"

    @property
    def acts_on(self) -> Target | None:
        """What of a model it changes; None: nothing."""
        return ACTS_ON.get(self.role)

    @property
    def prunes(self) -> bool:
        """Whether it sets weights to zero."""
        return self.role == "pruning"

    @property
    def quantizes(self) -> bool:
        """Whether it changes weights otherwise than by setting some to zero."""
        return self.acts_on == "weights" and not self.prunes

    @property
    def changes_logits(self) -> bool:
        """Whether a variant whose probe logits equal its base's is one in which the strategy did nothing."""
        return self.acts_on in ("weights", "structure", "cache", "dtype")

    @property
    def can_take_back(self) -> bool:
        """Whether tokens that turn out wrong can be taken out of the cache again."""
        return True

    @property
    def as_published(self) -> bool:
        """Whether these settings may be set beside what the study printed under this name."""
        return True

    @property
    def calibrates(self) -> bool:
        """Whether these settings look at calibration text, so that its draw matters."""
        return False

    @property
    def runs_in(self) -> str | None:
        """The floating-point type the model must run in; None: its base's."""
        return None

    def cannot_follow(self, earlier: Sequence[Strategy]) -> str | None:
        """Why this strategy cannot come after `earlier` in a chain; None when it can."""
        return None

    def check(self, context: Context) -> None:
        """Raises UserError for what can be known to be impossible before any weight is read. Cheap."""

    def before_loading(self, context: Context) -> None:
        """Look at or replace `context.checkpoint` before anything is loaded for answering."""

    def loading_options(self, context: Context) -> Mapping[str, object]:
        """Keyword arguments for ``AutoModelForCausalLM.from_pretrained``."""
        return {}

    def after_loading(self, variant: LoadedVariant, context: Context) -> None:
        """Change the loaded variant in place."""

    def prove(self, variant: LoadedVariant, context: Context) -> Evidence:
        """Evidence that it acted. Raises DidNothing."""
        return Evidence(self.summary)

    def not_exercised(self, request_kind: RequestKind) -> Text | None:
        """Why no answer to such a request can differ from the base's by this strategy; None: it can."""
        return None

    @property
    def speed_is_real(self) -> Literal[True] | Text:
        """True, or the sentence that stands where a measured speed would mislead."""
        return SIMULATED if self.simulated else True

    @property
    def settings(self) -> dict[str, Setting]:
        """All settings, defaults included."""
        return asdict(self)


def refuse_second_cache(name: str, earlier: Sequence[Strategy]) -> str | None:
    """Order rule of every strategy of the cache: one per chain."""
    other = next((part.name for part in earlier if part.acts_on == "cache"), None)
    return f"one KV cache cannot be both {other} and {name}" if other else None
