"""What a run is asked to measure: the only place where defaults live.

A `Study` comes from the command line, from a YAML file or from Python; all three pass here and are
checked here, before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from tiltmeter.errors import UserError
from tiltmeter.files.strict_yaml import read_yaml
from tiltmeter.models.address import refuse_secret
from tiltmeter.registry import find, known
from tiltmeter.schema.place import NONE, Kind, kind_of, ready_made
from tiltmeter.strategies.chain import parse

if TYPE_CHECKING:
    from tiltmeter.strategies.chain import Chain

EVERY = "all"  # as a benchmark's name: all of them
LARGEST = 2**53  # whole numbers that every reader of the stored study holds exactly

# 0, true and .inf are values of their own here: never "not given", never 1
Count = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
Margin = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class VariantSpec(BaseModel):
    """One model under one strategy. `source` is what is asked: the model, a ready-made checkpoint or an address."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    model: str
    strategy: str
    source: str

    @property
    def kind(self) -> Kind:
        return kind_of(self.strategy)

    @property
    def is_base(self) -> bool:
        return self.kind == "base"

    @property
    def chain(self) -> Chain:
        """The strategies to apply; a ready-made checkpoint is loaded as it is."""
        return parse(NONE if self.kind == "checkpoint" else self.strategy)


class Study(BaseModel):
    """Settings of a run. Frozen: two studies are the same when their fields are.

    limit: about so many items per benchmark (None: all); samples: answers per prompt when sampling
    (the protocol's 5); margins: benchmark -> smallest effect of interest, overriding the defaults;
    checkpoints: ready-made variants of the one model: folder, hub id, GGUF file, or the address of a served endpoint;
    orders: all asks every multiple-choice item in all cyclic orders of its options, averaged per item;
    backend: what answers about checkpoints (`tiltmeter list backends`); endpoints are asked where they are served;
    fidelity: measure how far variants' distributions lie from the base's (with text_quality only);
    tokenizer: whose tokenizer makes an endpoint's prompts (None: the base's);
    budget: tokens that served models may take in all (None: no limit).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[Name, ...]
    strategies: tuple[Name, ...] = ()
    checkpoints: tuple[Name, ...] = ()
    benchmarks: tuple[Name, ...] = ()
    format: Literal["plain", "chat", "both"] = "plain"
    decoding: Literal["greedy", "sampling", "both"] = "greedy"
    samples: StrictInt = Field(default=5, ge=1, le=100)
    limit: Count | None = None
    limits: dict[str, Count] = Field(default_factory=dict)
    seed: StrictInt = Field(default=0, ge=0, le=LARGEST)
    data: str = "~/.cache/tiltmeter/data"
    backend: str = "transformers"
    tokenizer: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: Count | None = None
    budget: Count | None = None
    robust: StrictBool = False
    orders: Literal["one", "all"] = "one"
    calibration: str | None = None
    calibration_seeds: StrictInt = Field(default=1, ge=1, le=20)
    text: str | None = None
    text_quality: StrictBool = True
    fidelity: StrictBool = True
    margins: dict[str, Margin] = Field(default_factory=dict)
    correction: Literal["holm", "bh"] = "holm"
    draws: StrictInt = Field(default=10_000, ge=100, le=10_000_000)

    @model_validator(mode="before")
    @classmethod
    def _no_secret(cls, data: Any) -> Any:
        """Every text of a study is kept in run.json and in messages: none may hold a password or a key."""
        for value in data.values() if isinstance(data, dict) else ():
            for text in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(text, str):
                    refuse_secret(text)
        return data

    @field_validator("models")
    @classmethod
    def _some_model(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one model")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _one_base_for_checkpoints(self) -> Study:
        if self.checkpoints and len(self.models) != 1:
            raise ValueError("ready-made checkpoints are compared with exactly one base model")
        return self

    @property
    def formats(self) -> tuple[Literal["plain", "chat"], ...]:
        return ("plain", "chat") if self.format == "both" else (self.format,)

    @property
    def decodings(self) -> tuple[Literal["greedy", "sampling"], ...]:
        return ("greedy", "sampling") if self.decoding == "both" else (self.decoding,)

    def limit_of(self, benchmark: str) -> int | None:
        return self.limits.get(benchmark, self.limit)

    def variants(self) -> list[VariantSpec]:
        """Base first, then every strategy in canonical form, each once; per model.

        Raises UserError for an unknown strategy or setting, or a chain that cannot work.
        """
        chains = [NONE]
        for text in self.strategies:
            chain = parse(text)
            chains.extend(replicate.canonical for replicate in chain.replicates(self.calibration_seeds))
        specs = [
            VariantSpec(model=model, strategy=name, source=model)
            for model in self.models
            for name in dict.fromkeys(chains)
        ]
        specs += [
            VariantSpec(model=self.models[0], strategy=ready_made(path), source=path) for path in self.checkpoints
        ]
        return specs

    def benchmark_names(self) -> list[str]:
        """The chosen benchmarks, checked; none named: those that run by default; `all`: every one there is.

        Raises UserError with the nearest name.
        """
        every = known("benchmark")
        default = [name for name, cls in every.items() if cls.by_default]  # type: ignore[attr-defined]
        for name in (*self.benchmarks, *self.margins, *self.limits):
            if name != EVERY:
                find("benchmark", name)
        named = [one for name in self.benchmarks for one in (every if name == EVERY else (name,))]
        return list(dict.fromkeys(named)) or default

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


def make_study(**settings: Any) -> Study:
    """A checked Study. Raises UserError that names the wrong key and the nearest right one."""
    try:
        return Study(**{key: value for key, value in settings.items() if value is not None})
    except ValidationError as error:
        raise _as_user_error(error) from None


def read_study(path: Path, **overrides: Any) -> Study:
    """A Study from a YAML file; `overrides` (command line options) win. Relative data paths count from here."""
    content = read_yaml(path, "the study file", "start with: models: [NAME]")
    if not isinstance(content, dict):
        raise UserError(f"the study file {path} must hold `key: value` lines", fix="start with: models: [NAME]")
    for key in content:
        if not isinstance(key, str):
            raise UserError(f"a study has no setting called {key!r}", fix="see: tiltmeter run --help")
    for key in ("models", "strategies", "benchmarks", "checkpoints"):
        if isinstance(content.get(key), str):
            content[key] = [content[key]]
    return make_study(**{**content, **{key: value for key, value in overrides.items() if value is not None}})


def _as_user_error(error: ValidationError) -> UserError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(place, Study.model_fields, n=1)
        return UserError(
            f"a study has no setting called {place!r}",
            fix=f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(sorted(Study.model_fields))}",
        )
    message = first["msg"].removeprefix("Value error, ")
    given = f" (given: {str(first['input'])[:80]!r})" if place and not isinstance(first["input"], (dict, list)) else ""
    return UserError(f"study setting {place}: {message}{given}" if place else message, fix="see: tiltmeter run --help")
