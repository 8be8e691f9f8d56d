"""A step that is recorded once and replayed: on a GPU as a CUDA graph, so that its thousands of launches become one.

A step takes and leaves everything in tensors that stay where they are, and reads no value on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol
from weakref import WeakSet

import torch

Step = Callable[[], None]


class Graphs(Protocol):
    def capture(self, step: Step) -> Step:
        """What does the same as `step`, faster. `step` may run for it; what it leaves then does not count."""


class CudaGraphs:
    """CUDA graphs that share one pool of memory: they never run at the same time.

    A pool lives as long as a graph that was captured into it; when the last one is gone, the next begins a new pool.
    """

    def __init__(self) -> None:
        self._alive: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def capture(self, step: Step) -> Step:
        """Raises RuntimeError for a step that waits for the host: found before anything is captured, because a capture
        that breaks off leaves more behind than `_abandoned` is known to repair."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(aside):
                step()  # libraries choose their kernels and get their workspaces outside the capture
                with _waiting_is_an_error():
                    step()
        finally:  # a step that was refused still writes what comes next
            torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        other = next(iter(self._alive), None)
        pool = torch.cuda.graph_pool_handle() if other is None else other.pool()
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                step()
        except RuntimeError:
            _abandoned(stream, pool)
            raise
        self._alive.add(graph)
        return graph.replay


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    """Inside, torch's operations that wait for the GPU raise RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _abandoned(stream: torch.cuda.Stream, pool: tuple[int, int]) -> None:
    """After a capture that broke off: torch 2.11 leaves its side stream current, its allocator filling the pool, its
    generator as if it were captured: the next random number anywhere raises."""
    torch.cuda.set_stream(stream)
    with suppress(RuntimeError):  # where it has ended by itself
        torch._C._cuda_endAllocateToPool(stream.device_index, pool)  # type: ignore[attr-defined]
    generator = torch.cuda.default_generators[stream.device_index]
    generator.graphsafe_set_state(generator.clone_state())


class Recorded:
    """Keeps the step itself: what a device without graphs replays."""

    def capture(self, step: Step) -> Step:
        return step


def graphs_for(device: str) -> Graphs:
    return CudaGraphs() if device.partition(":")[0] == "cuda" else Recorded()
