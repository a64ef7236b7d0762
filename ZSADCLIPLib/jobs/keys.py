"""What a result depends on beside the words of its settings: the content of the files that they name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..backbones import BACKBONES
from ..files.digests import code_version, content_hash
from ..volumes.reading import volume_hash


def settings_key(values: Mapping, backbone: str, weights: str | None, weights_dir: str | None) -> str:
    """Sixteen hex digits of settings, the content of the files they name and those of the backbone, and `code_version`.

    Raises WeightsError when files of the backbone are missing.
    """
    data = {name: by_content(value) for name, value in values.items()} | {"version": code_version()}
    data |= {"files": files} if (files := unpinned(backbone, weights, weights_dir)) else {}
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]


def by_content(value: object) -> object:
    """A setting with the digest of a file in the place of its name."""
    if isinstance(value, (tuple, list)):
        return [by_content(each) for each in value]
    if isinstance(value, dict):
        return {key: by_content(each) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    try:
        path = Path(value)
        # A plain word is a name even where a folder is called so; a folder of weights is given by a path.
        return volume_hash(path) if path.is_file() or (path.is_dir() and path.name != value) else value
    except (OSError, ValueError):
        return value


def unpinned(backbone: str, weights: str | None, weights_dir: str | None) -> dict[str, str]:
    """SHA-256 of a backbone's files that are found by name and whose content is not pinned; raises WeightsError."""
    from ..backbones.weights import locate

    files = BACKBONES[backbone].files if backbone in BACKBONES and weights is None else {}
    if all(sha for _, sha in files.values()):
        return {}
    return {name: content_hash(path) for name, path in locate(backbone, weights_dir).items() if not files[name][1]}
