"""Processes for tests that kill theirs: forked from a server that has imported torch once, so each starts in a moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "scipy.ndimage", "scipy.stats", "nibabel", "safetensors.torch"])


def run(function: Callable, *arguments) -> int:
    """Call `function(*arguments)`, which is found by its name, in a process of its own; its exit code, or minus the signal."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode
