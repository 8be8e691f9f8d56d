"""Who gets which worker of a Ray cluster. A worker is an actor that holds at most one variant; this file loads none.

Every variant at work has a worker of its own before any has two. A worker that holds a variant is given what is asked
of that variant, and is not made to load another while nobody else holds it.

A worker that dies takes one request with it: that is asked again, whole, and another worker is started. What is raised
inside a worker comes back as it was raised there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from tiltmeter.errors import UserError
from tiltmeter.runs.progress import Progress
from tiltmeter.strategies.base import VariantFailed
from tiltmeter.study import VariantSpec

TRIES = 3  # workers that may die of one request
LOOK_S = 0.2  # how often a waiting thread looks whether the run was stopped, in seconds
PATIENCE_S = 30.0  # without any worker, before a person is told

Item = TypeVar("Item")


class Stopped(BaseException):
    """The run ends: a thread that waits for a worker must not be given one."""


class Unfit(VariantFailed):
    """Raised inside a worker whose answers must not stand beside those of the others: it is asked nothing more."""


@dataclass(eq=False)
class _Member:
    """A worker as the driver sees it. `call`: what it does now, or did last; first of all it tells about itself."""

    actor: Any
    call: Any
    holds: VariantSpec | None = None
    greeted: bool = False


class Pool:
    """At most `room` workers, started as they are needed. Any thread may ask for one.

    Args:
        start: starts an actor with a method `about` and returns its handle, at once.
        accept: is given what a new worker tells about itself; raises UserError for one that must not answer.
    """

    def __init__(self, start: Callable[[], Any], room: int, accept: Callable[[Any], None], progress: Progress) -> None:
        self._start, self._accept, self._progress = start, accept, progress
        self.room = room
        self._members: list[_Member] = []
        self._coming: list[_Member] = []  # start, or finish a call nobody waits for
        self._idle: list[_Member] = []
        self._changed = threading.Condition()
        self._active: Counter[VariantSpec] = Counter()
        self._waiting = 0  # threads without a worker
        self._failed_starts = 0  # one after another
        self._stopped = False

    @contextmanager
    def active(self, spec: VariantSpec) -> Iterator[None]:
        """Inside, the last worker that holds `spec` is not made to load another variant."""
        with self._changed:
            self._active[spec] += 1
        try:
            yield
        finally:
            with self._changed:
                self._active[spec] -= 1

    def call(self, spec: VariantSpec | None, ask: Callable[[Any], Any]) -> Any:
        """What a worker answers to the call that `ask(actor)` starts. Raises what was raised there."""
        ((_, found),) = self.spread(spec, deque([None]), lambda actor, _: ask(actor))
        if isinstance(found, Exception):
            raise found
        return found

    def spread(
        self,
        spec: VariantSpec | None,
        queue: deque[Item],
        ask: Callable[[Any, Item], Any],
        may_load: Callable[[int, int], bool] = lambda waiting, at_work: False,
    ) -> Iterator[tuple[Item, Any]]:
        """(item, answer or exception) of every item of `queue`, as they come; the reader may put more into the queue.

        Args:
            ask: starts a call on an actor and returns its reference.
            may_load: whether one more worker should load `spec`, given how many items wait and how many are at work.
        """
        running: dict[Any, tuple[_Member, Item, int]] = {}  # with how many workers died of it
        again: deque[tuple[Item, int]] = deque()  # asked before, first in turn
        try:
            while queue or again or running:
                while queue or again:
                    more = not running or may_load(len(queue) + len(again), len(running))
                    member = self._take(spec, wait=not running, may_load=more)
                    if member is None:
                        break
                    item, deaths = again.popleft() if again else (queue.popleft(), 0)
                    member.call = ask(member.actor, item)
                    running[member.call] = member, item, deaths
                member, item, deaths = running.pop(self._first(list(running)))
                found = self._outcome(member)
                if isinstance(found, Unfit) and self._retire(member, found):
                    again.appendleft((item, deaths))
                    continue
                if isinstance(found, RayError):
                    if deaths + 1 < TRIES:
                        self._progress.warn("a worker died: what it was asked is asked again")
                        again.appendleft((item, deaths + 1))
                        continue
                    found = RuntimeError(f"{TRIES} workers died of it: {_last_line(found)}")
                yield item, found
        finally:
            with self._changed:
                self._coming += [member for member, *_ in running.values()]

    def stop(self) -> None:
        """Every thread that waits for a worker, or comes for one, gets `Stopped`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all workers."""
        self.stop()
        for member in self._members:
            ray.kill(member.actor)

    def _take(self, spec: VariantSpec | None, *, wait: bool, may_load: bool) -> _Member | None:
        """An idle worker, starting one where there is room; None where `wait` is off and none is to be had."""
        tell_at = time.monotonic() + PATIENCE_S
        with self._changed:
            self._waiting += wait
            try:
                while True:
                    self._check_running()
                    self._welcome()
                    member = self._choose(spec, wait, may_load)
                    if member:
                        self._idle.remove(member)
                        member.holds = spec or member.holds
                        return member
                    if may_load and len(self._members) < self.room and len(self._coming) < max(self._waiting, 1):
                        actor = self._start()
                        self._members.append(_Member(actor, actor.about.remote()))
                        self._coming.append(self._members[-1])
                    if not wait:
                        return None
                    if time.monotonic() > tell_at and not any(member.greeted for member in self._members):
                        self._progress.warn("no worker yet: the cluster has no free place, or takes long to start one")
                        tell_at = float("inf")
                    self._changed.wait(LOOK_S)
            finally:
                self._waiting -= wait

    def _choose(self, spec: VariantSpec | None, wait: bool, may_load: bool) -> _Member | None:
        if not wait and len(self._idle) <= self._waiting:
            return None  # those that have none come first
        if spec is None:
            return self._idle[0] if self._idle else None
        for member in self._idle:
            if member.holds == spec:
                return member
        free = [member for member in self._idle if may_load and not self._needed(member)]
        return min(free, key=lambda member: member.holds is not None, default=None)

    def _needed(self, member: _Member) -> bool:
        """Whether it alone holds a variant that is at work."""
        holders = [other for other in self._members if other.holds == member.holds]
        return member.holds is not None and self._active[member.holds] > 0 and len(holders) == 1

    def _welcome(self) -> None:
        """Workers that have become ready join the idle ones."""
        if not self._coming:
            return
        calls = {member.call: member for member in self._coming}
        for call in ray.wait(list(calls), num_returns=len(calls), timeout=0)[0]:
            member = calls[call]
            self._coming.remove(member)
            found = self._outcome(member)
            if member.greeted:
                continue
            try:
                if isinstance(found, Exception):
                    self._failed_starts += 1
                    if self._failed_starts < TRIES and not getattr(found, "actor_init_failed", False):
                        continue  # killed on its way, or its machine went away
                    raise UserError(
                        f"a worker cannot start: {_last_line(found)}",
                        fix="install the same versions of tiltmeter and its libraries on every machine of the cluster",
                    )
                self._accept(found)
                member.greeted = True
                self._failed_starts = 0
                self._progress.note(f"worker {len(self._members)} of at most {self.room}: {found.host}")
            except UserError as error:
                if not self._retire(member, error):
                    self._drop(member)
                    raise

    def _first(self, calls: list[Any]) -> Any:
        """The first of these calls that ends."""
        while True:
            ready, _ = ray.wait(calls, num_returns=1, timeout=LOOK_S)
            if ready:
                return ready[0]
            self._check_running()

    def _outcome(self, member: _Member) -> Any:
        """What its finished call gave, or the exception; unless it died, it is idle from now on."""
        try:
            found = ray.get(member.call)
        except RayTaskError as error:
            raised = isinstance(error.cause, Exception) and not isinstance(error.cause, RayError)
            found = error.cause if raised else RuntimeError(_last_line(error))
        except RayError as error:  # the process, its machine, or the way to it
            self._drop(member)
            return error
        with self._changed:
            self._idle.append(member)
            self._changed.notify_all()
        return found

    def _drop(self, member: _Member) -> None:
        with self._changed:
            for members in (self._members, self._idle):
                if member in members:
                    members.remove(member)
        ray.kill(member.actor)

    def _retire(self, member: _Member, why: Exception) -> bool:
        """Do without this worker from now on; False, and nothing done, when there is no other."""
        with self._changed:
            if not any(other.greeted for other in self._members if other is not member):
                return False
            self.room -= 1
        self._drop(member)
        self._progress.warn(f"one worker less: {why}")
        return True

    def _check_running(self) -> None:
        if self._stopped:
            raise Stopped


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
