"""What may be said about where data came from: base names of files, never folders, never what a DICOM header holds."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

DIGITS = 12
_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?(?:[\\/][^\s'\"\\/:;,()]+)*[\\/](?=[^\s'\"\\/:;,()])")


def pseudonym(secret: str | bytes, prefix: str) -> str:
    """`prefix`, a dash and 12 hex digits of a SHA-256: the same for the same secret, so that its owner can find it again."""
    data = secret.encode(errors="surrogatepass") if isinstance(secret, str) else secret
    return f"{prefix}-{hashlib.sha256(data).hexdigest()[:DIGITS]}"


def redact(text: str, paths: Iterable[str | os.PathLike | None] = (), secret: str = "", name: str = "") -> str:
    """`text` without folders: those above `paths` and whatever else looks like an absolute path; `secret` becomes `name`."""
    for path in filter(None, paths):
        for form in {str(path), os.path.abspath(path), str(_resolved(Path(path)))}:
            parent = os.path.dirname(form)
            while parent and parent != os.path.dirname(parent):
                text = text.replace(parent + os.sep, "")
                parent = os.path.dirname(parent)
    text = _FOLDERS.sub("", text)
    return text.replace(secret, name) if secret else text


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path
