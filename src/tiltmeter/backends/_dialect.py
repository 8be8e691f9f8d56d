"""Which settings a server acts on, under which of their names: found by their effect, because servers ignore in silence
what they do not know.

A setting is tried at a value that must show: at temperature 2 another text than the greedy one comes, unless top-k is
1, min-p is 1 or top-p is almost 0; a strong penalty on repetition changes the greedy text after a prompt that repeats.
What acts is then sent with every generation at its neutral value, so that no default of the served model's own
(`generation_config.json`, a server's command line) is left; what shows no effect is named in the run.

    vLLM, SGLang, TGI          top_k, min_p, repetition_penalty
    llama.cpp, LM Studio, …    top_k, min_p, repeat_penalty, and samplers of their own
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiltmeter.backends._completions import Completions
from tiltmeter.backends._http import REFUSALS, Ask, HttpStatus, Session, together
from tiltmeter.messages import Text, say
from tiltmeter.models.probes import TEXTS
from tiltmeter.scoring.prompts import encode

SILENT = "served.silent"
NEW_TOKENS = 8
REPEATS = "one two three " * 8
GREEDY: dict[str, object] = {"temperature": 0.0}
HOT: dict[str, object] = {"temperature": 2.0, "seed": 1}
NARROW: dict[str, dict[str, object]] = {  # under HOT, each gives the greedy text
    "top_p": {"top_p": 1e-6},
    "top_k": {"top_k": 1},
    "min_p": {"min_p": 1.0},
}
PENALTIES = {"repetition_penalty": 2.0, "repeat_penalty": 2.0}  # the same setting under its two names
NEUTRAL: dict[str, tuple[Any, ...]] = {  # the first that is not refused
    "top_k": (-1, 0),
    "min_p": (0.0,),
    "repetition_penalty": (1.0,),
    "repeat_penalty": (1.0,),
}
LLAMA_CPP = {  # samplers that only llama.cpp's have, all off
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "mirostat": 0,
    "dynatemp_range": 0.0,
}

Wrote = tuple[Any, ...] | str | None  # what came: ids, or text; None: refused
Try = Callable[[str, Mapping[str, Any]], Ask[Wrote]]  # (text before, settings) -> what the server writes


def find_settings(lm: Completions, tokenizer: Any, waiting: Callable[[str], None]) -> list[Text]:
    """Adds what the server acts on to `lm.extras`; notes for the run."""

    def wrote(before: str, settings: Mapping[str, Any]) -> Ask[Wrote]:
        async def ask(session: Session) -> Wrote:
            ids = encode(tokenizer, before)
            try:
                found = await lm.complete(session, ids, attempts=1, max_tokens=NEW_TOKENS, **settings)
            except HttpStatus as error:
                if error.status in REFUSALS:
                    return None
                raise
            return found.text if found.ids is None else tuple(found.ids)

        return ask

    extras, silent = acted_on(wrote, waiting)
    lm.extras |= extras
    return [say(SILENT, names=", ".join(silent))] if silent else []


def acted_on(wrote: Try, waiting: Callable[[str], None]) -> tuple[dict[str, object], Sequence[str]]:
    """(settings to send at their neutral values, names of wished settings without a visible effect).

    The names of a request's own settings (temperature, top_p, seed) are among the latter where they show none.
    """
    asks: dict[str, Ask[Wrote]] = {
        "greedy": wrote(TEXTS[0], GREEDY),
        "hot": wrote(TEXTS[0], HOT),
        "again": wrote(TEXTS[0], HOT),
        "repeats": wrote(REPEATS, GREEDY),
        **{name: wrote(TEXTS[0], HOT | setting) for name, setting in NARROW.items()},
        **{name: wrote(REPEATS, GREEDY | {name: value}) for name, value in PENALTIES.items()},
    }
    found = dict(zip(asks, together(list(asks.values()), len(asks), waiting), strict=True))
    warm = found["hot"] not in (None, found["greedy"])
    acts = {name for name in NARROW if warm and found[name] == found["greedy"]}
    acts |= {name for name in PENALTIES if found[name] not in (None, found["repeats"])}
    extras: dict[str, object] = {}
    for name, values in NEUTRAL.items():
        if name in acts:
            taken = together([wrote(TEXTS[0], GREEDY | {name: value}) for value in values], waiting=waiting)
            extras |= next(({name: value} for value, text in zip(values, taken) if text is not None), {})
    if "repeat_penalty" in acts and "repetition_penalty" not in acts:
        [text] = together([wrote(TEXTS[0], GREEDY | LLAMA_CPP)], waiting=waiting)
        extras |= LLAMA_CPP if text is not None else {}
    silent = [name for name in NARROW if name not in acts]
    silent += [] if acts & set(PENALTIES) else ["repetition_penalty"]
    silent += [] if warm else ["temperature"]
    silent += [] if found["hot"] == found["again"] else ["seed"]
    return extras, silent
