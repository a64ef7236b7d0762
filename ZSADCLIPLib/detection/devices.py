"""Where and in which precision a model runs, and how many slices at once."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache

import numpy as np
import torch

from ..adapters.registry import METHODS
from ..errors import UsageError, WeightsError
from ..execution.base import cores

CPU_BATCH = 8
ON_CARD = 4  # volumes at once, beyond which they wait for Python's lock
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|bad_?alloc", re.I)
"""What the allocators of CUDA, MPS, the CPU and cuBLAS say."""


def choose_device(name: str, slot: int | None = None) -> str:
    """The device behind "auto", "cuda", "cuda:1", "mps" or "cpu"; raises WeightsError for one that is not there.

    Workers, told apart by `slot`, take the GPUs of a machine in turn with "auto" and "cuda"; without it the current one.
    """
    if name in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{torch.cuda.current_device() if slot is None else slot % torch.cuda.device_count()}"
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

    "auto" is bfloat16 where the hardware computes it (`has_fast_bfloat16`), and a method
    is named whose scores bear it, else float32. Warns when bfloat16 is asked for where it is emulated.
    """
    if precision == "auto":
        return "bfloat16" if method and METHODS[method].low_precision and has_fast_bfloat16(device) else "float32"
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
    """True where bfloat16 is computed and not emulated: a GPU of capability 8.0 or more, a CPU with AVX512-BF16 or AMX.

    The answer depends on the hardware alone, never on what else it does, so that all workers of a run agree.
    """
    kind = device.partition(":")[0]
    if kind == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if kind != "cpu" or torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT", "NO AVX"):
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def volumes_at_once(name: str) -> int:
    """How many volumes a process has under way at once on the device behind a name; see docs/explanation/scale.md.

    A card scores a volume sooner than a core reads and writes it. On a CPU all cores score already.
    """
    return 1 if choose_device(name) == "cpu" else min(ON_CARD, cores())


def is_out_of_memory(error: BaseException) -> bool:
    """True for an error that a smaller batch may avoid."""
    return isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


def default_batch_size(backbone, image_size: int) -> int:
    """Slices at once: 8 on a CPU, on a GPU as many as a third of its free memory holds, at most 64."""
    if backbone.device.type != "cuda":
        return CPU_BATCH
    free, _ = torch.cuda.mem_get_info(backbone.device)
    tokens = backbone.vision.grid(image_size) ** 2 + 1
    bytes_each = tokens * backbone.vision.width * 64 * torch.finfo(backbone.dtype).bits // 8
    return int(np.clip(free // 3 // bytes_each, 1, 64))
