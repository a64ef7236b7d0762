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
CHUNK = 0.1
PRODUCTS = 16
"""Products queued at once on a GPU, where waiting for each would be measured as well."""
DEVICE = {"name": "cpu"}
"""What is measured; `scripts/measure/bench --device` changes the name."""


def wait() -> None:
    """Let a GPU finish what was queued."""
    if DEVICE["name"] != "cpu":
        torch.cuda.synchronize()


def peak(dtype: torch.dtype, seconds: float = 1.0, largest: int | None = None) -> dict:
    """Best rates of square matrix products in `dtype`: GFLOP per wall second and per CPU second.

    Sizes grow while one product stays well below a second; each rate is the best of chunks of at least `CHUNK` seconds. On a
    machine that is shared, the rate per CPU second is what other work can be compared with.
    """
    gpu = DEVICE["name"] != "cpu"
    best, size = {"wall": 0.0, "cpu": 0.0}, 1024 if gpu else 256
    while size <= (largest or (8192 if gpu else 2048)):
        a, b = (torch.randn(size, size, device=DEVICE["name"]).to(dtype) for _ in range(2))
        a @ b
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            count, clocks = 0, (time.perf_counter(), time.process_time())
            while count == 0 or time.perf_counter() - clocks[0] < CHUNK:
                for _ in range(PRODUCTS if gpu else 1):
                    a @ b
                    count += 1
                wait()
            spent = {"wall": time.perf_counter() - clocks[0], "cpu": time.process_time() - clocks[1]}
            best = {key: max(best[key], 2 * count * size**3 / spent[key] / 1e9) for key in best}
        if spent["wall"] / count > 0.3:
            break
        size *= 2
    return {key: round(rate, 2) for key, rate in best.items()}


def describe() -> dict:
    """Processor, threads and versions, JSON-able."""
    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = {"gpu": torch.cuda.get_device_name()} if DEVICE["name"] != "cpu" else {}
    return {
        **gpu,
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
    """Seconds of `work()` after `warm` unmeasured calls: {"wall" median, "wall_min", "cpu" least CPU seconds, "repeats"}."""
    for _ in range(warm):
        work()
    wait()
    walls, cpus = [], []
    for _ in range(repeats):
        clocks = time.perf_counter(), time.process_time()
        work()
        wait()
        walls.append(time.perf_counter() - clocks[0])
        cpus.append(time.process_time() - clocks[1])
    return {"wall": statistics.median(walls), "wall_min": min(walls), "cpu": min(cpus), "repeats": repeats}


def memory_mb() -> tuple[float, float]:
    """Memory in use and its peak since `forget_peak`, in MB: of the GPU that is measured, else the resident size.

    Where the kernel cannot reset the peak of the resident size it is the process's whole one.
    """
    if DEVICE["name"] != "cpu":
        return torch.cuda.memory_allocated() / 2**20, torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return tuple(int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return most, most


def forget_peak() -> None:
    """Start a new peak."""
    if DEVICE["name"] != "cpu":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
