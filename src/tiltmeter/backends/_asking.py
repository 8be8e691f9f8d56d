"""What a completions server can answer, found out by a few small requests before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tiltmeter.backends._answers import Completion
from tiltmeter.backends._completions import NO_ECHO, Completions, miscounted
from tiltmeter.backends._dialect import find_settings
from tiltmeter.backends._http import REFUSALS, HttpStatus, together
from tiltmeter.messages import Message, Text, say
from tiltmeter.models.probes import TEXTS
from tiltmeter.scoring.prompts import encode
from tiltmeter.scoring.requests import Generation, OptionProbs, SequenceLogprob

OTHER_VOCABULARY = Message("served.other_vocabulary")
TEXT_ONLY = Message("served.text_only")
OWN_DEFAULTS = Message("served.own_defaults")
BATCHES = Message("served.server_batches")
UNVERIFIED = Message("served.unverified")
LISTED = (1000, 100, 20, 5)  # how many of the likeliest tokens are asked for; the first number that is not refused
AGREED = 0.01  # nats between a token's log-probability in that list and in a scored prompt

Waiting = Callable[[str], None]


def probe(lm: Completions, tokenizer: Any, waiting: Waiting) -> tuple[dict[type, Text], list[Text]]:
    """(request class -> why it cannot be answered, notes for the run); `lm` is set up to ask what can be asked.

    Raises HttpStatus for a server that refuses every request, BackendFailed for one that cannot be reached.
    """
    ids = encode(tokenizer, TEXTS[0])
    obstacles: dict[type, Text] = {}
    notes: list[Text] = [BATCHES]
    scoring, reading = _scores(lm, tokenizer, ids, waiting)
    lm.echoes = scoring is None and reading is None
    found, writing = _writes(lm, ids, notes, waiting)
    problem = reading or (miscounted(found, len(ids)) if found else None)
    lists = None
    if not problem and not writing:
        lists = _lists(lm, tokenizer, ids, waiting)
        problem = OTHER_VOCABULARY if lists and not _same_spelling(tokenizer, lists.words) else None
    if problem:
        return dict.fromkeys((SequenceLogprob, OptionProbs, Generation), problem), notes
    if writing:
        obstacles[Generation] = writing
    else:
        notes += find_settings(lm, tokenizer, waiting)
    if scoring:
        obstacles[SequenceLogprob] = scoring
        if not lm.tops:
            obstacles[OptionProbs] = scoring
        if not (lists and lists.words):
            notes.append(UNVERIFIED)
    if found and found.ids is None:
        notes.append(TEXT_ONLY)
    return obstacles, notes


def _scores(lm: Completions, tokenizer: Any, ids: list[int], waiting: Waiting) -> tuple[Text | None, Text | None]:
    """(why the server cannot score a prompt, why it reads another prompt than it is sent)."""
    try:
        [found] = together([lambda session: lm.echo(session, ids, attempts=1)], waiting=waiting)
    except HttpStatus as error:
        if error.status not in REFUSALS:
            raise
        return say("served.no_echo_status", status=error.status), None
    misread = miscounted(found, len(ids))
    if misread:
        return None, misread
    if len(found.logprobs) < len(ids):
        return NO_ECHO, None
    if len(found.echoed) >= len(ids) and not same_words(tokenizer, ids, found.echoed):
        return None, OTHER_VOCABULARY
    return None, None


def _writes(
    lm: Completions, ids: list[int], notes: list[Text], waiting: Waiting
) -> tuple[Completion | None, Text | None]:
    """(a short answer, or None; why the server writes none). Leaves out the extra settings that it refuses, and asks
    for log-probabilities where token ids come with them alone, as llama.cpp's do."""
    found, refused = None, None
    for extras in (lm.extras, {}):
        found, refused = _answered(lm, extras, ids, waiting)
        if found:
            break
    if not found:
        return None, refused
    if not lm.extras:
        notes.append(OWN_DEFAULTS)
    if found.ids is None:
        before = lm.extras
        again, _ = _answered(lm, {**before, "logprobs": 1}, ids, waiting)
        if again and again.ids is not None:
            return again, None
        lm.extras = before
    return found, None


def _answered(
    lm: Completions, extras: dict[str, object], ids: list[int], waiting: Waiting
) -> tuple[Completion | None, Text | None]:
    """(two new tokens under `extras`, which stay set; or why there are none)."""
    lm.extras = extras
    try:
        [found] = together(
            [lambda session: lm.complete(session, ids, attempts=1, max_tokens=2, temperature=0.0)], waiting=waiting
        )
    except HttpStatus as error:
        if error.status not in REFUSALS:
            raise
        return None, say("served.no_ids", status=error.status)
    return found, None


def _lists(lm: Completions, tokenizer: Any, ids: list[int], waiting: Waiting) -> Completion | None:
    """An answer with the likeliest next tokens; sets `lm.tops` and `lm.by_id`. None where there are none with ids, or
    where they are not what a scored prompt says: log-probabilities after sampling settings, for example."""

    def asked(n: int, chosen: Sequence[int] | None = None) -> Completion | None:
        try:
            [found] = together([lambda session: lm.top(session, ids, n, chosen, attempts=1)], waiting=waiting)
        except HttpStatus as error:
            if error.status not in REFUSALS:
                raise
            return None
        return found

    n, found = next(((n, found) for n in LISTED if (found := asked(n))), (0, None))
    if found is None or not found.top:
        return None
    ranked = sorted(found.top, key=found.top.__getitem__)
    last, best = ranked[0], ranked[-1]
    if lm.echoes:
        [scored] = together([lambda session: lm.logprob(session, ids, [best])], waiting=waiting)
        if not abs(scored - found.top[best]) <= AGREED:
            return None
    size = len(tokenizer.get_vocab())
    lm.tops = (n, size) if n == LISTED[0] < size else (n,)
    if len(ranked) > 1:
        chosen = asked(1, [last])
        lm.by_id = chosen is not None and abs(chosen.top.get(last, math.inf) - found.top[last]) <= AGREED
    return found


def _same_spelling(tokenizer: Any, words: dict[int, str]) -> bool:
    return not words or same_words(tokenizer, [-1, *words], ["", *words.values()])


def same_words(tokenizer: Any, ids: Sequence[int], echoed: Sequence[str]) -> bool:
    """Whether most tokens are ours; servers spell spaces, bytes and special tokens in their own ways, or write ids."""

    def plain(text: str) -> str:
        return text.replace("▁", " ").replace("Ġ", " ").strip()

    same = [
        word == f"token_id:{token}" or plain(word) == plain(tokenizer.decode([token]))
        for token, word in zip(ids[1:], echoed[1:])
    ]
    return sum(same) >= len(same) / 2
