"""Processes for tests that kill theirs: forked from a server that has imported all they need once, so each starts in a moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch._dynamo", "scipy.ndimage", "scipy.stats", "nibabel", "safetensors.torch", "matplotlib.figure"]
    + [
        f"ZSADCLIPLib.{name}"
        for name in ("benchmark.runner", "detection.detector", "training.fit", "neighbours.mutual")
    ]
)


def start(function: Callable, *arguments) -> multiprocessing.Process:
    """Call `function(*arguments)`, which is found by its name, in a process of its own."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def run(function: Callable, *arguments) -> int:
    """As `start`; its exit code, or minus the signal that ended it."""
    process = start(function, *arguments)
    process.join()
    return process.exitcode
