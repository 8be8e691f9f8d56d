"""The tokenizer and chat template of a GGUF file, as llama.cpp itself reads them.

llama.cpp cuts the texts, so that what is asked here is what its server would be asked; the methods are those of a
transformers tokenizer that tiltmeter uses. The template is rendered by transformers' sandboxed engine.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tiltmeter.models.formats.gguf.library import Weights

CONTROL = 3 | 8  # LLAMA_TOKEN_ATTR_UNKNOWN (1), UNUSED (2), CONTROL (8): what a reader is not shown


class Encoded(dict[str, list[int]]):
    """What a call of the tokenizer returns: `["input_ids"]`, or `.input_ids`."""

    @property
    def input_ids(self) -> list[int]:
        return self["input_ids"]


class GgufTokenizer:
    """Texts to ids and back, by the vocabulary of one file.

    Attributes:
        name_or_path: the file, as the user typed it.
        chat_template: the file's own; None where it has none.
        end_ids: tokens at which llama.cpp ends a generation: end of sequence, of turn, and their kin.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name_or_path = file, name
        weights = self._weights = Weights(file, vocabulary_only=True)
        self._library, self._vocabulary = weights.library, weights.vocabulary
        library, vocabulary = self._library, self._vocabulary
        self.bos_token_id = _known(library.llama_vocab_bos(vocabulary))
        self.eos_token_id = _known(library.llama_vocab_eos(vocabulary))
        self.pad_token_id = _known(library.llama_vocab_pad(vocabulary))
        template = library.llama_model_chat_template(weights.pointer, None)
        self.chat_template = template.decode(errors="replace") if template else None
        ids = range(weights.n_tokens)
        self.end_ids = frozenset(i for i in ids if library.llama_vocab_is_eog(vocabulary, i))
        self.all_special_ids = [i for i in ids if library.llama_vocab_get_attr(vocabulary, i) & CONTROL]

    def __len__(self) -> int:
        return self._weights.n_tokens

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.name_or_path)

    @cached_property
    def _entries(self) -> list[str]:
        text = self._library.llama_vocab_get_text
        return [text(self._vocabulary, i).decode(errors="replace") for i in range(len(self))]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {entry: index for index, entry in reversed(list(enumerate(self._entries)))}  # the first of equal ones

    @property
    def bos_token(self) -> str | None:
        return None if self.bos_token_id is None else self._entries[self.bos_token_id]

    @property
    def eos_token(self) -> str | None:
        return None if self.eos_token_id is None else self._entries[self.eos_token_id]

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """What a template may call by name."""
        named = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        return {name: text for name, text in named.items() if text is not None}

    def get_chat_template(self) -> str:
        return self.chat_template or ""

    @property
    def all_special_tokens(self) -> list[str]:
        return [self._entries[i] for i in self.all_special_ids]

    def get_vocab(self) -> dict[str, int]:
        """Entry, spelled as the file has it -> id."""
        return self._numbers

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> Encoded:
        """The ids of `text`; special tokens in it are read as such, as transformers does."""
        data = text.encode(errors="surrogatepass")
        room = len(data) + 8  # never more tokens than bytes, and BOS and EOS
        ids = (ctypes.c_int32 * room)()
        found = self._library.llama_tokenize(self._vocabulary, data, len(data), ids, room, add_special_tokens, True)
        return Encoded(input_ids=list(ids[:found]))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False, **_: Any) -> str:
        """The text of `ids`, with or without special tokens."""
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        room = 64
        while True:
            text = ctypes.create_string_buffer(room)
            written = self._library.llama_detokenize(
                self._vocabulary, tokens, len(ids), text, room, False, not skip_special_tokens
            )
            if written >= 0:
                return text.raw[:written].decode(errors="replace")
            room = -written

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], *, tokenize: bool = False, **settings: Any
    ) -> str:
        """The conversation as one text. Raises jinja2.TemplateError as transformers does."""
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered: Any = render_jinja_template(
            conversations=[list(messages)],
            chat_template=self.chat_template,
            bos_token=self.bos_token or "",
            eos_token=self.eos_token or "",
            **settings,
        )
        return str(rendered[0][0])


def _known(token: int) -> int | None:
    return None if token < 0 else int(token)
