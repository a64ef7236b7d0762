"""Which code made a result: the version and a digest of the engine's source, which tells commits apart."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from . import __version__
from .atomic import content_hash


@lru_cache(maxsize=1)
def code_version() -> str:
    """Such as "0.1.0+3f9c0a1b2d4e": 12 hex digits of the SHA-256 over names and texts of the engine's Python files."""
    root, digest = Path(__file__).resolve().parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


@lru_cache(maxsize=1)
def data_version() -> str:
    """`code_version` with a digest of the embedded models as well."""
    files = sorted((Path(__file__).resolve().parent / "data").rglob("*.safetensors"))
    return f"{code_version()}+{hashlib.sha256(''.join(map(content_hash, files)).encode()).hexdigest()[:12]}"
