"""What this machine can do: its matrix product rate, timed in the same run as everything it is compared with."""

from __future__ import annotations

import contextlib
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

CLEAR = Path("/proc/self/clear_refs")


def peak(dtype: torch.dtype, seconds: float = 1.5, largest: int = 3072) -> float:
    """Best rate in GFLOP/s of square matrix products in `dtype`; sizes grow while one product stays below a second."""
    best, size = 0.0, 256
    while size <= largest:
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        spent, count, shortest = 0.0, 0, float("inf")
        while spent < seconds / 4 or count < 3:
            started = time.perf_counter()
            a @ b
            shortest = min(shortest, time.perf_counter() - started)
            spent, count = spent + shortest, count + 1
            if shortest > 1:
                break
        best = max(best, 2 * size**3 / shortest / 1e9)
        if shortest * 8 > 1:
            break
        size *= 2 if size * 2 <= largest or size == largest else 1.5
        size = int(size)
    return best


def describe() -> dict:
    """Processor, threads and versions, JSON-able."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": model,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": round(_load(), 2),
    }


def _load() -> float:
    try:
        return float(Path("/proc/loadavg").read_text().split()[0])
    except OSError:
        return float("nan")


def timed(work: Callable, repeats: int = 3, warm: int = 1) -> dict:
    """Wall seconds of `work()`: {"median", "min", "repeats"} after `warm` unmeasured calls."""
    for _ in range(warm):
        work()
    walls = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        walls.append(time.perf_counter() - started)
    return {"median": statistics.median(walls), "min": min(walls), "repeats": repeats}


def memory_mb() -> tuple[float, float]:
    """Resident size and its peak since `forget_peak`, in MB (the process's whole peak where the kernel cannot reset it)."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return tuple(int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return most, most


def forget_peak() -> None:
    """Start a new peak of the resident size."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
