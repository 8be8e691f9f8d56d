"""One variant of a run as other formats see it: what it is called, its rows, and what is not known of it.

Whatever leaves here is public: folders of this machine and addresses of servers are cut to their last part, and every
text is clean. What no run can tell stands among `Subject.unjudged`; each format must carry it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tiltmeter.decisions.gate import Gate, lacking, variant_checks
from tiltmeter.decisions.policy import Policy
from tiltmeter.errors import UserError
from tiltmeter.evidence.statement import Digest, digest_of, file_name
from tiltmeter.models.address import is_address
from tiltmeter.printed import clean, defined
from tiltmeter.schema import DataFacts, Document, Row, RunFacts, Variant
from tiltmeter.schema.base import Ends
from tiltmeter.schema.place import NONE, is_base, kind_of, ready_made, source_of
from tiltmeter.strategies.chain import parse

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
STANDING = {0: "inside the policy", 1: "outside the policy", 3: "not proven safe"}


@dataclass(frozen=True)
class Subject:
    """One variant.

    Attributes:
        folder: a file name of its own among the run's variants.
        name, base_name: what the variant and its base are called in public.
        rows: its rows; base_rows: the base's, by place.
        gate: the answer under the policy, of this variant and its base.
    """

    folder: str
    name: str
    base_name: str
    run: RunFacts
    variant: Variant
    base: Variant | None
    digest: Digest
    base_digest: Digest | None
    rows: tuple[Row, ...]
    base_rows: tuple[Row, ...]
    gate: Gate

    @cached_property
    def unjudged(self) -> list[str]:
        """What this run cannot tell of the variant, one sentence each: missing, partial, without signal, undecided."""
        return [
            self.public(f"{check.cell}: {check.rule}: {check.message}")
            for check in self.gate.checks
            if check.status == "unjudged"
        ]

    @property
    def standing(self) -> str:
        """The gate's answer in words."""
        return STANDING[self.gate.exit_code]

    @property
    def strategy(self) -> str:
        """The canonical strategy; of a ready-made checkpoint its public name."""
        kept = self.variant.strategy
        return clean(ready_made(public_name(source_of(kept))) if kind_of(kept) == "checkpoint" else kept)

    @property
    def quantized(self) -> bool:
        """Whether its weights are: by the strategy, or as the proof of a ready-made checkpoint has counted."""
        if kind_of(self.variant.strategy) == "checkpoint":
            return bool(self.variant.proof.evidence.get("quantized_layers"))
        try:
            return any(part.quantizes for part in parse(self.variant.strategy).parts)
        except UserError:  # a strategy that is not installed here
            return False

    def base_row(self, row: Row) -> Row | None:
        return next((base for base in self.base_rows if base.place == row.place.base), None)

    def data(self, row: Row) -> DataFacts:
        return self.run.data.get(row.benchmark, DataFacts())

    def public(self, text: object) -> str:
        """Text without what only this machine knows."""
        sources = (source_of(self.variant.strategy), self.variant.model, self.run.study.get("data"))
        found = str(text)
        for source in sources:
            if isinstance(source, str) and re.search(r"[/\\]", source):
                found = found.replace(source, public_name(source))
        return clean(found)


def subjects(
    document: Document,
    policy: Policy,
    *,
    strategy: str | None = None,
    name: str | None = None,
    base_name: str | None = None,
) -> list[Subject]:
    """The variants that the study asked for, answered or not; `strategy`: this one alone.

    Raises UserError where there is none, or where one name would stand for several.
    """
    asked = [(model, kind) for model, kind in document.asked if not is_base(kind)]
    numbered = [each for each in enumerate(asked) if strategy in (None, each[1][1])]
    if not numbered:
        names = ", ".join(dict.fromkeys(kind for _, kind in asked))
        wrong = f"the run has no variant {strategy!r}" if asked else "the run has no variant beside its base"
        raise UserError(wrong, fix=f"choose from: {names}" if asked else "tiltmeter run MODEL -s STRATEGY --out RUN")
    if name and len(numbered) > 1:
        raise UserError(f"{name} can name one variant, and the run has {len(numbered)}", fix="say which with -s")
    return [_subject(document, policy, number, each, name, base_name) for number, each in numbered]


def public_name(source: str) -> str:
    """A hub id as it is; the last part of a folder's or a file's path; a served model's name without its address."""
    if is_address(source):
        return clean(source.partition("#")[2] or "served-model")
    if HUB_ID.fullmatch(source) and not Path(source).exists():
        return clean(source)
    return clean(re.split(r"[/\\]", source.rstrip("/\\"))[-1] or source)


def hub_id(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None


def distance(row: Row) -> tuple[float, Ends | None]:
    """|score - ideal| in the score's unit, and its interval: the one number of which less is better everywhere."""
    value = abs(row.score - row.ideal)
    if row.ci is None or not all(map(defined, row.ci)):
        return value, None
    ends = sorted(abs(end - row.ideal) for end in row.ci)
    inside = row.ci[0] <= row.ideal <= row.ci[1]
    return value, (0.0 if inside else ends[0], ends[1])


def asked(row: Row) -> str:
    """plain-greedy, or plain-sampling-5."""
    return f"{row.format}-{row.decoding}" + (f"-{row.n_samples}" if row.n_samples > 1 else "")


def details(subject: Subject, row: Row) -> dict[str, str]:
    """All that must be known beside a row's number, as texts: how asked, on what, paired with what, how sure."""
    data, change, base = subject.data(row), row.change, subject.base_row(row)
    found = {
        "benchmark": row.benchmark,
        "asked": asked(row),
        "strategy": subject.strategy,
        "score": figure(row.score) or f"undefined: {subject.public(row.reason or 'no reason was given')}",
        "unit": row.unit,
        "ideal": figure(row.ideal),
        "items_scored": f"{row.n_scored} of {row.n_items}",
        "asked_whole": "no: a part of the benchmark's items (--limit)" if row.partial else "yes",
        "finished": "yes" if row.complete else "no",
        "data": "the published files" if data.published else "not the published files",
        "base_score": figure(base.score) if base else "not in the run",
    }
    if change is None:
        return {name: clean(text) for name, text in found.items()} | {"verdict": "none: not compared with the base"}
    found |= {
        "change": figure(change.delta) or "undefined",
        "change_95_interval": ends(change.ci) or f"none: {subject.public(change.ci_reason or 'undefined')}",
        "verdict": str(change.verdict),
        "verdict_reason": subject.public(change.reason),
        "smallest_change_that_matters": figure(change.margin) or "unknown",
        "smallest_change_that_could_be_found": figure(change.mde) or "unknown",
        "p_adjusted": figure(change.p_adjusted) or "none",
        "items_paired": str(change.n_paired),
    }
    return {name: clean(text) for name, text in found.items()}


def figure(value: float) -> str:
    """A number as text, six significant digits; empty where it is undefined."""
    return f"{value:.6g}" if defined(value) else ""


def ends(interval: Ends | None) -> str:
    """[low, high] as text; empty where there is none."""
    return f"[{figure(interval[0])}, {figure(interval[1])}]" if interval and all(map(defined, interval)) else ""


def slices(rows: Sequence[Row]) -> Iterator[tuple[Row, str, float, float, Ends | None]]:
    """(row, "attribute=group", score, change, its interval) of every demographic group."""
    for row in rows:
        for group in row.groups:
            yield row, clean(f"{group.attribute}={group.group}"), group.score, group.delta, group.ci


def _subject(
    document: Document,
    policy: Policy,
    number: int,
    asked: tuple[str, str],
    name: str | None,
    base_name: str | None,
) -> Subject:
    model, strategy = asked
    variant = document.variant(model, strategy) or Variant(model=model, strategy=strategy)
    base = document.variant(model, NONE)
    called = base_name or public_name(model)
    made = kind_of(strategy) == "checkpoint"
    own = public_name(source_of(strategy)) if made else f"{called}+{strategy}"
    return Subject(
        folder=file_name(number, variant.but(strategy=own if made else strategy)),
        name=clean(name or own),
        base_name=clean(called),
        run=document.run,
        variant=variant,
        base=base,
        digest=digest_of(document, variant),
        base_digest=digest_of(document, base) if base else None,
        rows=tuple(row for row in document.rows if (row.model, row.strategy) == (model, strategy)),
        base_rows=tuple(row for row in document.rows if row.model == model and row.place.is_base),
        gate=Gate((*lacking(document, model, NONE), *variant_checks(document, policy, model, strategy))),
    )
