"""What cases that overlap in a process share: one thread that owns the device, and the room for their volumes.

Both go to the oldest case that asks. Where cases do not overlap, nothing is shared and everything runs where it is called.
"""

from __future__ import annotations

import queue
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


@contextmanager
def sharing(device: DeviceThread, room: Room, age: int) -> Iterator[None]:
    """In this block the context is that of a case; the smaller its `age`, the earlier it is served."""
    before = _MINE.set((device, room, age))
    try:
        yield
    finally:
        _MINE.reset(before)


def on_device(function: Callable[..., Result], *arguments: object, **choices: object) -> Result:
    """What the function returns, called on the thread that owns the device.

    One batch is the most that a call should do, as no other case's work is done meanwhile. Raises what the function raises.
    """
    found = _MINE.get()
    if found is None:
        return function(*arguments, **choices)
    device, _, age = found
    return device.call(age, partial(function, *arguments, **choices))


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
        self._asked: queue.PriorityQueue = queue.PriorityQueue()
        self._turn = count()
        # One that still serves does not keep the process from ending.
        threading.Thread(target=self._serve, name="device", daemon=True).start()

    def call(self, age: float, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises, once the thread has done it."""
        done: Future = Future()
        self._asked.put((age, next(self._turn), done, work))
        return done.result()

    def stop(self) -> None:
        """End the thread once all is done that was asked for; nobody may ask for more."""
        self._asked.put((float("inf"), next(self._turn), None, None))

    def _serve(self) -> None:
        while _answered(*self._asked.get()[2:]):
            pass


def _answered(done: Future | None, work: Callable[[], object] | None) -> bool:
    """False for the request to stop. A function of its own, so that nothing holds on to results and failed batches."""
    if done is None:
        return False
    try:
        done.set_result(work())
    except BaseException as error:
        done.set_exception(error)
    return True


class Room:
    """Voxels that the volumes of all cases may have together; a volume with more has all of it to itself."""

    def __init__(self):
        self._all = self._free = VOXELS
        self._waiting: set[int] = set()
        self._changed, self._closed = threading.Condition(), False

    def enlarge(self, times: int) -> None:
        """Give room to `times` as many voxels."""
        with self._changed:
            self._free += (times - 1) * self._all
            self._all *= times
            self._changed.notify_all()

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
