"""Which vocabulary entry stands for a surface form such as ``A``, ``yes`` or `` yes``. No torch.

A form counts when the vocabulary has one entry that writes exactly that string. Entries are looked up, never
produced by tokenizing the form: tokenizers merge with what stands before, and add prefix spaces of their own.
Byte-fallback pieces (``<0x41>``) are not entries for ``A``: no tokenizer emits them where the entry exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from tiltmeter.scoring.requests import OptionProbs

METASPACE = "▁"


class Forms:
    """Looks surface forms up in one vocabulary and remembers them (a vocabulary may have 10^5 entries).

    Args:
        vocabulary: entry -> id, as ``tokenizer.get_vocab()`` returns it.
    """

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, int | None] = {}

    def id(self, form: str) -> int | None:
        """The id of the entry that writes `form` (a leading space written as a space), or None."""
        if form not in self._known:
            self._known[form] = self._vocabulary.get(entry_of_form(self._vocabulary, form)) if form else None
        return self._known[form]

    def ids(self, request: OptionProbs) -> tuple[tuple[int | None, ...], ...]:
        """The id of every surface form of every option."""
        return tuple(tuple(self.id(form) for form in forms) for forms in request.options)


def entry_of_form(vocabulary: Mapping[str, int], form: str) -> str:
    """How this vocabulary spells `form`: byte-level (GPT-2 and heirs), space marker (sentencepiece), or as is."""
    letters = byte_letters()
    if letters[ord(" ")] in vocabulary and letters[ord("\n")] in vocabulary:  # the byte alphabet is always whole
        return "".join(letters[byte] for byte in form.encode())
    if any(entry.startswith(METASPACE) for entry in vocabulary):
        return form.replace(" ", METASPACE)
    return form


@lru_cache(maxsize=1)
def byte_letters() -> tuple[str, ...]:
    """The printable letter that stands for each of the 256 bytes in byte-level vocabularies.

    Source: OpenAI GPT-2, ``bytes_to_unicode``: printable Latin-1 bytes stand for themselves, the others take the
    code points from 256 up, in order.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))
