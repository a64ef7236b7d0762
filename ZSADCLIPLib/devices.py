"""Where and in which precision a model runs, and how many slices at once."""

from __future__ import annotations

import time
import warnings
from functools import lru_cache

import numpy as np
import torch

from .errors import UsageError, WeightsError

CPU_BATCH = 8
WORTH = 1.5
"""A lower precision is chosen where its matrix products are at least this much faster than float32's."""


def choose_device(name: str, slot: int = 0) -> str:
    """The device behind "auto", "cuda", "cuda:1", "mps" or "cpu"; raises WeightsError for one that is not there.

    Workers, told apart by `slot`, take the GPUs of a machine in turn with "auto" and "cuda".
    """
    if name in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{slot % torch.cuda.device_count()}"
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.partition(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind not in present:
        raise UsageError(f"device {name!r} is unknown; choose auto, cuda, mps or cpu")
    if not present[kind]:
        raise WeightsError(f"device {name!r} is not available here; choose auto or cpu")
    return name


def choose_dtype(precision: str, device: str, method: str | None = None) -> str:
    """The working type behind "auto" or the named one; float16 needs a GPU.

    "auto" is bfloat16 where the hardware computes it (`has_fast_bfloat16`), else float32; for AnoVL, whose scores differ
    in the third decimal only, always float32. Warns when bfloat16 is asked for where it is emulated.
    """
    if precision == "auto":
        return "bfloat16" if method not in (None, "anovl") and has_fast_bfloat16(device) else "float32"
    if precision not in ("float32", "bfloat16", "float16"):
        raise UsageError(f"precision {precision!r} is unknown; choose auto, float32, bfloat16 or float16")
    if precision == "float16" and device == "cpu":
        raise UsageError("precision float16 needs a GPU; choose float32 or bfloat16 on a CPU")
    if precision == "bfloat16" and not has_fast_bfloat16(device):
        warnings.warn(
            f"bfloat16 is not computed by this {device} but emulated, which can be hundreds of times slower; "
            "float32 (or auto) is the fast and exact choice here",
            stacklevel=2,
        )
    return precision


@lru_cache(maxsize=8)
def has_fast_bfloat16(device: str) -> bool:
    """True where bfloat16 pays: a GPU with native support, or a CPU on which a product of 512 x 512 is faster in it.

    Asked once a process; CPUs without AVX-512 or AMX on x86 need no measurement.
    """
    kind = device.partition(":")[0]
    if kind == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if kind != "cpu" or torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT", "NO AVX"):
        return False
    return _seconds(torch.float32, 512) > WORTH * _seconds(torch.bfloat16, 512)


def _seconds(dtype: torch.dtype, size: int) -> float:
    """Least time of a square product in `dtype`; one trial only where that is slow already."""
    a, best = torch.ones(size, size, dtype=dtype), float("inf")
    for _ in range(4):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
        if best > 0.2:
            break
    return best


def default_batch_size(backbone, image_size: int) -> int:
    """Slices at once: 8 on a CPU, on a GPU as many as a third of its free memory holds, at most 64."""
    if backbone.device.type != "cuda":
        return CPU_BATCH
    free, _ = torch.cuda.mem_get_info(backbone.device)
    tokens = backbone.vision.grid(image_size) ** 2 + 1
    bytes_each = tokens * backbone.vision.width * 64 * torch.finfo(backbone.dtype).bits // 8
    return int(np.clip(free // 3 // bytes_each, 1, 64))
