"""The facts of a variant: proof that it acted, text quality, speed. Stored as RUN/variants/NAME.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, field_serializer, field_validator

from tiltmeter.messages import Message, as_json
from tiltmeter.schema.base import Number, Sentence, Stored
from tiltmeter.schema.fidelity import Fidelity
from tiltmeter.schema.place import Place


class Difference(Stored):
    """One way in which a ready-made checkpoint is asked something else than its base."""

    about: str
    """tokenizer, chat template, end tokens, context length, architecture or dtype."""
    text: Sentence
    """The sentence for the run."""
    incomparable: tuple[str, ...] = ()
    """Kinds of requests (older documents: benchmarks) whose paired change does not show the compression alone."""
    chat_only: bool = False
    """It concerns prompts in chat format only."""


class Proof(Stored):
    """Evidence that a strategy acted. Each strategy adds figures of its own; they are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    summary: Sentence | None = None
    """One readable line."""
    differences: tuple[Difference, ...] = ()
    """What else differs between a ready-made checkpoint and its base."""
    control: Sentence | None = None
    """What the variant is where it answers the probe questions as its base does: the same model in another engine."""
    probe_logprobs: list[float] | None = None
    """What a served model answered to the probe questions, in nats."""

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Proof:
        """From what a strategy found: sentences, in whatever it holds, as data."""
        return cls.model_validate(_plain(found))

    @property
    def evidence(self) -> dict[str, Any]:
        """Every stored figure but the summary, in the order it was stored."""
        return {name: value for name, value in self.as_stored().items() if name != "summary"}

    def as_stored(self) -> dict[str, Any]:
        """What was stored, nothing added."""
        return self.model_dump(mode="json", exclude_unset=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return as_json(value) if isinstance(value, Message) else value


class Acceptance(Stored):
    """Assisted decoding: what was guessed while answers were written, and how much of it the model took."""

    attribute: str = ""
    """Demographic attribute; "" for all answers."""
    group: str = ""
    """Group of the attribute."""
    answers: int = 0
    """Answers that were guessed at."""
    guessed: int = 0
    """Tokens proposed."""
    rate: Number = float("nan")
    """Share of them accepted."""
    low: Number = float("nan")
    """Lower end of the rate's 95 % interval, whole clusters of items resampled."""
    high: Number = float("nan")
    """Upper end."""
    tokens_per_forward: Number = float("nan")
    """New tokens for each forward of the model: 1 where nothing is accepted. What a speed-up can be at most."""


class AnswerQuality(Stored):
    """How a variant's own answers read in one generating cell. Shares lie between 0 and 1."""

    key: str | None = None
    """Key of the cell these figures are of."""
    n: int = 0
    """Answers."""
    words: Number = float("nan")
    """Mean words per answer."""
    eos_rate: Number = float("nan")
    """Share ended by an end token."""
    repeated: Number = float("nan")
    """Mean share of word 4-grams that occurred before in the same answer."""
    empty: Number = float("nan")
    """Share without any text."""
    unparsed: Number = float("nan")
    """Share from which the benchmark reads nothing."""
    contradictory: Number = float("nan")
    """Share that says two opposite things."""
    other_script: Number = float("nan")
    """Share mostly written in letters that the prompt does not use."""
    base_logprob: Number = float("nan")
    """Mean log-likelihood per token of the answers under the base model, in nats."""
    base_logprob_n: int = 0
    """Answers behind it."""
    base_logprobs: tuple[float, ...] = ()
    """The same of each answer of the sample."""
    acceptance: tuple[Acceptance, ...] = ()
    """Of assisted decoding: overall first, then each group; empty where nothing guessed."""


class TextQuality(Stored):
    """Does the variant still write? Evidence for the coherence gate."""

    perplexity: Number = float("nan")
    """exp(mean negative log-likelihood per token) on the given text."""
    n_tokens: int = 0
    """Tokens it is over."""
    n_passages: int = 0
    """Passages of the text."""
    text: str = ""
    """File name of the text."""
    text_sha256: str = ""
    """Its SHA-256."""
    key: str | None = None
    """What was measured: digest of weights, settings, dtype and text; another key is measured anew."""
    answers: dict[str, AnswerQuality] = Field(default_factory=dict)
    """Generating cell ("benchmark format decoding") -> how its answers read."""


def answers_of(place: Place) -> str:
    """Name of a generating cell among the `answers` of a variant's text quality."""
    return f"{place.benchmark} {place.format} {place.decoding}"


class Timing(Stored):
    """A quantity over timed rounds."""

    median: Number = float("nan")
    """Median of the rounds."""
    low: Number = float("nan")
    """Smallest of the rounds."""
    high: Number = float("nan")
    """Largest of the rounds."""


class Speed(Stored):
    """What was measured of a variant by `tiltmeter speed`, base and variant in turn."""

    prefill_tokens_per_s: Number = float("nan")
    """Prompt tokens per second, median; null where a number would mislead (`note` says why)."""
    decode_tokens_per_s: Number = float("nan")
    """Generated tokens per second, median; null likewise."""
    strategy: str = ""
    """Canonical strategy."""
    setting: Mapping[str, object] = Field(default_factory=dict)
    """Sequences, tokens, rounds; device, dtype and threads as they ran."""
    prefill: Timing | None = None
    """Prompt tokens per second over the rounds."""
    decode: Timing | None = None
    """Generated tokens per second over the rounds."""
    prefill_speedup: Timing | None = None
    """Ratio to the base of the same round."""
    decode_speedup: Timing | None = None
    """Ratio to the base of the same round."""
    memory_bytes: int | None = None
    """Weights in memory, quantization constants included; null where simulated."""
    disk_bytes: int | None = None
    """The checkpoint that was loaded."""
    peak_bytes: int | None = None
    """Peak memory; null where not measured or simulated."""
    note: Sentence = ""
    """Why numbers are missing."""
    proof: str = ""
    """The proof's summary when it was timed."""
    first_token: Timing | None = None
    """Seconds from one prompt to the token after it; null where it was not timed."""


class Variant(Stored):
    """A model under one strategy, with what is known of it."""

    model: str
    """Hub id or folder, as the user gave it."""
    strategy: str
    """Canonical strategy; "none" is the base."""
    proof: Proof = Proof()
    """Evidence that the strategy acted."""
    notes: tuple[Sentence, ...] = ()
    """What must be said beside its numbers."""
    settings: Mapping[str, object] = Field(default_factory=dict)
    """All settings of the strategy, defaults included."""
    dtype: str | None = None
    """What it ran in."""
    device: str | None = None
    """Where it ran."""
    weight_hash: str | None = None
    """Digest of the weights, or of what a server reports."""
    key: str | None = None
    """What these facts belong to: digest of weights, strategy, settings and dtype; another key makes all anew."""
    text_quality: TextQuality | None = None
    """Whether it still writes; null: not measured."""
    speed: Speed | None = None
    """Measured by `tiltmeter speed`; null: not measured."""
    fidelity: Fidelity | None = None
    """How far its distributions lie from the base's; null: not measured."""

    @field_validator("text_quality", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return value or None

    @field_serializer("proof")
    def _as_stored(self, proof: Proof) -> dict[str, Any]:
        return proof.as_stored()

    @field_serializer("text_quality")
    def _none_is_empty(self, quality: TextQuality | None) -> dict[str, Any]:
        return quality.model_dump(mode="json", exclude_unset=True) if quality else {}
