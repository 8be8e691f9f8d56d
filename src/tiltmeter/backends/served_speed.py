"""What a served model gives whoever asks it: prefill and decode speed over HTTP, base and variant in alternation.

First token  seconds from one prompt of `prompt_tokens` to its answer of one token, with nothing else asked
Prefill      tokens/s while `batch` prompts, sent together, are answered with one token each
Decode       tokens/s beyond that: as many other prompts with one more and `new_tokens` tokens each, by the difference
             of both times; tokens are counted as the server counts them
Prompts      random ids, the same for base and variant, none sent twice: a prefix cache finds nothing

Network, queue and batching are in these times, as they are in a user's. One warm-up round, then `repeats` rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tiltmeter.backends.base import BackendFailed
from tiltmeter.backends.endpoint import Endpoint
from tiltmeter.errors import UserError
from tiltmeter.messages import say as said
from tiltmeter.models.address import is_address, reachable
from tiltmeter.registry import build
from tiltmeter.scoring.requests import Generation
from tiltmeter.seeds import seed_for
from tiltmeter.study import make_study
from tiltmeter.variants.speed import Setting, Speed, Timing, timing

if TYPE_CHECKING:  # what speaks to servers needs an extra
    from tiltmeter.backends._answers import Completion
    from tiltmeter.backends._served_model import Served

TO_THE_END: Mapping[str, Any] = {
    "ignore_eos": True,
    "stop_token_ids": [],
}  # as many tokens as were asked for, where a server knows this


@dataclass(frozen=True)
class Round:
    """One round of one server: seconds to the first token, and tokens/s; NaN where no time was left to decode in."""

    first: float
    prefill: float
    decode: float


def measure(
    model: str,
    variants: Sequence[str] = (),
    *,
    setting: Setting | None = None,
    tokenizer: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[Speed]:
    """The served base first, then each served variant, measured against it in alternation.

    Raises: UserError for what is no address, cannot be asked, takes no token ids, or holds fewer tokens than asked for.
    """
    talk = progress or (lambda line: None)
    for source in (model, *variants):
        if not is_address(source):
            raise UserError(
                f"{source} is no address: what is served is compared with what is served",
                fix="serve it and name its address; strategies of a model on this machine are named with -s",
            )
        reachable(source)
    study = make_study(models=[model], checkpoints=list(variants), tokenizer=tokenizer)
    backend = build("backend", "endpoint", study=study, probed=lambda _: None, say=talk)
    assert isinstance(backend, Endpoint)
    backend.check()
    how = replace(setting or Setting(), device="served", dtype="as served")
    base = _ready(backend, model, how)
    found = []
    for spec in study.variants():
        mine = _ready(backend, spec.source, how)
        talk(f"measuring {spec.source}")
        pairs: list[tuple[Round, Round]] = []
        try:
            drawn = partial(seed_for, seed, "speed", spec.strategy)  # the base is asked again beside every variant
            settings = [_settings(known, _prompts(base, how, drawn("settings"))[0]) for known in (base, mine)]
            for number in range(how.repeats + 1):  # the first one warms up
                ids = _prompts(base, how, drawn(number))
                before = _round(base, ids, how, settings[0])
                pair = before, before if spec.is_base else _round(mine, ids, how, settings[1])
                pairs += [pair] if number else []
        except BackendFailed as error:
            raise UserError(f"{spec.source}: {error}", fix="look into the server's log") from None
        found.append(_summary(spec.strategy, mine, how, pairs, base=spec.is_base))
    return found


def _ready(backend: Endpoint, source: str, how: Setting) -> Served:
    known = backend.served(source)
    if known.is_chat or Generation in known.obstacles:
        raise UserError(f"{source} takes no token ids", fix="name a completions server: http://HOST:8000/v1")
    asked = how.prompt_tokens + how.new_tokens + 1
    if asked > known.max_length:
        raise UserError(
            f"{asked} tokens do not fit the context of {known.max_length} at {source}",
            fix="ask for fewer with --prompt-tokens or --new-tokens",
        )
    return known


def _prompts(known: Served, how: Setting, seed: int) -> list[list[int]]:
    """Random ids, none of them special: one prompt alone, `batch` to read, `batch` to write after."""
    ordinary = sorted(set(known.tokenizer.get_vocab().values()) - set(known.tokenizer.all_special_ids))
    drawn = np.random.default_rng(seed).integers(0, len(ordinary), (1 + 2 * how.batch, how.prompt_tokens))
    return [[ordinary[place] for place in row] for row in drawn.tolist()]


def _settings(known: Served, prompt: list[int]) -> Mapping[str, Any]:
    """TO_THE_END, or nothing where the server refuses it."""
    from tiltmeter.backends._http import REFUSALS, HttpStatus

    try:
        _asked(known, [prompt], 1, TO_THE_END)
    except HttpStatus as error:
        if error.status not in REFUSALS:
            raise
        return {}
    return TO_THE_END


def _asked(known: Served, prompts: list[list[int]], tokens: int, settings: Mapping[str, Any]) -> list[Completion]:
    """All at once; nothing is sent a second time, which would spoil the time."""
    from tiltmeter.backends._completions import Completions
    from tiltmeter.backends._http import together

    lm = known.lm
    assert isinstance(lm, Completions)
    wanted: Mapping[str, Any] = {"max_tokens": tokens, "temperature": 0.0, **settings}
    return together([partial(lm.complete, prompt=ids, attempts=1, **wanted) for ids in prompts], len(prompts))


def _round(known: Served, ids: list[list[int]], how: Setting, settings: Mapping[str, Any]) -> Round:
    seconds, written = [], 0.0
    for prompts, tokens in (
        (ids[:1], 1),
        (ids[1 : 1 + how.batch], 1),
        (ids[1 + how.batch :], 1 + how.new_tokens),
    ):
        started = time.perf_counter()
        answers = _asked(known, prompts, tokens, settings)
        seconds.append(time.perf_counter() - started)
        written = sum(_written(answer, tokens) - 1 for answer in answers)
    first, read, whole = seconds
    decode = written / (whole - read) if whole > read and written > 0 else math.nan
    return Round(first, how.batch * how.prompt_tokens / read, decode)


def _written(answer: Completion, allowed: int) -> float:
    """New tokens of an answer; NaN where the server does not say how many it wrote."""
    if answer.new_tokens is not None:
        return answer.new_tokens
    if answer.ids is not None:
        return len(answer.ids)
    return allowed if answer.finished == "length" else math.nan


def _summary(strategy: str, known: Served, how: Setting, pairs: list[tuple[Round, Round]], *, base: bool) -> Speed:
    def over(values: list[float]) -> Timing | None:
        return timing(values) if all(map(math.isfinite, values)) else None

    decode = over([mine.decode for _, mine in pairs])
    faster = None if base else over([mine.decode / theirs.decode for theirs, mine in pairs])
    return Speed(
        strategy,
        how,
        over([mine.prefill for _, mine in pairs]),
        decode,
        None if base else over([mine.prefill / theirs.prefill for theirs, mine in pairs]),
        faster,
        None,
        None,
        None,
        "" if decode and (base or faster) else said("note.no_decode"),
        f"{known.name} at {known.address}",
        over([mine.first for _, mine in pairs]),
    )
