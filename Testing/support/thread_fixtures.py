"""A fixture for tests of threads: none is left behind."""

import threading

import pytest

LONG = 300.0  # seconds that nobody waits unless something is broken


def other_threads():
    return {thread for thread in threading.enumerate() if thread.name == "device" or thread.name.startswith("case")}


@pytest.fixture
def no_thread_is_left():
    before = other_threads()
    yield
    for thread in other_threads() - before:
        thread.join(LONG)
        assert not thread.is_alive()
