"""llama.cpp in this process, through llama-cpp-python's ctypes layer: a file's weights, and a context that decodes.

Only what the engine needs: token ids, positions and sequence numbers go in, logits come out. All sequences lie in one
buffer (`kv_unified`), so that sharing what is already computed (`llama_memory_seq_cp`) copies nothing.

Numerics    float32 logits; keys and values in float32 without flash attention unless a cache type is asked for.
Safety      a file's header is read by `models.formats.gguf.header` before llama.cpp's own loader sees it.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tiltmeter.errors import UserError, missing_extra

CELLS = 8192  # tokens whose keys and values are kept at a time, of all sequences together
SEQUENCES = 128  # side by side; llama.cpp allows 256
STEP = 512  # tokens in one pass through the weights, llama.cpp's own default
LOGITS = 2**25  # values that one call may return: 128 MiB
ERROR = 4  # of llama.cpp's log levels
_said: deque[str] = deque(maxlen=20)  # the last warnings and errors


@cache
def package() -> Any:
    """llama-cpp-python's ctypes module, its log kept instead of printed. Raises UserError where it is not installed."""
    try:
        from llama_cpp import llama_cpp as library
    except (ImportError, OSError, RuntimeError) as error:
        if isinstance(error, ImportError) and error.name == "llama_cpp":
            raise missing_extra("llama_cpp", "llama-cpp", "--backend llama-cpp") from None
        raise UserError(
            f"llama-cpp-python cannot be loaded: {str(error)[:200]}", fix="build it for this machine: make engines"
        ) from None

    @library.llama_log_callback
    def listen(level: int, text: bytes, _user: Any) -> None:
        if level == ERROR:
            _said.append(text.decode(errors="replace").strip())

    library.listen = listen  # must outlive this call
    library.llama_log_set(listen, ctypes.c_void_p(0))
    library.llama_backend_init()
    return library


def versions() -> dict[str, str]:
    """Versions of the bindings and of the library, and what its kernels use of this processor."""
    library = package()
    return {
        "llama-cpp-python": version("llama-cpp-python"),
        "llama.cpp": library.llama_version().decode(),
        "system": library.llama_print_system_info().decode(),
    }


def last_words() -> str:
    """What llama.cpp said last when something went wrong."""
    return _said[-1][:200] if _said else "llama.cpp gives no reason"


@dataclass(frozen=True)
class CacheTypes:
    """ggml types of cached keys and values, as llama.cpp's own tools name them.

    float32 by default, where llama.cpp itself takes float16: rounded keys and values make an answer depend on its
    neighbours in a batch by 0.01 nats a token (measured on SmolLM2), float32 ones by 0.00003.
    """

    keys: str = "f32"
    values: str = "f32"

    @property
    def exact(self) -> bool:
        """Nothing is rounded. Flash attention would: it reads float32 keys and values as float16."""
        return (self.keys, self.values) == ("f32", "f32")

    @property
    def shares(self) -> bool:
        """Whether a text after a kept prefix gives the same bits as alone: flash attention over 16-bit keys or values
        takes another kernel for long prompts than for short ones (0.6 nats in a text, measured), so there it does not.
        """
        return self.exact or not {self.keys, self.values} & {"f32", "f16", "bf16"}


def quantize(source: Path, target: Path, kind: str) -> None:
    """Writes `source` with its matrices in the type `kind`. Raises RuntimeError when llama.cpp fails."""
    library = package()
    settings = library.llama_model_quantize_default_params()
    settings.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{kind.upper()}")
    _said.clear()
    if library.llama_model_quantize(str(source).encode(), str(target).encode(), settings):
        raise RuntimeError(f"llama.cpp could not quantize: {last_words()}")


class Weights:
    """A GGUF file in memory, or its vocabulary alone. Raises UserError for a file that llama.cpp cannot load."""

    def __init__(self, path: Path, *, vocabulary_only: bool = False) -> None:
        library = self.library = package()
        settings = library.llama_model_default_params()
        settings.vocab_only = vocabulary_only
        settings.n_gpu_layers = 0
        _said.clear()
        self.pointer = library.llama_model_load_from_file(str(path).encode(), settings)
        if not self.pointer:
            raise UserError(
                f"llama.cpp cannot load {path}: {last_words()}", fix="fetch the file again, or name another"
            )
        self.vocabulary = library.llama_model_get_vocab(self.pointer)
        self.n_tokens = int(library.llama_vocab_n_tokens(self.vocabulary))
        self.trained_length = int(library.llama_model_n_ctx_train(self.pointer))

    @property
    def n_bytes(self) -> int:
        """All tensors, as they lie in the file."""
        return int(self.library.llama_model_size(self.pointer))

    @property
    def shares(self) -> bool:
        """Whether sequences can share a prefix: not where a state is carried along instead of keys and values."""
        carried = (self.library.llama_model_is_recurrent, self.library.llama_model_is_hybrid)
        return not any(asks(self.pointer) for asks in carried)

    def close(self) -> None:
        if self.pointer:
            self.library.llama_model_free(self.pointer)
        self.pointer = None


class Context:
    """Decodes tokens of many sequences; their keys and values are kept.

    Args:
        cells: tokens kept at a time, of all sequences together.
        threads: of llama.cpp's own pool.
    """

    def __init__(self, weights: Weights, types: CacheTypes, *, threads: int, cells: int = CELLS) -> None:
        library = self.library = weights.library
        self.weights, self.cells = weights, cells
        self.per_call = max(32, min(STEP, LOGITS // weights.n_tokens // 32 * 32))  # outputs, and so tokens
        settings = library.llama_context_default_params()
        settings.n_ctx = cells
        settings.n_batch = self.per_call
        settings.n_ubatch = self.per_call
        settings.n_seq_max = SEQUENCES
        settings.n_threads = settings.n_threads_batch = threads
        settings.type_k, settings.type_v = (
            getattr(library, f"GGML_TYPE_{name.upper()}") for name in (types.keys, types.values)
        )
        if types.exact:
            settings.flash_attn_type = library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.kv_unified = settings.swa_full = settings.no_perf = True
        _said.clear()
        self.pointer = library.llama_init_from_model(weights.pointer, settings)
        if not self.pointer:
            raise UserError(
                f"llama.cpp cannot keep keys in {types.keys} and values in {types.values}: {last_words()}",
                fix="choose other cache types, such as ctk=q8_0,ctv=q8_0",
            )
        self.memory = library.llama_get_memory(self.pointer)

    def decode(
        self,
        tokens: Sequence[int] | np.ndarray,
        positions: Sequence[int] | np.ndarray,
        sequences: Sequence[Sequence[int]],
        wanted: np.ndarray,
    ) -> np.ndarray:
        """The float32 logits (n, vocabulary) after the `wanted` (bool) of at most `per_call` tokens, in order.

        The array is llama.cpp's own memory: it holds until the next call. sequences: per token, those it belongs to.
        Raises RuntimeError where llama.cpp fails, no cell being free included.
        """
        library, n = self.library, len(tokens)
        ids, places = np.ascontiguousarray(tokens, np.int32), np.ascontiguousarray(positions, np.int32)
        counts = np.fromiter(map(len, sequences), np.int32, n)
        flat = np.fromiter((one for each in sequences for one in each), np.int32, int(counts.sum()))
        rows = (flat.ctypes.data + 4 * (np.cumsum(counts) - counts)).astype(np.uint64)  # a pointer per token
        asked = np.ascontiguousarray(wanted, np.int8)

        def pointer(array: np.ndarray, kind: Any) -> Any:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

        batch = library.llama_batch(
            n,
            pointer(ids, ctypes.c_int32),
            None,
            pointer(places, ctypes.c_int32),
            pointer(counts, ctypes.c_int32),
            pointer(rows, ctypes.POINTER(ctypes.c_int32)),
            pointer(asked, ctypes.c_int8),
        )
        _said.clear()
        status = library.llama_decode(self.pointer, batch)
        if status:
            why = "no room for more tokens" if status == 1 else last_words()
            raise RuntimeError(f"llama.cpp could not decode (status {status}): {why}")
        n_out = int(asked.sum())
        if not n_out:
            return np.empty((0, self.weights.n_tokens), np.float32)
        found = library.llama_get_logits(self.pointer)
        return np.ctypeslib.as_array(found, shape=(n_out * self.weights.n_tokens,)).reshape(n_out, -1)

    def share(self, source: int, target: int) -> None:
        """Sequence `target` begins with all of `source`."""
        self.library.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def cut(self, sequence: int, length: int = 0) -> None:
        """Only the first `length` tokens of a sequence stay."""
        self.library.llama_memory_seq_rm(self.memory, sequence, length, -1)

    def clear(self) -> None:
        self.library.llama_memory_clear(self.memory, True)

    def close(self) -> None:
        if self.pointer:
            self.library.llama_free(self.pointer)
        self.pointer = None


class OneAtATime:
    """A context in the place of a transformers model, so that `scoring.reference` can ask it: one sequence, in order.

    This is the definition that the engine is held to: no prefix is shared, no other sequence is there.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._length = 0

    def __call__(self, ids: Any, past_key_values: Any = None, use_cache: bool = False, **_: Any) -> Any:
        """Logits (1, T, vocabulary) after each of `ids` (1, T); with `past_key_values` they follow the last ones."""
        import torch

        if past_key_values is None:
            self.context.clear()
            self._length = 0
        tokens = ids[0].tolist()
        rows = []
        for first in range(0, len(tokens), self.context.per_call):
            part = tokens[first : first + self.context.per_call]
            start = self._length
            self._length += len(part)
            found = self.context.decode(
                part, np.arange(start, self._length), [(0,)] * len(part), np.ones(len(part), bool)
            )
            rows.append(torch.from_numpy(found.copy()))
        return SimpleNamespace(logits=torch.cat(rows)[None], past_key_values=self if use_cache else None)
