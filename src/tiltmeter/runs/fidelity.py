"""Fidelity beside bias: how far each variant's distributions lie from its base's, on a text and on the run's prompts.

Base and variants are in memory one after the other, so the base's logits are kept in the run folder meanwhile: float32,
at most `BYTES`, read back block by block (`scoring.divergence`), and removed when the run ends. Where they are read:

    text      the passages of text quality, every position that has a next token, at most `TEXT` of them
    prompts   of each benchmark and format a seeded sample of `ITEMS` items: the last position of a prompt that is
              answered, `PER_REQUEST` seeded positions of a sentence that is scored

Displacement is not direction: a variant may move far and favour nobody otherwise. No verdict rests on any of it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.models.difference import same_tokens
from tiltmeter.runs.inputs import Inputs
from tiltmeter.runs.store import digest, stored_variant
from tiltmeter.runs.text_quality import study_passages, text_key, text_name
from tiltmeter.schema import Fidelity
from tiltmeter.schema.fidelity import Divergence
from tiltmeter.schema.place import NONE
from tiltmeter.schema.variant import Proof
from tiltmeter.scoring.requests import Request, SequenceLogprob
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.base import VariantFailed
from tiltmeter.study import Study, VariantSpec

if TYPE_CHECKING:
    from tiltmeter.models.variant import LoadedVariant
    from tiltmeter.scoring.divergence import Divergence as Arrays

BYTES = 512 * 2**20
TEXT = 1_024  # positions
ITEMS = 32  # of a benchmark in one format: each is a forward of its own, base and variant
PER_REQUEST = 4  # positions of a scored sentence
FOLDER = "fidelity"  # under the run, while it goes on
DONE_HOW = 3  # raised when what is measured changes: facts of another number are measured anew


@dataclass(frozen=True)
class Spot:
    """Where one text is read. of: "" for the given text, else the cell; positions: of logits; following -1: none."""

    of: str
    item: str
    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    following: tuple[int, ...]


class Beside:
    """Which variants of a study still miss their fidelity, and how it is measured while they are in memory.

    key_of: what a variant's facts belong to; asked_of: the written inputs of a base. Both may raise UserError or
    VariantFailed for what cannot be loaded. specs: all variants of the study.
    """

    def __init__(
        self,
        run: Path,
        study: Study,
        key_of: Callable[[VariantSpec], str],
        asked_of: Callable[[VariantSpec], Iterable[Any]],
    ) -> None:
        self.run, self.study, self.key_of, self.asked_of = run, study, key_of, asked_of
        self.specs: Sequence[VariantSpec] = ()
        self._kept: dict[str, tuple[Path, list[Spot]]] = {}  # model -> its base's logits, and where they were read

    def lacking(self, spec: VariantSpec) -> str:
        """Key of the measurement that is missing; "" where none is. A base is needed while any of its variants is."""
        if not (self.study.fidelity and self.study.text_quality):
            return ""
        if spec.is_base:
            mine = [other for other in self.specs if other.model == spec.model and not other.is_base]
            return next((key for other in mine if (key := self.lacking(other))), "")
        try:
            own, beside = self.key_of(spec), self._of_base(spec.model)
        except (UserError, VariantFailed):
            return ""  # it cannot be loaded, and is named
        key = digest([beside, own])
        facts = stored_variant(self.run, spec.model, spec.strategy)
        held = facts is not None and facts.key == own and facts.fidelity is not None and facts.fidelity.key == key
        return "" if held else key

    def measured(self, spec: VariantSpec, key: str, variant: LoadedVariant) -> Fidelity:
        """A base's logits are kept (the answer is empty), a variant is held to them."""
        if spec.is_base:
            reason = unable(variant) or self._keep(spec, variant)
            return Fidelity(reason=reason)
        if spec.model not in self._kept:
            return Fidelity(key=key, reason=say("fidelity.elsewhere"))
        reason = unable(variant, Proof.of(variant.proof))
        if reason is not None:
            return Fidelity(key=key, reason=reason)
        path, found = self._kept[spec.model]
        return beside_base(variant, found, path).but(key=key, text_name=text_name(self.study))

    def _keep(self, spec: VariantSpec, variant: LoadedVariant) -> Text | None:
        found = spots(variant, self.study, self.run, as_inputs(self.asked_of(spec)))
        path = self.run / FOLDER / f"{self._of_base(spec.model)}.f32"
        reason = None if path.exists() else keep_base(variant, found, path)
        if reason is None:
            self._kept[spec.model] = path, found
        return reason

    def _of_base(self, model: str) -> str:
        """What the base's logits belong to: its weights, the prompts, the text, the seed."""
        base = VariantSpec(model=model, strategy=NONE, source=model)
        inputs = as_inputs(self.asked_of(base))
        return digest([DONE_HOW, self.key_of(base), inputs, text_key(self.study), self.study.seed])


def unable(variant: LoadedVariant, proof: Proof | None = None) -> Text | None:
    """Why nothing can be measured of a model; None where it can. proof: a variant's, beside its base."""
    if getattr(variant, "model", None) is None or getattr(variant.model, "get_output_embeddings", None) is None:
        return say("fidelity.elsewhere")
    if proof is not None and not same_tokens(proof.as_stored()):
        return say("fidelity.tokens")
    return None


def spots(variant: LoadedVariant, study: Study, run: Path, inputs: Mapping[str, str]) -> list[Spot]:
    """Where to read, by the base's tokenizer, part by part in the order of the tokens; fewer where the vocabulary makes
    logits too large to keep."""
    found = [*_of_text(variant, study)]
    for name, content in inputs.items():
        found += _of_prompts(variant, name, Inputs(run / "inputs" / f"{content}.jsonl"), study.seed)
    vocabulary = int(variant.model.get_output_embeddings().weight.shape[0])
    kept = _thinned(found, max(BYTES // (4 * vocabulary), 1))
    parts = list(dict.fromkeys(spot.of for spot in kept))
    return sorted(kept, key=lambda spot: (parts.index(spot.of), spot.tokens))  # neighbours share their beginnings


def _of_text(variant: LoadedVariant, study: Study) -> Iterator[Spot]:
    from tiltmeter.scoring.prompts import encode

    left = TEXT
    for number, passage in enumerate(study_passages(study)):
        tokens = encode(variant.tokenizer, passage)
        n = min(len(tokens) - 1, left)
        if n > 0 and len(tokens) <= variant.max_length:
            left -= n
            yield Spot("", str(number), tuple(tokens), tuple(range(n)), tuple(tokens[1 : n + 1]))


def _of_prompts(variant: LoadedVariant, name: str, asked: Inputs, seed: int) -> Iterator[Spot]:
    order = np.random.default_rng(seed_for(seed, "fidelity", name)).permutation(asked.n_items)[:ITEMS]
    places = sorted(int(place) for place in order)
    for item, requests in asked.items_at(places):
        if not item.variation:
            yield from _of_requests(variant, name, item.id, requests, seed)


def _of_requests(
    variant: LoadedVariant, name: str, item: str, requests: Iterable[Request], seed: int
) -> Iterator[Spot]:
    from tiltmeter.scoring.prompts import encode
    from tiltmeter.scoring.reference import text_of

    texts = dict.fromkeys((text_of(request), isinstance(request, SequenceLogprob)) for request in requests)
    for number, (text, scored) in enumerate(texts):  # samples of one prompt are one text
        tokens = tuple(encode(variant.tokenizer, text))
        if not 1 < len(tokens) <= variant.max_length:
            continue
        positions: tuple[int, ...] = (len(tokens) - 1,)
        if scored:
            draw = np.random.default_rng(seed_for(seed, "fidelity", name, item, number))
            positions = tuple(sorted(int(p) for p in draw.permutation(len(tokens) - 1)[:PER_REQUEST]))
        following = tuple(tokens[p + 1] if p + 1 < len(tokens) else -1 for p in positions)
        yield Spot(name, item, tokens, positions, following)


def _thinned(found: Sequence[Spot], most: int) -> list[Spot]:
    """At most so many positions: every part keeps its share, from its beginning; none loses all."""
    total = sum(len(spot.positions) for spot in found)
    if total <= most:
        return list(found)
    kept: list[Spot] = []
    for of in dict.fromkeys(spot.of for spot in found):
        mine = [spot for spot in found if spot.of == of]
        left = max(most * sum(len(spot.positions) for spot in mine) // total, 1)
        for spot in mine:
            if left > 0:
                kept.append(Spot(of, spot.item, spot.tokens, spot.positions[:left], spot.following[:left]))
                left -= len(kept[-1].positions)
    return kept


def keep_base(variant: LoadedVariant, found: Sequence[Spot], path: Path) -> Text | None:
    """Write the base's logits (positions, vocabulary) to `path`; why not, where there is no room."""
    from tiltmeter.scoring.divergence import logits_at

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    needed = 4 * sum(len(s.positions) for s in found) * int(variant.model.get_output_embeddings().weight.shape[0])
    if shutil.disk_usage(path.parent).free < 2 * needed:
        return say("fidelity.no_room", needed=f"{needed / 2**20:.0f} MiB")
    with draft.open("wb") as out:
        for logits in logits_at(variant, [(spot.tokens, spot.positions) for spot in found]):
            out.write(logits.numpy().tobytes())
    os.replace(draft, path)
    return None


def beside_base(variant: LoadedVariant, found: Sequence[Spot], path: Path) -> Fidelity:
    """The variant's divergence from the logits at `path`. Raises nothing for other vocabularies: the reason is kept."""
    from tiltmeter.scoring.divergence import divergence, logits_at

    started = time.perf_counter()
    positions = sum(len(spot.positions) for spot in found)
    kept = np.memmap(path, dtype=np.float32, mode="r").reshape(positions, -1)
    parts: list[tuple[Spot, Arrays]] = []
    place = 0
    for spot, logits in zip(found, logits_at(variant, [(spot.tokens, spot.positions) for spot in found])):
        if logits.shape[1] != kept.shape[1]:
            return Fidelity(reason=say("fidelity.vocabulary", base=kept.shape[1], variant=logits.shape[1]))
        mine = np.array(kept[place : place + len(spot.positions)])
        place += len(spot.positions)
        parts.append((spot, divergence(mine, logits, np.array(spot.following))))
    names = dict.fromkeys(spot.of for spot in found if spot.of)
    return Fidelity(
        text=_summary([p for p in parts if not p[0].of], items=False),
        prompts={name: _summary([p for p in parts if p[0].of == name], items=True) for name in names},
        seconds=round(time.perf_counter() - started, 3),
    )


def _summary(parts: Sequence[tuple[Spot, Arrays]], *, items: bool) -> Divergence:
    if not parts:
        return Divergence()
    kl, same, base, variant = (
        np.concatenate([getattr(a, name) for _, a in parts]) for name in ("kl", "same_top", "base_next", "variant_next")
    )
    followed = np.isfinite(base) & np.isfinite(variant)
    of_item: dict[str, list[float]] = {}
    for spot, arrays in parts if items else ():
        of_item.setdefault(spot.item, []).extend(arrays.kl.tolist())
    return Divergence(
        n=len(kl),
        mean=float(kl.mean()),
        median=float(np.median(kl)),
        p99=float(np.quantile(kl, 0.99, method="higher")),
        largest=float(kl.max()),
        same_top=float(same.mean()),
        perplexity_ratio=float(np.exp((base - variant)[followed].mean())) if followed.any() else float("nan"),
        items=tuple(of_item),
        of_item=tuple(float(np.mean(values)) for values in of_item.values()),
    )


def forget(run: Path) -> None:
    """Remove the base's logits."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def as_inputs(asked: Iterable[Any]) -> dict[str, str]:
    """Cell name -> hash of its inputs, one decoding of each benchmark and format: prompts are the same in both."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for one in asked:
        if (one.benchmark, one.format) not in seen:
            seen.add((one.benchmark, one.format))
            found[f"{one.benchmark} {one.format} {one.decoding}"] = one.inputs
    return found
