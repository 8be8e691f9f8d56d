"""Decoding without a word from the host: forward, choice of the token and its place in one region that is replayed.

A step of a large model on a GPU is a few thousand launches, which take the host longer than the GPU. The region of one
step reads and writes only tensors that stay where they are (`Burst`), so it can be captured and replayed. Up to STEPS
steps are replayed before the host looks. A row that ends, or of which something is in doubt, stands still from then on:
texts are those of one step at a time. A doubtful step (a draw within rounding of a boundary, logits that are not
finite) is taken again by the host, alone.

Rows come in buckets; those of a bucket that nobody needs work on a spare row of the store. When a region is captured it
is replayed once beside the step itself: other bits, or a model that asks the host, and the run goes on step by step,
and says so.

Shapes: b rows of a bucket, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tiltmeter.messages import Text, say
from tiltmeter.scoring.device import is_lost, is_out_of_memory, refuses_capture, strict
from tiltmeter.scoring.kernels.decode_definition import Now
from tiltmeter.scoring.kernels.graphs import Graphs, Step, graphs_for
from tiltmeter.scoring.logprobs import logprobs_of
from tiltmeter.scoring.trees.cache import KV
from tiltmeter.scoring.trees.decode_store import DecodeStore
from tiltmeter.scoring.trees.room import Room
from tiltmeter.scoring.trees.steps import Active, Sizes, Steps
from tiltmeter.scoring.trees.tree_model import TreeModel, windows_of_layers
from tiltmeter.scoring.writing import Writing, sampled_ids

STEPS = 8  # replayed before the host looks; a row that ends waits for at most seven
FEWEST_ROWS = 16  # of a bucket; the others are powers of two
# rows of the integers and of the numbers that the host hands over
ROW, SLOT, TOKEN, SHARED, OWN, LIMIT, ACTIVE, PREFIX, INTEGERS = range(9)
HEAT, MASS, DRAWS = range(3)


@dataclass(frozen=True)
class Kind:
    """What decides which code a region runs.

    Attributes:
        rows: b.
        ends: ids that end a text.
        sampled: some rows are sampled; hot, nucleus: as in `sampled_ids`; recorded: log-probabilities are asked for.
    """

    rows: int
    ends: tuple[int, ...]
    sampled: bool
    hot: bool
    nucleus: bool
    recorded: bool

    @classmethod
    def of(cls, writings: list[Writing]) -> Kind:
        requests = [writing.request for writing in writings]
        rows = max(FEWEST_ROWS, 1 << (len(requests) - 1).bit_length())
        sampled = [request for request in requests if request.temperature]
        return cls(
            rows,
            tuple(sorted(writings[0].eos_ids)),
            bool(sampled),
            any(request.temperature != 1 for request in sampled),
            any(request.top_p < 1 for request in sampled),
            any(writing.recorded for writing in writings),
        )


class Burst:
    """The tensors of one region, and its step."""

    def __init__(self, kind: Kind, store: DecodeStore, model: TreeModel) -> None:
        device = model.variant.device
        self.kind, self._model = kind, model
        self.integers = torch.zeros(INTEGERS, kind.rows, dtype=torch.int64, device=device)
        self.numbers = torch.zeros(DRAWS + STEPS, kind.rows, dtype=torch.float64, device=device)
        self.written = torch.zeros(STEPS + 2, kind.rows, dtype=torch.int64, device=device)  # ids, how many, in doubt
        self.logprobs = torch.zeros(STEPS, kind.rows, dtype=torch.float64, device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)  # which step of the burst is next
        self._ends = torch.tensor(kind.ends, dtype=torch.int64, device=device)
        self.store = store
        self.logits: Tensor | None = None
        self.replay: Step = self.step

    @property
    def state(self) -> tuple[Tensor, ...]:
        """All that a step changes, but for keys and values, which it would write again."""
        return self.integers, self.written, self.logprobs, self.at

    def step(self) -> None:
        """One more token for every row that is active. No value is read on the host."""
        row, slot, token, shared, own, limit, active, prefix = self.integers
        now = Now(row, slot, prefix[:1].int(), shared.int(), (own + 1).int())
        self.store.begin_on_device(now, own)
        logits = self._model.step(token, prefix + shared + own, self.store)
        ids, sound = self._chosen(logits)
        goes_on = (active > 0) & sound
        n_written, doubtful = self.written[STEPS], self.written[STEPS + 1]
        doubtful += (active > 0) & ~sound
        self.written.index_copy_(0, self.at, ids[None])
        if self.kind.recorded:
            self.logprobs.index_copy_(0, self.at, logprobs_of(logits, ids)[None])
        n_written += goes_on
        own += goes_on
        token.copy_(ids.where(goes_on, token))
        ended = (ids[:, None] == self._ends).any(-1)
        active.copy_(goes_on & ~ended & (n_written < limit))
        self.at += 1
        self.logits = logits

    def _chosen(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's id, and whether there is no doubt about it: `writing.extend` on the device."""
        ids = logits.argmax(-1)
        largest = logits.gather(-1, ids[:, None])[:, 0]
        finite = largest.isfinite()
        if not self.kind.sampled:
            return ids, finite
        heat, mass = self.numbers[HEAT, :, None], self.numbers[MASS, :, None]
        draw = self.numbers[DRAWS:].index_select(0, self.at).T
        found, certain = sampled_ids(
            logits.where(finite[:, None], 0),
            heat.where(heat > 0, 1),
            mass,
            draw,
            largest.where(finite, 0),
            hot=self.kind.hot,
            nucleus=self.kind.nucleus,
        )
        sampled = heat[:, 0] > 0
        return found.where(sampled, ids), finite & (certain | ~sampled)

    def fill(self, store: DecodeStore, active: Active, spare: int) -> int:
        """Hand over where each row stands. Returns: how many steps it makes sense to replay."""
        self.store = store
        integers = np.zeros(self.integers.shape, dtype=np.int64)
        numbers = np.zeros(self.numbers.shape)
        integers[ROW], integers[PREFIX] = spare, store.start
        numbers[MASS] = 1
        for place, (row, writing) in enumerate(active):
            request, done = writing.request, len(writing.ids)
            slot = row // store.width
            left = request.max_new_tokens - done
            lengths = int(store.shared_length[slot]), int(store.own_length[row])
            integers[:PREFIX, place] = (row, slot, writing.ids[-1], *lengths, left, 1)
            if writing.draws is not None:
                draws = writing.draws[done : done + STEPS]
                numbers[[HEAT, MASS], place] = request.temperature, request.top_p
                numbers[DRAWS : DRAWS + len(draws), place] = draws
        self.integers.copy_(torch.from_numpy(integers))
        self.numbers.copy_(torch.from_numpy(numbers))
        for tensor in (self.written, self.at):
            tensor.zero_()
        return min(STEPS, int(integers[LIMIT].max()))

    def capture(self, graphs: Graphs) -> None:
        """Put the captured step in the step's place. Raises NotImplementedError where it gives other bits."""
        before = [tensor.clone() for tensor in self.state]
        found: list[list[Tensor]] = []
        for way in ("as it is", "captured"):
            if way == "captured":
                self.replay = graphs.capture(self.step)
                self._restore(before)
            self.replay()
            found.append([tensor.clone() for tensor in (*self.state, self.logits) if tensor is not None])
            self._restore(before)
        self.logits = None  # its memory belongs to the graphs' pool
        if not all(map(_same_bits, *found)):
            raise NotImplementedError("a captured step gives other bits than the step itself")

    def _restore(self, before: list[Tensor]) -> None:
        for tensor, held in zip(self.state, before, strict=True):
            tensor.copy_(held)


class CapturedSteps(Steps):
    """`Steps`, several at a time, in captured regions.

    Attributes:
        notes: why it went back to one step at a time, if it did.
    """

    def __init__(self, model: TreeModel, graphs: Graphs | None = None) -> None:
        super().__init__(model, one_kernel=True)
        self.notes: list[Text] = []
        self._graphs = graphs or graphs_for(model.variant.device)
        self._room = Room()
        self._bursts: dict[Kind, Burst] = {}
        self._version = 0  # of the room, when they were captured

    def store(self, prefix: KV | None, sizes: Sizes, like: KV) -> DecodeStore:
        windows = windows_of_layers(self.model.variant.model.config)
        found = DecodeStore(
            prefix, sizes.slots, sizes.width, sizes.shared, sizes.own, windows, like, self._room, one_kernel=True
        )
        if self._version != self._room.version:
            self._bursts, self._version = {}, self._room.version
        return found

    def advance(self, store: DecodeStore, active: Active, slots: int) -> None:
        store.settle()
        burst = None if self.notes else self._burst(store, active)
        if burst is None:
            super().advance(store, active, slots)
            return
        steps = burst.fill(store, active, self._room.spare)
        for _ in range(steps):
            burst.replay()
        self.model.tokens_computed += steps * len(active)
        written = burst.written.cpu().numpy()
        logprobs = burst.logprobs.cpu().numpy() if burst.kind.recorded else None
        doubtful = []
        for place, (row, writing) in enumerate(active):
            count = int(written[STEPS, place])
            writing.ids += written[:count, place].tolist()
            if logprobs is not None:
                writing.logprobs += logprobs[:count, place].tolist()
            store.own_length[row] += count
            if written[STEPS + 1, place]:
                doubtful.append((row, writing))
        if doubtful:
            super().advance(store, doubtful, slots)

    def _burst(self, store: DecodeStore, active: Active) -> Burst | None:
        """The region for these rows, captured at its first use; None where that is refused."""
        kind = Kind.of([writing for _, writing in active])
        if kind not in self._bursts:
            burst = Burst(kind, store, self.model)
            burst.fill(store, active, self._room.spare)
            try:
                burst.capture(self._graphs)
            except Exception as error:
                if is_out_of_memory(error) or (is_lost(error) and not refuses_capture(error)) or strict():
                    raise
                line = (str(error).splitlines() or [""])[0][:120]
                self.notes.append(say("note.not_captured", reason=f"{type(error).__name__}: {line}"))
                self._bursts.clear()
                return None
            self._bursts[kind] = burst
        return self._bursts[kind]

    def drop(self) -> None:
        self._bursts.clear()
        self._room.drop()


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
