"""Text features that outlive the process: one small file for each (weights, sentences, precision), checked before use."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import OutputError
from ..files.atomic import atomic_path
from .weights import cache_dir

FORMAT = "zsadclip-text-2"


def folder() -> Path | None:
    """Where the files are: ZSADCLIP_TEXT_CACHE, else texts/ in the cache folder; None when that variable says off."""
    chosen = os.environ.get("ZSADCLIP_TEXT_CACHE", "")
    if chosen.lower() in ("off", "0"):
        return None
    return Path(chosen) if chosen else cache_dir() / "texts"


def key_of(*parts: object) -> str:
    """Thirty-two hex digits of everything that the features depend on."""
    digest = hashlib.sha256(FORMAT.encode())
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


def _checksum(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy()).hexdigest()


def recall(key: str, shape: tuple[int, ...]) -> Tensor | None:
    """The stored float32 features of that key and shape; None where there are none, or they are damaged or not finite."""
    where = folder()
    if where is None or not (path := where / f"{key}.safetensors").is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            metadata, features = stored.metadata() or {}, stored.get_tensor("features")
    except (OSError, SafetensorError):
        return None
    sound = metadata.get("key") == key and metadata.get("sha256") == _checksum(features)
    if not sound or features.dtype != torch.float32 or tuple(features.shape) != shape or not features.isfinite().all():
        return None
    return features.clone()


def remember(key: str, features: Tensor) -> None:
    """Store float32 features under their key, complete or not at all; a folder that cannot be written is no error."""
    where = folder()
    if where is None:
        return
    from safetensors.torch import save

    features = features.detach().float().cpu().contiguous()
    facts = {"key": key, "sha256": _checksum(features), "format": FORMAT}
    try:
        where.mkdir(parents=True, exist_ok=True)
        with atomic_path(where / f"{key}.safetensors") as temporary:
            temporary.write_bytes(save({"features": features}, facts))
    except (OSError, OutputError):
        return
