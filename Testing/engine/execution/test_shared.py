"""What threads share: the device, room for volumes, a model, and what a process has only once."""

import logging
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from ZSADCLIPLib.dicom.sources import discreet
from ZSADCLIPLib.errors import WeightsError
from ZSADCLIPLib.execution.base import once
from ZSADCLIPLib.execution.shared import VOXELS, DeviceThread, Room, give_way, on_device, room_for, sharing
from ZSADCLIPLib.progress import Cancelled
from ZSADCLIPLib.threads import unwarned, warned
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes import reading
from ZSADCLIPLib.volumes.itk import same_locale
from ZSADCLIPLib.volumes.reading import NIBABEL, write_volume

pytest_plugins = ["thread_fixtures"]
pytestmark = pytest.mark.usefixtures("no_thread_is_left")
LONG = 300.0  # seconds that nobody waits unless something is broken


def test_one_thread_has_the_device_and_older_cases_come_first():
    device, room, gate, order, threads = DeviceThread(), Room(4), threading.Event(), [], set()
    asked = [threading.Event() for _ in range(4)]

    def work(age):
        order.append(age)
        threads.add(threading.current_thread().name)

    def case(age):
        with sharing(device, room, age):
            asked[age].set()
            on_device(work, age)

    def hold():
        with sharing(device, room, 0):
            on_device(lambda: (asked[0].set(), gate.wait(LONG)))

    holder = threading.Thread(target=hold)
    holder.start()
    assert asked[0].wait(LONG)
    others = [threading.Thread(target=case, args=(age,)) for age in (3, 1, 2)]
    for other in others:
        other.start()
    assert all(event.wait(LONG) for event in asked)
    while len(device._asked) < 3:
        pass
    gate.set()
    for thread in (holder, *others):
        thread.join(LONG)
    device.stop()
    assert order == [1, 2, 3] and threads == {"device"}


def test_what_runs_on_the_device_raises_where_it_was_asked_for_and_asks_nobody_itself():
    device = DeviceThread()

    def fail():
        raise WeightsError(on_device(threading.current_thread).name)

    with sharing(device, Room(1), 0), pytest.raises(WeightsError, match="device"):
        on_device(fail)
    device.stop()
    assert on_device(threading.current_thread) is threading.current_thread()


def test_a_model_is_loaded_once_whoever_asks_for_it():
    begun, go, loaded, got = threading.Event(), threading.Event(), [], []

    @once
    def state():
        loaded.append(1)
        begun.set()
        assert go.wait(LONG)
        return object()

    threads = [threading.Thread(target=lambda: got.append(state())) for _ in range(3)]
    threads[0].start()
    assert begun.wait(LONG)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(LONG)
    assert loaded == [1] and len(got) == 3 and len(set(got)) == 1


def test_a_long_call_gives_way_to_older_cases_after_each_batch():
    device, room, order, inside, asked = DeviceThread(), Room(3), [], threading.Event(), threading.Event()

    def long():
        order.append("batch 1 of 2")
        inside.set()
        assert asked.wait(LONG)
        while not device._asked:
            pass
        give_way()
        order.append("batch 2 of 2")

    def case(age, function):
        with sharing(device, room, age):
            on_device(function)

    threads = [threading.Thread(target=case, args=(2, long))]
    threads[0].start()
    assert inside.wait(LONG)
    for age in (3, 1):
        threads.append(threading.Thread(target=case, args=(age, lambda age=age: order.append(age))))
        threads[-1].start()
        while len(device._asked) < len(threads) - 1:
            pass
    asked.set()
    for thread in threads:
        thread.join(LONG)
    device.stop()
    give_way()  # nobody is served here
    assert order == ["batch 1 of 2", 1, "batch 2 of 2", 3]


@contextmanager
def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    yield thread
    thread.join(LONG)
    assert not thread.is_alive()


def test_volumes_wait_for_room_the_oldest_first_and_a_huge_one_has_it_alone():
    room, order, held = Room(2), [], threading.Event()

    def take(age, voxels):
        with room.held(age, voxels):
            order.append(age)

    with room.held(0, VOXELS):
        with room.held(1, VOXELS):
            threads = [threading.Thread(target=take, args=(age, size)) for age, size in ((3, 1), (2, 99 * VOXELS))]
            for thread, age in zip(threads, (3, 2), strict=True):
                thread.start()
                while age not in room._waiting:
                    held.wait(0.001)
            assert order == []
        assert order == []  # the huge one waits for all of it, and what is younger for the huge one
    for thread in threads:
        thread.join(LONG)
    assert order == [2, 3] and room._free == 2 * VOXELS


def test_who_waits_for_room_hears_of_the_end():
    room, said = Room(1), []

    def wait():
        try:
            with room.held(1, 1):
                said.append("held")
        except Cancelled:
            said.append("cancelled")

    with room.held(0, VOXELS), in_thread(wait):
        while not room._waiting:
            pass
        room.close()
    assert said == ["cancelled"]
    with room_for(99 * VOXELS):  # no run, no bound
        pass


def test_a_thread_hears_its_own_warnings_only():
    inside, over = threading.Event(), threading.Event()

    def other():
        assert inside.wait(LONG)
        warnings.warn("of another thread", UserWarning, stacklevel=1)
        over.set()

    with in_thread(other), warnings.catch_warnings(record=True) as passed_on:
        warnings.simplefilter("always")
        with warned() as said:
            inside.set()
            assert over.wait(LONG)
            warnings.warn("of this one", RuntimeWarning, stacklevel=1)
    assert said == [RuntimeWarning] and [str(w.message) for w in passed_on] == ["of another thread"]


def test_nobody_waits_for_a_thread_that_listens_or_wants_no_warnings():
    """One of two threads in such a block may wait for the other, as a sender for its receiver."""
    filters, handlers, levels = list(warnings.filters), list(NIBABEL.handlers), logging.getLogger("pydicom").level
    other_read = threading.Event()

    def other():
        with unwarned(), same_locale(), discreet(), warned() as said:
            warnings.warn("of the other", UserWarning, stacklevel=1)
        other_said.extend(said)
        other_read.set()

    other_said = []
    with discreet(), same_locale(), warned() as said, in_thread(other):
        assert other_read.wait(LONG)
        warnings.warn("still heard", RuntimeWarning, stacklevel=1)
    assert (other_said, said) == ([UserWarning], [RuntimeWarning])
    assert (list(warnings.filters), list(NIBABEL.handlers)) == (filters, handlers)
    assert logging.getLogger("pydicom").level == levels


def test_each_of_two_files_that_are_read_at_once_has_its_own_notes(tmp_path, monkeypatch):
    from ZSADCLIPLib.volumes import nifti

    both, inner = threading.Barrier(2, timeout=LONG), nifti.read

    def read(path):
        both.wait()
        NIBABEL.warning("about %s", path.name)
        warnings.warn(path.name, {"a.nii": UserWarning, "b.nii": RuntimeWarning}[path.name], stacklevel=1)
        both.wait()
        return inner(path)

    monkeypatch.setitem(reading.FORMATS, ".nii", replace(reading.FORMATS[".nii"], read=read))
    notes = {}

    def look(name):
        notes[name] = [note.text for note in reading.read_volume(tmp_path / name).notes if note.code == "library"]

    for name in ("a.nii", "b.nii"):
        write_volume(tmp_path / name, Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)))
    with in_thread(lambda: look("a.nii")), in_thread(lambda: look("b.nii")):
        pass
    for name, kind in (("a.nii", "UserWarning"), ("b.nii", "RuntimeWarning")):
        assert notes[name] == [f"nibabel: about {name}", f"a library warned while it read the file ({kind})"]
