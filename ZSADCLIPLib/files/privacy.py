"""What may be said about where data came from: base names of files, never folders, never what a DICOM header holds."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from .folders import walk

DIGITS = 12
_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?(?:[\\/][^\s'\"\\/:;,()]+)*[\\/](?=[^\s'\"\\/:;,()])")


def pseudonym(secret: str | bytes, prefix: str) -> str:
    """`prefix`, a dash and 12 hex digits of a SHA-256: the same for the same secret, so that its owner can find it again."""
    data = secret.encode(errors="surrogatepass") if isinstance(secret, str) else secret
    return f"{prefix}-{hashlib.sha256(data).hexdigest()[:DIGITS]}"


def redact(text: str, paths: Iterable[str | os.PathLike | None] = ()) -> str:
    """`text` without folders: those above `paths` and whatever else looks like an absolute path."""
    parents = set()
    for path in filter(None, paths):
        for form in _forms(path):
            parent = os.path.dirname(form)
            while parent and parent != os.path.dirname(parent) and parent not in parents:
                parents.add(parent)
                parent = os.path.dirname(parent)
    for parent in sorted(parents, key=len, reverse=True):  # the deepest first, so that no rest of it stays
        text = text.replace(parent + os.sep, "")
    return _FOLDERS.sub("", text)


def renamed(text: str, folder: Path, name: str) -> str:
    """`text` with `name` in the place of a folder: its paths, and its own name as a word; one of up to two characters stays,
    as it is also a number or part of the text."""
    names = {folder.name, _resolved(folder).name}
    forms = [form for form in _forms(folder) if os.sep in form] + [word for word in names if len(word) > 2]
    words = "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.-])(?:{words})(?![\w-])", lambda _: name, text) if words else text


def redact_all(value: object, paths: Iterable[str | os.PathLike | None] = ()) -> object:
    """A JSON value with `redact` on every text in it; a text that names an existing file or folder becomes its base name."""
    if isinstance(value, dict):
        return {key: redact_all(item, paths) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(item, paths) for item in value]
    if not isinstance(value, str):
        return value
    return redact(value, (*paths, value) if os.sep in value and os.path.exists(value) else paths)


def folders_below(source: str | os.PathLike) -> list[str]:
    """A path in every folder of a data set, for `redact`; none for a manifest."""
    return [os.path.join(folder, "x") for folder, _ in walk(source, lenient=True)]


def printable(text: str) -> str:
    """`text` as any file and terminal takes it: bytes that are no UTF-8 and control characters but line ends as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _forms(path: str | os.PathLike) -> set[str]:
    return {str(path), os.path.abspath(path), str(_resolved(Path(path)))}


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path
