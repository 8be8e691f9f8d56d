"""What a backend may be asked, and what it answers. No torch here.

Three request kinds, no more. Every benchmark is expressed in them, every backend answers them:

* ``SequenceLogprob``  log-likelihood of a whole text (nats)
* ``OptionProbs``      log-probability of given surface forms right after a prompt (nats)
* ``Generation``       new text after a prompt, greedy or sampled

An answer that could not be computed carries ``error`` (a short reason, counted by name) and no
numbers; it is never 0 and never dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tiltmeter.messages import Message, Text, as_json, from_json

TOO_LONG = Message("unscored.too_long")
NOT_FINITE = Message("unscored.not_finite")
NO_TOKEN = Message("unscored.no_token")
NO_TEXT = Message("unscored.no_text")


@dataclass(frozen=True)
class SequenceLogprob:
    """Log-likelihood of `text`, tokenized with the tokenizer's defaults and exactly one BOS."""

    text: str


@dataclass(frozen=True)
class OptionProbs:
    """Log-probability of each option at the next token after `prompt`.

    Attributes:
        options: per option, its surface forms as single vocabulary entries; form 0 is the paper's
            (``yes``; ``A``), the others (``Yes``, `` yes`` …) serve the extra columns. A surface
            form counts when the tokenizer has ONE token for it, looked up in the vocabulary, never
            by gluing ids to a prompt.
    """

    prompt: str
    options: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Generation:
    """At most `max_new_tokens` new tokens after `prompt`. temperature 0 is greedy.

    Sampling is plain ancestral sampling from softmax(logits / temperature) restricted to the
    `top_p` nucleus, with uniforms from ``numpy.random.Generator(PCG64(seed))``, one per new token,
    by inverse CDF in token-id order: the text depends on the request alone.
    """

    prompt: str
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class SequenceAnswer:
    """logprob: sum of log p(token | before) over all tokens but the first (nats); n_tokens: how many."""

    logprob: float | None
    n_tokens: int
    error: Text | None = None


@dataclass(frozen=True)
class OptionAnswer:
    """logprobs[o][f]: log-probability (nats, over the whole vocabulary) of form f of option o; None where
    the tokenizer has no single token for that form. The error NO_TOKEN means that some option has no form at all
    with a token; one that lacks only form 0 is answered, and whoever needs form 0 sees its None.

    left_out: probability, at most, of forms that have a token whose log-probability a server did not give (None too).
    """

    logprobs: tuple[tuple[float | None, ...], ...] | None
    n_tokens: int
    error: Text | None = None
    left_out: float = 0.0


@dataclass(frozen=True)
class GenerationAnswer:
    """text: new tokens decoded WITH special tokens (what the published parsers saw);
    clean: the same without them (what people read).

    stopped: "eos" when an end-of-sequence id came (it is part of `text`), else "length".
    n_tokens: new tokens, the end token included.
    guessed, accepted: tokens that a helper proposed, and of them those that the model took; 0 where nothing guessed.
    """

    text: str | None
    clean: str | None
    n_tokens: int
    stopped: str | None
    error: Text | None = None
    guessed: int = 0
    accepted: int = 0


Request = SequenceLogprob | OptionProbs | Generation
Answer = SequenceAnswer | OptionAnswer | GenerationAnswer

GUESSES = ("guessed", "accepted")  # fields of answers that a helper took part in
_ANSWERS = {"sequence": SequenceAnswer, "options": OptionAnswer, "generation": GenerationAnswer}
_ANSWER_OF: dict[type, type] = {
    SequenceLogprob: SequenceAnswer,
    OptionProbs: OptionAnswer,
    Generation: GenerationAnswer,
}


def failed(request: Request, reason: Text, n_tokens: int = 0) -> Answer:
    """The answer to a request that cannot be computed."""
    if isinstance(request, Generation):
        return GenerationAnswer(None, None, n_tokens, None, reason)
    return _ANSWER_OF[type(request)](None, n_tokens, reason)  # type: ignore[no-any-return]


def answer_to_dict(answer: Answer) -> dict[str, Any]:
    """JSON form of an answer: {"kind": ..., fields}; without the guesses where nothing guessed,
    and without what is left out where nothing is."""
    kind = next(name for name, cls in _ANSWERS.items() if isinstance(answer, cls))
    data = {"kind": kind, **asdict(answer), "error": as_json(answer.error)}
    if not data.get("guessed"):
        data = {key: value for key, value in data.items() if key not in GUESSES}
    return {key: value for key, value in data.items() if key != "left_out" or value}


def answer_from_dict(data: dict[str, Any]) -> Answer:
    """Inverse of `answer_to_dict` (lists become tuples again)."""
    fields = {key: value for key, value in data.items() if key != "kind"}
    fields["error"] = from_json(data["error"]) if data.get("error") else None
    if data["kind"] == "options" and fields["logprobs"] is not None:
        fields["logprobs"] = tuple(tuple(forms) for forms in fields["logprobs"])
    return _ANSWERS[data["kind"]](**fields)  # type: ignore[no-any-return]


Format = Literal["plain", "chat"]


@dataclass(frozen=True)
class Prompt:
    """One prompt in both formats.

    Attributes:
        plain: the whole plain text, answer prefix included, to the character of the protocol.
        messages: the chat turns, (role, text) with roles system, user, assistant; the last is user.
        prefix: answer prefix put after the rendered chat template as ``" " + prefix`` ("" for none).
    """

    plain: str
    messages: tuple[tuple[str, str], ...]
    prefix: str = ""


Render = Callable[[Prompt], str]  # -> the exact text that is tokenized (see scoring.prompts.renderer)
