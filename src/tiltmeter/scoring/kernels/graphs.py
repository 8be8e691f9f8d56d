"""A step that is recorded once and replayed: on a GPU as a CUDA graph, so that its thousands of launches become one.

A step takes and leaves everything in tensors that stay where they are, and reads no value on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

Step = Callable[[], None]


class Graphs(Protocol):
    def capture(self, step: Step) -> Step:
        """What does the same as `step`, faster. `step` may run for it; what it leaves then does not count."""


class CudaGraphs:
    """CUDA graphs that share one pool of memory: they never run at the same time."""

    def __init__(self) -> None:
        self._pool: Any = None

    def capture(self, step: Step) -> Step:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):  # libraries choose their kernels and get their workspaces outside the capture
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            step()
        self._pool = self._pool or graph.pool()
        return graph.replay


class Recorded:
    """Keeps the step itself: what a device without graphs replays."""

    def capture(self, step: Step) -> Step:
        return step


def graphs_for(device: str) -> Graphs:
    return CudaGraphs() if device.partition(":")[0] == "cuda" else Recorded()
