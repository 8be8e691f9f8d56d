"""Is the vocabulary of a GGUF file the base's? The base's tokenizer asks, by number, so a token that is another word in
the file is asked as another word.

What llama.cpp would do otherwise with the same weights (open a text with BOS or not, its own chat template, another end
token) is named too. It makes nothing incomparable: here both models are asked alike.
"""

from __future__ import annotations

from typing import Any

from tiltmeter.messages import Message, say
from tiltmeter.models.difference import READS_TOKENS, WRITES, Difference
from tiltmeter.models.formats.gguf.header import Header

SPACE = "▁"  # SentencePiece's; converters write some tokens with it and some with a space
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # of tokenizer.ggml.token_type
RESPELLED = 0.01  # share of tokens that a converter may write otherwise (Gemma's runs of spaces, added words)
OPENS = Message("differs.gguf_bos")
OPENS_NOT = Message("differs.gguf_no_bos")
SHOWN = 40  # characters of a token in a message


def vocabulary_differences(header: Header, tokenizer: Any) -> list[Any]:
    """`compare_models.Difference`s between the file's vocabulary and the base's tokenizer."""
    return [*_tokens(header, tokenizer), *_habits(header, tokenizer)]


def _tokens(header: Header, tokenizer: Any) -> list[Any]:
    theirs = header.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(theirs, list):
        return [Difference("tokenizer", say("differs.gguf_no_vocabulary"))]
    kinds = header.metadata.get("tokenizer.ggml.token_type") or [1] * len(theirs)
    ours = {index: token for token, index in tokenizer.get_vocab().items()}
    special = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
    special |= {index for index, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)}
    unused = {index for index, kind in enumerate(kinds) if kind == UNUSED}
    words = set(range(len(theirs))) - unused
    other = sorted(
        index
        for index in words & set(ours)
        if str(theirs[index]).replace(SPACE, " ") != ours[index].replace(SPACE, " ")
    )
    lone = sorted(index for index in words ^ set(ours) if index not in unused)
    changed = [index for index in (*other, *lone) if index not in special]
    found = []
    if len(changed) > RESPELLED * len(ours):
        found.append(
            Difference(
                "tokenizer",
                say("differs.gguf_vocabulary", n=len(changed), all=len(ours)),
                (*READS_TOKENS, *WRITES),
            )
        )
    elif other:
        found.append(
            Difference(
                "tokenizer",
                say(
                    "differs.gguf_spelled",
                    n=len(other),
                    all=len(ours),
                    new=_shown(theirs[other[0]]),
                    old=_shown(ours[other[0]]),
                ),
            )
        )
    if lone and len(changed) <= RESPELLED * len(ours):
        names = ", ".join(_shown(ours.get(i, theirs[i] if i < len(theirs) else "")) for i in lone[:SHOWN])
        found.append(Difference("tokenizer", say("differs.special_tokens", names=names)))
    return found


def _habits(header: Header, tokenizer: Any) -> list[Any]:
    says, found = header.metadata.get, []
    add_bos = says("tokenizer.ggml.add_bos_token")
    opens = bool(tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id])
    if isinstance(add_bos, bool) and add_bos != opens:
        found.append(Difference("tokenizer", OPENS if add_bos else OPENS_NOT))
    for which, about in (("bos", "tokenizer"), ("eos", "end tokens")):
        theirs, ours = says(f"tokenizer.ggml.{which}_token_id"), getattr(tokenizer, f"{which}_token_id")
        if None not in (theirs, ours) and theirs != ours:
            found.append(
                Difference(
                    about,
                    say("differs.gguf_token", which=which.upper(), new=theirs, old=ours),
                )
            )
    template = says("tokenizer.chat_template")
    if isinstance(template, str) and template != tokenizer.chat_template:
        found.append(
            Difference(
                "chat template",
                say("differs.gguf_template"),
                chat_only=True,
            )
        )
    return found


def _shown(token: Any) -> str:
    text = repr(str(token)[:SHOWN])
    return text if len(str(token)) <= SHOWN else text[:-1] + "…'"
