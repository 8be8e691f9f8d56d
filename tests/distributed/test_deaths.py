"""How often an item is asked again when workers die of it."""

from __future__ import annotations

from collections import deque

import pytest

pytest.importorskip("ray")

from ray.exceptions import RayError

from tiltmeter.distributed.worker_pool import TRIES, Pool, _Member
from tiltmeter.runs.progress import Silent


class DyingPool(Pool):
    """A pool without Ray: one worker, which dies of everything it is asked."""

    def _take(self, spec, *, wait, may_load):
        return _Member(None, None) if wait else None

    def _first(self, calls):
        return calls[0]

    def _outcome(self, member):
        return RayError("died")


def test_a_new_item_has_all_its_tries_even_where_a_freed_one_lay():
    pool = DyingPool(lambda: None, 1, lambda about: None, Silent())
    asked: list[str] = []
    queue = deque([["whole"]])

    def ask(actor, item):
        asked.append(item[0])
        return object()

    given_up = []
    for item, error in pool.spread(None, queue, ask):
        given_up.append(item[0])
        assert isinstance(error, RuntimeError)
        del item  # as a batch that is halved: its memory, and so its id, is free for the halves
        if len(given_up) < 20:
            queue.append([f"half {len(given_up)}"])
    assert [asked.count(name) for name in given_up] == [TRIES] * 20
