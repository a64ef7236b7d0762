"""What tells contents apart: digests of files, settings and code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from .. import __version__
from ..errors import InputError
from .packaged import PACKAGE
from .privacy import pseudonym
from .text import write_json

BLOCK = 1 << 20
MAKES_NUMBERS = (
    *("volume.py", "volumes", "synthetic", "evaluation", "datasets", "backbones", "adapters", "detection"),
    *("neighbours", "training"),
    *("benchmark", "data", "prompts"),
    *("jobs/detect.py", "jobs/comparison.py", "jobs/cohort.py"),  # these choose activation, size and seed
)
"""The parts of the package that results depend on; the others start the work, spread it, or describe what came out."""
TEXTS, BINARIES = (".py", ".json", ".txt"), (".npz", ".safetensors")


def seal(paths: Iterable[Path]) -> dict[str, dict]:
    """What identifies files: {name: {"bytes": length, "sha256": 64 hex digits}}."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": content_hash(path)} for path in paths}


def is_intact(folder: str | os.PathLike, sealed: Mapping[str, Mapping]) -> bool:
    """True when every sealed file is in `folder` with its length and content."""
    try:
        return all(Path(folder, name).stat().st_size == seal["bytes"] for name, seal in sealed.items()) and all(
            content_hash(Path(folder, name)) == seal["sha256"] for name, seal in sealed.items()
        )
    except (OSError, KeyError, TypeError, ValueError):
        return False


def content_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of the files in a folder in the order of their hashes, so that names do not matter."""
    path, digest = Path(path), hashlib.sha256()
    if path.is_dir():
        for each in sorted(content_hash(file) for file in path.iterdir() if file.is_file()):
            digest.update(each.encode())
        return digest.hexdigest()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def content_key(settings: Mapping) -> str:
    """12 hexadecimal digits that change with any setting: SHA-256 of the settings as canonical JSON."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def code_version() -> str:
    """Such as "0.1.0+3f9c0a1b2d4e": 12 hex digits of the SHA-256 over names and contents of what makes numbers.

    That is the code of `MAKES_NUMBERS` with its embedded models and prompts; line ends of texts do not matter.
    """
    digest, parts = hashlib.sha256(), [PACKAGE / name for name in MAKES_NUMBERS]
    files = [path for part in parts for path in ([part] if part.is_file() else part.rglob("*"))]
    named = {path.relative_to(PACKAGE).as_posix(): path for path in files if path.suffix in TEXTS + BINARIES}
    for name, path in sorted(named.items()):
        content = path.read_bytes()
        content = content.replace(b"\r\n", b"\n") if path.suffix in TEXTS else content
        digest.update(name.encode() + b"\0" + content + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"


class FileHashes:
    """SHA-256 of files, remembered in a JSON file by digest of the path, size and time of change."""

    def __init__(self, store: Path):
        self._store = store
        try:
            stored = json.loads(store.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = {}
        entries = stored.items() if isinstance(stored, dict) else ()
        whole = {name: entry for name, entry in entries if isinstance(entry, list) and len(entry) == 3}
        self._known = {name: entry for name, entry in whole.items() if name.startswith("file-")}

    def __call__(self, path: str | Path) -> str:
        """The hash of a file, or of a DICOM folder, read anew each time; raises InputError when it cannot be read."""
        path = Path(path).resolve()
        try:
            if path.is_dir():
                return content_hash(path)
            stat = path.stat()
            name = pseudonym(str(path), "file")  # OUT may be passed on, and paths name people
            entry = self._known.get(name)
            if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
                self._known[name] = entry = [stat.st_size, stat.st_mtime_ns, content_hash(path)]
        except OSError as error:
            raise InputError(f"cannot read {path.name}: {error.strerror}; is its share connected?") from error
        return entry[2]

    def save(self) -> None:
        """Write the remembered hashes."""
        write_json(self._store, self._known)
