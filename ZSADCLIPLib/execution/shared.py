"""What cases that overlap in a process share: one thread that owns the device, and the room for their volumes.

Both go to the oldest case that asks. Where cases do not overlap, nothing is shared and everything runs where it is called.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import TypeVar

from ..progress import Cancelled

Result = TypeVar("Result")
VOXELS = 1 << 24
"""Of a volume, 256 x 256 x 256: there is room for so many times as many volumes as are under way at once. One of this size needs
about a GB."""
_MINE: ContextVar[tuple[DeviceThread, Room, int] | None] = ContextVar("mine", default=None)
_SERVED: ContextVar[tuple[DeviceThread, float] | None] = ContextVar("served", default=None)  # on the device's thread


@contextmanager
def sharing(device: DeviceThread, room: Room, age: int) -> Iterator[None]:
    """In this block the context is that of a case; the smaller its `age`, the earlier it is served."""
    before = _MINE.set((device, room, age))
    try:
        yield
    finally:
        _MINE.reset(before)


def on_device(function: Callable[..., Result], *arguments: object, **choices: object) -> Result:
    """What the function returns, called on the thread that owns the device; raises what it raises.

    One that takes long calls `give_way` after each batch, as no other case's work is done meanwhile.
    """
    found = _MINE.get()
    if found is None:
        return function(*arguments, **choices)
    device, _, age = found
    return device.call(age, partial(function, *arguments, **choices))


def give_way() -> None:
    """Within what runs on the device: let older cases come first."""
    if (found := _SERVED.get()) is not None:
        device, age = found
        device.serve_older(age)


@contextmanager
def room_for(voxels: int) -> Iterator[None]:
    """Hold the room for a volume in this block; waits until there is enough. Raises Cancelled when the run ends meanwhile."""
    found = _MINE.get()
    if found is None:
        yield
        return
    _, room, age = found
    with room.held(age, voxels):
        yield


class DeviceThread:
    """A thread that does what others ask for."""

    def __init__(self):
        self._asked: list[tuple] = []
        self._some, self._turn = threading.Condition(), count()
        # One that still serves does not keep the process from ending.
        threading.Thread(target=self._serve, name="device", daemon=True).start()

    def call(self, age: float, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises, once the thread has done it."""
        done: Future = Future()
        self._ask(age, done, work)
        return done.result()

    def stop(self) -> None:
        """End the thread once all is done that was asked for; nobody may ask for more."""
        self._ask(float("inf"), None, None)

    def serve_older(self, age: float) -> None:
        """On the thread itself: do what is asked for by cases older than `age`."""
        while True:
            with self._some:
                if not self._asked or self._asked[0][0] >= age:
                    return
                asked = heapq.heappop(self._asked)
            self._answer(*asked)

    def _ask(self, age: float, done: Future | None, work: Callable[[], object] | None) -> None:
        with self._some:
            heapq.heappush(self._asked, (age, next(self._turn), done, work))
            self._some.notify()

    def _serve(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._asked)
                asked = heapq.heappop(self._asked)
            if asked[2] is None:
                return
            self._answer(*asked)
            del asked  # nothing holds on to results and failed batches while there is nothing to do

    def _answer(self, age: float, turn: int, done: Future, work: Callable[[], object]) -> None:
        before = _SERVED.set((self, age))
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)
        finally:
            _SERVED.reset(before)


class Room:
    """Voxels that the volumes of all cases may have together; a volume with more has all of it to itself."""

    def __init__(self, at_once: int):
        self._all = self._free = at_once * VOXELS
        self._waiting: set[int] = set()
        self._changed, self._closed = threading.Condition(), False

    def close(self) -> None:
        """Let who waits raise Cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def held(self, age: int, voxels: int) -> Iterator[None]:
        """Hold so much in this block, once it is free and no older case waits."""
        with self._changed:
            voxels = min(voxels, self._all)
            self._waiting.add(age)
            self._changed.wait_for(lambda: self._closed or (voxels <= self._free and age == min(self._waiting)))
            self._waiting.discard(age)
            if self._closed:
                raise Cancelled
            self._free -= voxels
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += voxels
                self._changed.notify_all()
