"""What a GGUF type or cache type really buys: prefill and decode speed in llama.cpp, base and variant in alternation.

Prefill      tokens/s while `batch` prompts of random tokens are read, one after another as the benchmarks' are
Decode       tokens/s while every row writes on beside the others, one token a step
First token  seconds from a prompt of `prompt_tokens` to the token after it, with nothing else running
Memory       tensors as they lie in the file; their repacked copies and the cache come on top
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tiltmeter.backends.base import Backend
from tiltmeter.errors import UserError
from tiltmeter.models.formats.gguf.library import CELLS, SEQUENCES, Context
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.registry import build
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.chain import parse
from tiltmeter.study import VariantSpec, make_study
from tiltmeter.variants.speed import Setting, Speed, timing


def measure(
    model: str,
    strategies: Sequence[str],
    *,
    setting: Setting | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[Speed]:
    """The base first, then each strategy, measured against the base in alternation; rounds as in `variants.speed`.

    Raises: UserError as the backend does, and where prompts and new tokens do not fit the cells.
    """
    say = progress or (lambda line: None)
    study = make_study(models=[model], strategies=list(strategies), backend="llama-cpp")
    backend: Backend = build("backend", "llama-cpp", study=study, probed=lambda _: None, say=say)
    backend.check()
    base = backend.load(study.variants()[0])
    how = replace(setting or Setting(), device="cpu", dtype=base.dtype, threads=base.proof["engine"]["threads"])
    length = how.prompt_tokens + how.new_tokens
    if how.batch * length > CELLS or length > base.max_length or how.batch >= SEQUENCES:
        raise UserError(
            f"{how.batch} sequences of {length} tokens do not fit the context of {min(CELLS, base.max_length)}",
            fix="ask for fewer with --batch, --prompt-tokens or --new-tokens",
        )
    ids = np.random.default_rng(seed_for(seed, "speed")).integers(
        0, _context(base).weights.n_tokens, (how.batch, length)
    )
    found = []
    for spec in study.variants():
        say(f"measuring {spec.strategy}")
        variant = base if spec.is_base else backend.load(spec)
        found.append(_measured(spec, base, variant, ids, how))
        if variant is not base:
            backend.release(variant)
    backend.release(base)
    return found


def _measured(spec: VariantSpec, base: LoadedVariant, variant: LoadedVariant, ids: np.ndarray, how: Setting) -> Speed:
    rounds: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for number in range(how.repeats + 1):  # the first one warms up
        pair = _pass(_context(base), ids, how.prompt_tokens), _pass(_context(variant), ids, how.prompt_tokens)
        rounds += [pair] if number else []
    prompt, new = how.batch * how.prompt_tokens, how.batch * how.new_tokens
    ratios = [[b / m for b, m in zip(*pair)] for pair in rounds]
    return Speed(
        spec.strategy,
        how,
        timing([prompt / mine[0] for _, mine in rounds]),
        timing([new / mine[1] for _, mine in rounds]),
        None if spec.is_base else timing([ratio[0] for ratio in ratios]),
        None if spec.is_base else timing([ratio[1] for ratio in ratios]),
        int(variant.proof["weight_bytes"]),
        int(variant.proof["checkpoint_bytes"]),
        None,
        "" if parse(spec.strategy).speed_is_real is True else str(parse(spec.strategy).speed_is_real),
        str(variant.proof["summary"]),
        timing([mine[2] for _, mine in rounds]),
    )


def _pass(context: Context, ids: np.ndarray, prompt_tokens: int) -> tuple[float, float, float]:
    """Seconds of reading all prompts, of all steps after them, and of the first prompt alone."""
    context.clear()
    rows = range(len(ids))
    started, first = time.perf_counter(), 0.0
    for row in rows:
        for start in range(0, prompt_tokens, context.per_call):
            part = ids[row, start : min(start + context.per_call, prompt_tokens)]
            places = np.arange(start, start + len(part))
            context.decode(part, places, [(row,)] * len(part), places == prompt_tokens - 1)
        first = first or time.perf_counter() - started
    prefilled = time.perf_counter()
    for place in range(prompt_tokens, ids.shape[1]):
        context.decode(ids[:, place], [place] * len(ids), [(row,) for row in rows], np.ones(len(ids), bool))
    finished = time.perf_counter()
    context.clear()
    return prefilled - started, finished - prefilled, first


def _context(variant: LoadedVariant) -> Context:
    return variant.model.context  # type: ignore[return-value]
