"""The event loop of a world: virtual time in integer nanoseconds, and a scheduler that obeys the seed.

Stock ``Task``, ``Future``, ``Queue``, ``TaskGroup`` and ``timeout`` run on it unchanged. Two kinds of things happen:

*occurrences* (message arrivals, node timers, disk completions) are ordered by (time, tie of their cause) and run one at
a time, those for *now* before all others and in the order in which they were asked for; *asyncio handles* run in
between, all that are ready before the next occurrence: plain callbacks in the order they were registered, which asyncio
documents, and steps of tasks picked at random, which it never promised. So the order of occurrences does not depend on
how many steps a Python version needs for ``wait_for``.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from heapq import heapify, heappop, heappush
from random import Random
from typing import Any, TypeVar, TypeVarTuple

from sim.border import Border
from sim.errors import Deadlock, Livelock, NotSimulated
from sim.occurrence import OWNER, Occurrence, Owner
from sim.seed import Source
from sim.task import SimFuture, SimTask

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_PER_INSTANT_MAX = 200_000  # handles run without time moving on, before it is called a livelock
STEPS_PER_COLLECTION = 500_000  # garbage goes at fixed steps, so finalizers run at the same ones in every process
FOR_EVER = 1 << 100  # ns
COMPACT_MIN = 256  # cancelled timers are swept once they are this many, and more than half


class SimLoop(Border):
    """``picks`` chooses among ready tasks; ``None`` steps them first in, first out (for debugging)."""

    _ready: deque[asyncio.Handle]
    _thread_id: int | None
    _check_closed: Callable[[], None]
    _check_running: Callable[[], None]

    def __init__(self, picks: Random | None = None) -> None:
        super().__init__()
        self.set_debug(False)
        self.now = 0  # ns
        self.steps = 0
        self.failures: list[tuple[Owner | None, str, BaseException | None]] = []
        self._picks = picks
        self._steppable: list[asyncio.Handle] = []
        self._heap: list[tuple[int, int, int, Occurrence | asyncio.TimerHandle]] = []
        self._soon: deque[Occurrence] = deque()
        self._pushed = 0
        self._cancelled = 0
        self._numbers = 0
        self._instant_began = 0  # ``steps`` when time last moved on
        self._tasks: list[SimTask[Any]] = []
        self._sweep_at = 1024
        self.graveyard: list[object] = []  # what belonged to the dead: kept, so that no ``finally`` runs
        self._home = threading.get_ident()

    # -- time ------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now / 1e9

    def at(
        self,
        when: int,
        callback: Callable[[], object],
        source: Source,
        owner: Owner | None = None,
        context: contextvars.Context | None = None,
    ) -> Occurrence:
        """Let ``callback`` happen at ``when`` (never before now), as the next thing ``source`` causes."""
        occurrence = Occurrence(callback, owner, context)
        self._pushed += 1
        heappush(self._heap, (when if when > self.now else self.now, source.tie(), self._pushed, occurrence))
        return occurrence

    def soon(
        self, callback: Callable[[], object], owner: Owner | None = None, context: contextvars.Context | None = None
    ) -> Occurrence:
        """Let ``callback`` happen now: after what is going on and what was asked for before, before all else."""
        occurrence = Occurrence(callback, owner, context)
        self._soon.append(occurrence)
        return occurrence

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._call_at_ns(self.now + max(0, round(delay * 1e9)), callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        exact = round(when * 1e9)
        if exact / 1e9 < when:  # a timer that rings a hair early would be armed again
            exact += 1
        return self._call_at_ns(max(exact, self.now), callback, args, context)

    def _call_at_ns(
        self, when: int, callback: Callable[..., object], args: Any, context: contextvars.Context | None
    ) -> asyncio.TimerHandle:
        self._check_closed()
        timer = asyncio.TimerHandle(when / 1e9, callback, args, self, context)
        timer._scheduled = True  # type: ignore[attr-defined]  # so that cancelling it is told to us
        self._pushed += 1
        # After every occurrence of the same instant: ties of occurrences have 64 bits.
        tie = 1 << 64 if self._picks is None else (1 << 64) + self._picks.getrandbits(32)
        heappush(self._heap, (when, tie, self._pushed, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled += 1
        if self._cancelled > COMPACT_MIN and self._cancelled * 2 > len(self._heap):
            self._heap[:] = [
                entry
                for entry in self._heap
                if not (entry[3].callback is None if isinstance(entry[3], Occurrence) else entry[3].cancelled())
            ]
            heapify(self._heap)
            self._cancelled = 0

    # -- handles ---------------------------------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        self._check_closed()
        handle = asyncio.Handle(callback, args, self, context)
        self._enqueue(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._home:
            raise NotSimulated("call_soon_threadsafe from another thread: a world has one thread")
        return self.call_soon(callback, *args, context=context)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        callback = handle._callback  # type: ignore[attr-defined]
        if self._picks is not None and isinstance(getattr(callback, "__self__", None), asyncio.Task):
            self._steppable.append(handle)
        else:
            self._ready.append(handle)

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return SimFuture(number=self._numbers, loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """As asyncio's; without a name it is called by its number in this world, not in the process."""
        self._check_closed()
        self._numbers += 1
        if len(self._tasks) >= self._sweep_at:
            self._tasks = [each for each in self._tasks if not each.done() or each._log_traceback]
            self._sweep_at = max(1024, 2 * len(self._tasks))
        task: SimTask[T] = SimTask(
            coro,
            number=self._numbers,
            owner=OWNER.get() if context is None else context.get(OWNER),
            loop=self,
            name=f"task-{self._numbers}" if name is None else str(name),
            context=context,
            **options,
        )
        self._tasks.append(task)
        return task

    def _step(self) -> None:
        """Run one of the ready handles."""
        steppable, ready = self._steppable, self._ready
        if steppable:
            assert self._picks is not None
            choices = len(steppable) + (1 if ready else 0)
            index = int(self._picks.random() * choices) if choices > 1 else 0
            if index < len(steppable):
                handle, steppable[index] = steppable[index], steppable[-1]
                steppable.pop()
                self._run_handle(handle)
                return
        self._run_handle(ready.popleft())

    def _run_handle(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        self.steps += 1
        owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
        if owner is None or owner.running:
            handle._run()
        else:
            self._withhold(owner, handle)

    def _withhold(self, owner: Owner, what: Occurrence | asyncio.Handle) -> None:
        """Its owner is paused: keep it for later; or dead: bury it."""
        if owner.alive:
            assert owner.held is not None
            owner.held.append(what)
        else:
            self.graveyard.append(what)

    def _next(self, until: int) -> bool:
        """Let the next occurrence up to ``until`` happen, or a timer make its handle ready. False: there is none."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, _, entry = heappop(heap)
            if entry.__class__ is Occurrence:
                if entry.callback is None:
                    continue
                if when > self.now:
                    self.now, self._instant_began = when, self.steps
                self._deliver(entry)
                return True
            assert isinstance(entry, asyncio.TimerHandle)
            if entry.cancelled():
                self._cancelled -= 1
                continue
            if when > self.now:
                self.now, self._instant_began = when, self.steps
            entry._scheduled = False  # type: ignore[attr-defined]
            self._enqueue(entry)
            return True
        return False

    def _deliver(self, occurrence: Occurrence) -> None:
        callback = occurrence.callback
        if callback is None:
            return
        owner = occurrence.owner
        if owner is None or owner.running:
            occurrence.callback = None
            self.happen(owner, occurrence.context, callback)
        else:
            self.steps += 1
            self._withhold(owner, occurrence)

    def happen(
        self,
        owner: Owner | None,
        context: contextvars.Context | None,
        callback: Callable[..., object],
        args: tuple[Any, ...] = (),
    ) -> None:
        """It happens before this returns: kept if its owner is paused, buried if dead. What it raises ends the run."""
        self.steps += 1
        if owner is not None and not owner.running:
            self._withhold(owner, Occurrence(partial(callback, *args), owner, context))
            return
        try:
            if context is None:
                callback(*args)
            else:
                context.run(callback, *args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as wrong:  # noqa: BLE001 - a node's bug ends the run, with whose it was
            self.failures.append((owner, f"in {getattr(callback, '__qualname__', callback)}", wrong))

    def resume(self, held: list[Any]) -> None:
        """Let what a paused owner missed happen now, in the order in which it was due."""
        for each in held:
            if isinstance(each, Occurrence):
                self._pushed += 1
                heappush(self._heap, (self.now, 0, self._pushed, each))
            else:
                self._enqueue(each)

    # -- running ---------------------------------------------------------------------------------------------------

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This loop is the running one, asynchronous generators are its own, and garbage waits."""
        self._check_closed()
        self._check_running()
        collecting, hooks = gc.isenabled(), sys.get_asyncgen_hooks()
        gc.disable()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)  # type: ignore[attr-defined]
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)
            self._thread_id = None
            sys.set_asyncgen_hooks(*hooks)
            if collecting:
                gc.enable()

    def drive(self, until: int | None, done: Callable[[], bool] | None = None) -> bool:
        """Run up to and including ``until``, or until ``done()`` (asked after every step) or the first failure.

        True when ``done`` said so. Without it time ends at ``until`` exactly. Call it inside ``entered``.
        """
        horizon = FOR_EVER if until is None else until
        next_collection = self.steps + STEPS_PER_COLLECTION
        failures, ready, steppable, soon = self.failures, self._ready, self._steppable, self._soon
        while not failures:
            if done is not None and done():
                return True
            if ready or steppable:
                self._step()
            elif soon:
                self._deliver(soon.popleft())
            elif not self._next(horizon):
                if until is None:
                    raise Deadlock("nothing is left that could happen, and what was waited for has not")
                if until > self.now:
                    self.now, self._instant_began = until, self.steps
                return False
            if self.steps - self._instant_began > STEPS_PER_INSTANT_MAX:
                raise Livelock(f"{STEPS_PER_INSTANT_MAX} steps at {self.time():.9f} s without time moving on")
            if self.steps >= next_collection:
                gc.collect()
                next_collection = self.steps + STEPS_PER_COLLECTION
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody else dealt with: it fails the run, unless it is a dead node's."""
        task = context.get("task") or context.get("future")
        handle = context.get("handle")
        owner = getattr(task, "owner", None)
        if owner is None and handle is not None:
            owner = handle._context.get(OWNER)
        if owner is None:
            owner = OWNER.get()
        if owner is not None and not owner.alive:
            return
        self.failures.append((owner, str(context.get("message", "")), context.get("exception")))

    def tasks_of(self, owner: Owner | None) -> list[SimTask[Any]]:
        """The unfinished tasks of ``owner``, oldest first."""
        return [each for each in self._tasks if each.owner is owner and not each.done()]

    def unretrieved(self) -> list[tuple[SimTask[Any], BaseException]]:
        """Tasks that failed and whose failure nobody looked at."""
        found = []
        for task in self._tasks:
            if task.done() and task._log_traceback and (task.owner is None or task.owner.alive):
                wrong = task.exception()
                assert wrong is not None
                found.append((task, wrong))
        return found

    def close(self) -> None:
        """End the world: whatever still waits is closed without a word. Safe to call twice."""
        if self.is_closed():
            return
        super().close()
        self._steppable.clear()
        self._soon.clear()
        self._heap.clear()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if task.done():
                if not task.cancelled():
                    task.exception()  # seen: nobody is left to be told
                continue
            coroutine: Any = task.get_coro()
            try:
                coroutine.close()
            except BaseException:  # noqa: BLE001 - a dead program's last words: its world is gone
                pass
        self._tasks.clear()
        self.graveyard.clear()
