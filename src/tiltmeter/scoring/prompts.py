"""From a benchmark's prompt to the exact text that is tokenized, and from that text to token ids.

plain   the prompt's own text.
chat    the model's chat template over the prompt's turns, with the generation prompt, then " " + answer prefix.

Departures from the published code: it rendered the template to text and tokenized that with another BOS; here every
text gets exactly one. A template that writes today's date is given 26 Jul 2024, so that answers, hashes and resumes do
not change with the day. Where a template raises on, or leaves out, a system message, the system text and a blank line
go before the first user turn, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tiltmeter.errors import UserError
from tiltmeter.messages import Text, say
from tiltmeter.models import templates
from tiltmeter.models.templates import TemplateFailed
from tiltmeter.scoring.requests import Format, Prompt, Render

if TYPE_CHECKING:  # transformers is imported only where it is used
    from transformers import PreTrainedTokenizerBase

DATE = datetime(2024, 7, 26)
DATE_STRING = "26 Jul 2024"
PROBE_SYSTEM, PROBE_USER = "tiltmeter probes the system turn", "tiltmeter probes the user turn"

Messages = Sequence[tuple[str, str]]


def renderer(format: Format, tokenizer: PreTrainedTokenizerBase) -> tuple[Render, list[Text]]:
    """How prompts of one format become text for this tokenizer, and notes the run must show (often none).

    Raises UserError for "chat" when the tokenizer has no chat template, or one that cannot render a single user turn.
    """
    if format == "plain":
        return _plain, []
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            f"{tokenizer.name_or_path or 'this model'} has no chat template: it cannot run in chat format",
            fix="use --format plain, or a model whose tokenizer has a chat template",
        )
    merge, notes = _system_fallback(tokenizer)

    def chat(prompt: Prompt) -> str:
        messages = with_system_in_first_user_turn(prompt.messages) if merge else prompt.messages
        try:
            text = _apply(tokenizer, messages)
        except TemplateFailed as error:
            raise _cannot_render(tokenizer, error) from None
        lost = [said for _, said in messages if said.strip() not in text]
        if lost:
            raise UserError(
                f"the chat template of {tokenizer.name_or_path} leaves out {lost[0][:60]!r}",
                fix="use --format plain, or repair the model's chat template",
            )
        return f"{text} {prompt.prefix.strip()}" if prompt.prefix else text

    return chat, notes


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a whole text, as the tokenizer makes them by default, with two corrections.

    What the tokenizer puts before every text (BOS, or a prefix such as GLM's two tokens, declared or not) stands there
    once: a rendered chat template that begins with it keeps the template's own ids. And no EOS that the tokenizer
    appended to a text that does not end with it. One that adds nothing by default adds nothing here.
    """
    ids = list(tokenizer(text, verbose=False)["input_ids"])
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    prefix = _prefix(tokenizer)
    if prefix and ids[: 2 * len(prefix)] == prefix * 2:
        del ids[: len(prefix)]
    while bos is not None and ids[:2] == [bos, bos]:
        del ids[0]
    if eos is not None and ids[-1:] == [eos] and len(ids) > 1:
        bare = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        del ids[len(ids) - max(_trailing(ids, eos) - _trailing(bare, eos), 0) :]
    return ids


def _prefix(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text; remembered with it."""
    known: list[int] | None = getattr(tokenizer, "_tiltmeter_prefix", None)
    if known is None:
        whole = list(tokenizer("a", verbose=False)["input_ids"])
        bare = list(tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"])
        known = next((whole[:n] for n in range(len(whole)) if bare and whole[n : n + len(bare)] == bare), [])
        setattr(tokenizer, "_tiltmeter_prefix", known)  # noqa: B010
    return known


def with_system_in_first_user_turn(messages: Messages) -> Messages:
    """The turns without a system role: its text and a blank line are put before the first user turn."""
    if not messages or messages[0][0] != "system":
        return messages
    (_, system), (role, first), *rest = messages
    return ((role, f"{system}\n\n{first}"), *rest)


def _plain(prompt: Prompt) -> str:
    return prompt.plain


def _system_fallback(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, list[Text]]:
    """Whether system texts must be merged into the user turn, and the note that says so."""
    user = ("user", PROBE_USER)
    try:
        if PROBE_USER not in _apply(tokenizer, (user,)):
            raise UserError(
                f"the chat template of {tokenizer.name_or_path} leaves out what the user says",
                fix="use --format plain, or repair the model's chat template",
            )
    except TemplateFailed as error:
        raise _cannot_render(tokenizer, error) from None
    try:
        kept = PROBE_SYSTEM in _apply(tokenizer, (("system", PROBE_SYSTEM), user))
        how = "note.leaves_out"
    except TemplateFailed:
        kept, how = False, "note.refuses"
    return (False, []) if kept else (True, [say("note.system_leaves", how=say(how))])


def _cannot_render(tokenizer: PreTrainedTokenizerBase, error: TemplateFailed) -> UserError:
    return UserError(
        f"the chat template of {tokenizer.name_or_path} cannot be rendered: {error}",
        fix="use --format plain, or repair the model's chat template",
    )


def _apply(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The rendered template. Raises `templates.TemplateFailed` for one that fails or exceeds its time or memory."""
    return templates.render(tokenizer, messages, DATE, DATE_STRING)


def _trailing(ids: Sequence[int], token: int) -> int:
    """How many times `token` stands at the end of `ids`."""
    return next((place for place, other in enumerate(reversed(ids)) if other != token), len(ids))
