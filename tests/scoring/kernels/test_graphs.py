"""How graphs share a pool of memory. torch's graphs are stood in for: what the stand-ins refuse, an H200 refused."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from tiltmeter.scoring.kernels.graphs import CudaGraphs


class Card:
    """Pools with a count of their graphs, and a stream that may be in the middle of a capture."""

    def __init__(self, monkeypatch):
        self.pools: dict[tuple[int, int], int] = {}
        self.mode, self.modes, self.filling, self.generator = 0, [], [], "fresh"
        self.waits = 0  # of one stream for another
        self.stream = self.main = SimpleNamespace(wait_stream=self.wait, device_index=0)
        card = self

        class Graph:
            def __init__(self):
                self._pool = None

            def pool(self):
                assert self._pool is not None, "no capture has succeeded"
                return self._pool

            def replay(self):
                pass

            def __del__(self):
                if self._pool:
                    card.pools[self._pool] -= 1

        @contextmanager
        def graph(graph, pool, capture_error_mode):
            assert card.pools.get(pool) != 0, "use_count > 0 INTERNAL ASSERT FAILED"
            card.stream, card.generator = "aside", "captured"
            card.filling.append(pool)
            yield  # an error leaves everything as it is now, as torch does
            card.stream, card.generator = card.main, "fresh"
            card.filling.remove(pool)
            card.pools[pool] = card.pools.get(pool, 0) + 1
            graph._pool = pool

        @contextmanager
        def on(stream):
            yield

        def ends(device, pool):
            if pool not in card.filling:
                raise RuntimeError("not currently recording")
            card.filling.remove(pool)

        handles = iter(range(1, 100))
        generator = SimpleNamespace(
            clone_state=lambda: "fresh", graphsafe_set_state=lambda state: setattr(card, "generator", state)
        )
        for name, stood_in in {
            "CUDAGraph": Graph,
            "graph": graph,
            "Stream": lambda: card.main,
            "current_stream": lambda: card.stream,
            "stream": on,
            "set_stream": lambda stream: setattr(card, "stream", stream),
            "graph_pool_handle": lambda: (0, next(handles)),
            "get_sync_debug_mode": lambda: card.mode,
            "set_sync_debug_mode": lambda mode: setattr(card, "mode", mode),
            "default_generators": (generator,),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stood_in)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ends, raising=False)

    def wait(self, other):
        self.waits += 1


@pytest.fixture
def card(monkeypatch):
    return Card(monkeypatch)


def nothing():
    pass


def test_graphs_that_live_share_one_pool(card):
    graphs = CudaGraphs()
    kept = [graphs.capture(nothing) for _ in range(3)]
    assert len(kept) == 3
    assert list(card.pools.values()) == [3]


def test_when_all_graphs_are_gone_the_next_one_begins_another_pool(card):
    graphs = CudaGraphs()
    kept = [graphs.capture(nothing) for _ in range(2)]
    kept.clear()
    gc.collect()
    kept.append(graphs.capture(nothing))
    assert list(card.pools.values()) == [0, 1]


def test_a_step_that_waits_for_the_host_is_refused_before_anything_is_captured(card):
    """LLM.int8 asks the host for its outlier columns in every forward."""
    card_mode = []

    def step():
        card_mode.append(card.mode)
        if card.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        CudaGraphs().capture(step)
    assert card_mode == [0, "error"]
    assert (card.mode, card.pools, card.stream, card.generator) == (0, {}, card.main, "fresh")
    assert card.waits == 2  # its own stream waited for the main one, and what comes next waits for it


def test_a_capture_that_breaks_off_leaves_streams_pools_and_random_numbers_well(card):
    steps = iter([nothing, nothing, lambda: (_ for _ in ()).throw(RuntimeError("capture failed"))])
    with pytest.raises(RuntimeError, match="capture failed"):
        CudaGraphs().capture(lambda: next(steps)())
    assert (card.stream, card.generator, card.filling) == (card.main, "fresh", [])
