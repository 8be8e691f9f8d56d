"""Which requests are answered together: a pure function of the requests, a token budget and a salt. No torch.

A batch is the unit of commit and resume, so its make-up must not depend on the clock, the machine or what is already
done. Requests are sorted so that shared prefixes stand together, then cut into batches of bounded work.
"""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, overload

import numpy as np

from tiltmeter.scoring.requests import Generation
from tiltmeter.scoring.trees.prefix_tree import common_prefix

PIECES_PER_BATCH = 8  # forwards of one scoring batch: enough to share prefixes, little enough to lose when killed
TOKENS_PER_ROW = 8  # a decoding step runs batch_tokens / 8 rows, unless it is told how many
ROWS_PER_BATCH = 2  # times the decoding width: how many generations make a batch, so that finished rows are refilled
KEY_TOKENS = 8  # tokens of the first sort key; ties are sorted by the next, twice as long


@dataclass(frozen=True)
class Widths:
    """What a token budget means for each kind of work.

    Attributes:
        piece_tokens: new tokens in one forward.
        rows: sequences decoded side by side.
    """

    piece_tokens: int
    rows: int


def widths(batch_tokens: int, rows: int | None = None) -> Widths:
    """The sizes that follow from `batch_tokens`, the number of tokens in one forward; `rows`: those that one decoding
    step takes, where the device wants another number."""
    return Widths(max(1, batch_tokens), max(1, rows or batch_tokens // TOKENS_PER_ROW))


class TokensOnDisk(Sequence[Sequence[int]]):
    """Token ids of many texts in a temporary file; in memory only where each begins (8 bytes a text)."""

    def __init__(self, file: IO[bytes], texts: Iterable[Sequence[int]]) -> None:
        self._file = file
        self._starts = array("q", [0])  # in tokens
        for ids in texts:
            self._file.write(np.asarray(ids, dtype="<i4").tobytes())
            self._starts.append(self._starts[-1] + len(ids))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Sequence[int]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[int]]: ...
    def __getitem__(self, index: int | slice) -> Sequence[int] | Sequence[Sequence[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, end = self._starts[index], self._starts[index + 1]
        self._file.seek(4 * start)
        return np.frombuffer(self._file.read(4 * (end - start)), dtype="<i4").tolist()  # type: ignore[no-any-return]


@contextmanager
def tokens_on_disk(texts: Iterable[Sequence[int]]) -> Iterator[TokensOnDisk]:
    """The ids of `texts`, written as they come; gone when the context ends."""
    with tempfile.TemporaryFile() as file:
        yield TokensOnDisk(file, texts)


def plan(
    kinds: Sequence[type],
    tokens: Sequence[Sequence[int]],
    batch_tokens: int,
    salt: str = "",
    rows: int | None = None,
) -> list[list[int]]:
    """Batches of the numbers of requests; every number comes once.

    Without a salt, requests of a kind are sorted by their token ids: neighbours share prefixes, samples of one prompt
    stay together. With one, prompts are shuffled by it instead (samples still together) and the batches are a
    different size: the composition differs, the questions do not.

    Args:
        kinds: the class of each request.
        tokens: the ids of each request's text.
        batch_tokens: tokens in one forward.
        salt: names another composition.
        rows: sequences decoded side by side; None: as `widths` says.
    """
    by_kind: dict[type, array[int]] = {}
    for index, kind in enumerate(kinds):
        by_kind.setdefault(kind, array("q")).append(index)
    batches = []
    for kind in sorted(by_kind, key=lambda kind: kind.__name__):
        asked = np.array(by_kind[kind])
        indices = _shuffled(asked, tokens, salt) if salt else _sorted(asked, tokens)
        batches += _cut(indices, tokens, kind is Generation, widths(batch_tokens, rows), salt)
    return batches


def _sorted(indices: np.ndarray, tokens: Sequence[Sequence[int]], start: int = 0) -> np.ndarray:
    """`sorted(indices, key=lambda index: tokens[index])` for ascending indices, with few tokens of each in memory.

    Texts are sorted by their tokens from `start` on, KEY_TOKENS of them; those that agree and go on, by what follows,
    twice as many at a time.
    """
    width = max(KEY_TOKENS, start)
    keys = np.zeros((len(indices), width), dtype=np.uint32)  # 0: the text has ended; ids count from 1
    for key, index in zip(keys, indices, strict=True):
        ids = tokens[index][start : start + width]
        key[: len(ids)] = np.add(ids, 1)
    order = np.lexsort(keys.T[::-1])
    keys, indices = keys[order], indices[order]
    ties = np.append((keys[1:] == keys[:-1]).all(1) & (keys[1:, -1] > 0), False)  # with the next one
    del keys
    first = 0
    for place in np.flatnonzero(~ties).tolist():
        if place > first:
            indices[first : place + 1] = _sorted(np.sort(indices[first : place + 1]), tokens, start + width)
        first = place + 1
    return indices


def _shuffled(indices: np.ndarray, tokens: Sequence[Sequence[int]], salt: str) -> np.ndarray:
    """Texts in the order of their hashes; equal ones stay together."""
    hashes = [hashlib.sha256(repr((salt, tuple(tokens[index]))).encode()).digest() for index in indices]
    return indices[np.argsort(np.array(hashes, dtype="S32"), kind="stable")]


def _cut(
    indices: np.ndarray, tokens: Sequence[Sequence[int]], generates: bool, size: Widths, salt: str
) -> list[list[int]]:
    """Cut sorted `indices` where the next prompt would exceed the batch's work; equal prompts are never parted."""
    limit = size.rows * ROWS_PER_BATCH if generates else size.piece_tokens * PIECES_PER_BATCH
    costs, repeats = array("q"), bytearray()
    before: list[int] = []
    for place, index in enumerate(indices):
        ids = list(tokens[index])
        costs.append(1 if generates else len(ids) - common_prefix(ids, before))
        repeats.append(place > 0 and ids == before)
        before = ids
    if salt:  # another size too, and never everything together again
        limit = min(int(0.75 * limit), int(0.6 * sum(costs)))
    batches: list[list[int]] = []
    used = 0
    for index, cost, repeated in zip(indices.tolist(), costs, repeats, strict=True):
        if not batches or (used + cost > limit and not repeated):
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += cost
    return batches
