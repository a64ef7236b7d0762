"""`zsadclip doctor`: what is installed, how it will run, and what a volume costs here."""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version

from .. import __version__
from ..adapters import DEFAULT_METHOD
from ..errors import ZSADCLIPError

NEEDED = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "nibabel",
    "safetensors",
    "matplotlib",
)
OPTIONAL = {
    "SimpleITK": "NRRD, MetaImage and DICOM: pip install 'zsadclip[dicom]'",
    "pydicom": "DICOM: pip install 'zsadclip[dicom]'",
    "transformers": "PMC-CLIP and BiomedCLIP: pip install 'zsadclip[medical]'",
    "distributed": "clusters: pip install 'zsadclip[cluster]'",
    "ipyniivue": "view() in notebooks: pip install ipyniivue",
}
SLICES, HEAD = 16, 155  # of the volume that is timed, and of a usual head


def add_doctor(p: argparse.ArgumentParser) -> None:
    p.add_argument("--quick", action="store_true", help="do not time a volume")


def run_doctor(chosen: argparse.Namespace) -> int:
    """Say it; 1 when something that every run needs is missing."""
    print(f"ZSADCLIP {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    found = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    print("packages: " + ", ".join(f"{name} {has}" for name, has in found.items() if has))
    for name, what in OPTIONAL.items():
        if not found[name]:
            print(f"not installed: {name}, for {what}")
    if missing := [name for name in NEEDED if not found[name]]:
        print(f"MISSING: {', '.join(missing)}; install zsadclip again")
        return 1
    device = _say_device()
    _say_models()
    if not chosen.quick:
        print(_cost(device))
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _say_device() -> str:
    import torch

    from ..detection.devices import choose_device, choose_dtype

    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    print(f"device: {device} ({name}), precision {choose_dtype('auto', device, DEFAULT_METHOD)}")
    return device


def _say_models() -> None:
    from ..adapters.checkpoint import list_adapters
    from ..backbones.weights import status

    rows = status()
    for state in ("embedded", "installed", "missing"):
        if names := [row["name"] for row in rows if row["state"] == state]:
            more = "; zsadclip models get NAME downloads one" if state == "missing" else ""
            print(f"models {state}: {', '.join(names)}{more}")
    if offline := os.environ.get("HF_HUB_OFFLINE"):
        print(f"downloads are forbidden here: HF_HUB_OFFLINE={offline}")
    print(f"adapters: {len(list_adapters())}")


def _cost(device: str) -> str:
    """How long the default detector takes for a head, from one of few slices; the first batch of all is not counted."""
    import numpy as np

    from ..jobs.detect import Detect
    from ..volume import Volume

    grid = np.indices((180, 220, SLICES)) / np.array([180, 220, SLICES]).reshape(3, 1, 1, 1) - 0.5
    head = (grid**2).sum(0) < 0.2
    noise = np.random.default_rng(0).uniform(100, 200, head.shape)
    volume = Volume(np.where(head, noise, 0).astype(np.float32), np.diag([1.0, 1.0, 4.0, 1.0]), "timing")
    try:
        detector = Detect(("-",), "-", brain="image").detector()
        detector.detect(volume)
        began = time.perf_counter()
        detector.detect(volume)
    except ZSADCLIPError as error:
        return f"a volume could not be timed: {error}"
    seconds = (time.perf_counter() - began) / SLICES
    return f"cost: {1000 * seconds:.0f} ms a slice, so about {HEAD * seconds:.0f} s for a head of {HEAD} slices, on {device}"
