"""What steps of a benchmark cost: seconds, memory and device, kept apart from what must not differ between runs."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

from ..files.text import write_json
from .rowfolder import read_json
from .specs import BackboneSpec


class Clock:
    """The cost of one step from now on, for rows with this backbone (None: without one)."""

    def __init__(self, backbone: BackboneSpec | None):
        self._started, self._gpu = time.monotonic(), None
        if backbone is None:
            return
        import torch

        from .models import device_of

        device = torch.device(device_of(backbone))
        if device.type == "cuda":
            self._gpu = device
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def note(self, folder: Path, name: str, seconds: float, **more) -> None:
        """Write FOLDER/seconds/NAME.json: `seconds`, the process's and the GPU's highest memory, the device."""
        note = {"seconds": round(seconds, 3), "peak_memory_mb": _peak_mb(), "device": "CPU"}
        if self._gpu is not None:
            import torch

            note["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated(self._gpu) / 1e6, 1)
            note["device"] = torch.cuda.get_device_name(self._gpu)
        write_json(folder / "seconds" / f"{name}.json", {**note, **more})


def logged_seconds(log: Path) -> float:
    """Seconds of the epochs that an interrupted training wrote into its log; 0 without a readable one."""
    try:
        with open(log, encoding="utf-8", newline="") as file:
            return sum(float(row["seconds"]) for row in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def runtime_of(folder: Path) -> dict:
    """The notes of a row's folder summed up, as runtime.json holds them."""
    notes = {path.stem: read_json(path) for path in sorted((folder / "seconds").glob("*.json"))}

    def total(prefix: str) -> float:
        return round(sum(n["seconds"] for name, n in notes.items() if name.startswith(prefix)), 2)

    def highest(key: str) -> float | None:
        return max((note.get(key) or 0 for note in notes.values()), default=0) or None

    return {
        "train_seconds": total("train"),
        "threshold_seconds": total("threshold-"),
        "test_seconds": total("test-"),
        "epoch_seconds": notes.get("train", {}).get("epoch_seconds", []),
        "peak_memory_mb": highest("peak_memory_mb"),
        "peak_gpu_mb": highest("peak_gpu_mb"),
        "device": ", ".join(sorted({note["device"] for note in notes.values() if note.get("device")})),
    }


def _peak_mb() -> float | None:
    """Peak resident memory of this process in MB, None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
