"""ZSADCLIP: anomaly maps for medical volumes with CLIP. Research use only, not for diagnosis."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_LAZY = {
    "Volume": ".volume",
    "read_volume": ".volumes.reading",
    "write_volume": ".volumes.reading",
    "load_backbone": ".backbones",
    "load_adapter": ".adapters.checkpoint",
    "Detector": ".detection.detector",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)
