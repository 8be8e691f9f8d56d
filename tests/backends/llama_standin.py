"""Stands where llama-cpp-python's ctypes module would: the same functions, answered by transformers.

Sequences, positions and shared prefixes are kept as llama.cpp keeps them, and what llama.cpp refuses is refused: a
token that does not follow its sequence's last one, a sequence number too high, more tokens than there are cells. So
what is tested is what the backend asks and how it reads the answers, not llama.cpp; that is for `make engines-test`.
"""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from llama_files import DEMO
from transformers import AutoModelForCausalLM, AutoTokenizer

INT = ctypes.c_int32


class Batch(ctypes.Structure):
    """llama.h's `llama_batch`."""

    _fields_ = (
        ("n_tokens", INT),
        ("token", ctypes.POINTER(INT)),
        ("embd", ctypes.POINTER(ctypes.c_float)),
        ("pos", ctypes.POINTER(INT)),
        ("n_seq_id", ctypes.POINTER(INT)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(INT))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


class Standin:
    """`noise`: file name's ending -> how much every logit is turned by, so that variants differ."""

    llama_batch = Batch
    LLAMA_FLASH_ATTN_TYPE_DISABLED = 0
    noise: ClassVar = {"q8_0": 0.001, "q4_0": 0.05}

    def __init__(self) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(DEMO)
        self.decoded: list[int] = []  # tokens of every call

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("GGML_TYPE_", "LLAMA_FTYPE_")):
            return name.lower()
        raise AttributeError(name)

    # models
    def llama_version(self) -> bytes:
        return b"a stand-in"

    def llama_print_system_info(self) -> bytes:
        return b"none"

    def llama_model_default_params(self) -> Any:
        return SimpleNamespace()

    llama_context_default_params = llama_model_quantize_default_params = llama_model_default_params

    def llama_model_load_from_file(self, path: bytes, _settings: Any) -> Any:
        return SimpleNamespace(path=Path(path.decode()))

    def llama_model_free(self, model: Any) -> None: ...

    def llama_model_get_vocab(self, model: Any) -> Any:
        return model

    def llama_model_n_ctx_train(self, model: Any) -> int:
        return int(self.model.config.max_position_embeddings)

    def llama_model_size(self, model: Any) -> int:
        return int(model.path.stat().st_size)

    def llama_model_is_recurrent(self, model: Any) -> bool:
        return False

    llama_model_is_hybrid = llama_model_is_recurrent

    def llama_model_quantize(self, source: bytes, target: bytes, settings: Any) -> int:
        from llama_files import demo_gguf

        kind = settings.ftype.removeprefix("llama_ftype_mostly_")
        written = demo_gguf(Path(target.decode()).with_suffix(".made"), kinds={"model.layers.0.mlp": kind.upper()})
        shutil.move(written, target.decode())
        return 0

    # vocabulary
    def llama_vocab_n_tokens(self, vocabulary: Any) -> int:
        return int(self.model.config.vocab_size)

    def llama_vocab_bos(self, vocabulary: Any) -> int:
        return int(self.tokenizer.bos_token_id)

    def llama_vocab_eos(self, vocabulary: Any) -> int:
        return int(self.tokenizer.eos_token_id)

    def llama_vocab_pad(self, vocabulary: Any) -> int:
        return -1

    def llama_vocab_is_eog(self, vocabulary: Any, token: int) -> bool:
        return bool(token == self.tokenizer.eos_token_id)

    def llama_vocab_get_attr(self, vocabulary: Any, token: int) -> int:
        return 8 if token in self.tokenizer.all_special_ids else 4

    def llama_vocab_get_text(self, vocabulary: Any, token: int) -> bytes:
        return str(self.tokenizer.convert_ids_to_tokens(token) or f"[unused{token}]").encode()

    def llama_model_chat_template(self, model: Any, name: Any) -> bytes:
        return str(self.tokenizer.chat_template).encode()

    def llama_tokenize(self, vocabulary: Any, text: bytes, n: int, ids: Any, room: int, special: bool, _: bool) -> int:
        found = self.tokenizer(text.decode(), add_special_tokens=special).input_ids
        ids[: len(found)] = found
        return len(found)

    def llama_detokenize(self, vocabulary: Any, ids: Any, n: int, text: Any, room: int, _: bool, special: bool) -> int:
        found = self.tokenizer.decode(list(ids[:n]), skip_special_tokens=not special).encode()
        if len(found) > room:
            return -len(found)
        ctypes.memmove(text, found, len(found))
        return len(found)

    # contexts
    def llama_init_from_model(self, model: Any, settings: Any) -> Any:
        return SimpleNamespace(model=model, settings=settings, sequences={}, out=None)

    def llama_free(self, context: Any) -> None: ...

    def llama_get_memory(self, context: Any) -> Any:
        return context

    def llama_memory_clear(self, context: Any, _data: bool) -> None:
        context.sequences.clear()

    def llama_memory_seq_cp(self, context: Any, source: int, target: int, start: int, stop: int) -> None:
        context.sequences[target] = list(context.sequences[source])

    def llama_memory_seq_rm(self, context: Any, sequence: int, start: int, stop: int) -> None:
        context.sequences[sequence] = context.sequences.get(sequence, [])[:start]

    def llama_decode(self, context: Any, batch: Batch) -> int:
        if batch.n_tokens > context.settings.n_batch:
            return -1
        self.decoded.append(batch.n_tokens)
        wanted = []
        for i in range(batch.n_tokens):
            for k in range(batch.n_seq_id[i]):
                number = batch.seq_id[i][k]
                sequence = context.sequences.setdefault(number, [])
                if batch.pos[i] != len(sequence) or number >= context.settings.n_seq_max:
                    return -1
                sequence.append(batch.token[i])
            if batch.logits[i]:
                wanted.append((batch.seq_id[i][0], batch.pos[i]))
        if sum(map(len, context.sequences.values())) > context.settings.n_ctx:
            return 1
        logits = {number: self._logits(context.sequences[number]) for number, _ in wanted}
        rows = [logits[number][place] for number, place in wanted]
        turned = next((much for end, much in self.noise.items() if end in str(context.model.path)), 0.0)
        if context.settings.type_k != "ggml_type_f32":
            turned += 0.002
        if rows:
            context.out = np.ascontiguousarray(np.stack(rows) * (1 + turned), dtype=np.float32)
        return 0

    @torch.inference_mode()
    def _logits(self, sequence: list[int]) -> np.ndarray:
        return np.asarray(self.model(torch.tensor([sequence])).logits[0].numpy())

    def llama_get_logits(self, context: Any) -> Any:
        return context.out.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
