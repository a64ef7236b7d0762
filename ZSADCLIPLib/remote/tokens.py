"""Files of tokens: a line a client on the server, a single line on the client, readable by their owner alone."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from ..errors import InputError, OutputError

SHORTEST = 32  # letters
LARGEST = 1 << 16  # bytes of a file


def read_tokens(path: str | os.PathLike) -> list[str]:
    """The tokens in a file, one a line; lines with # are remarks.

    Raises InputError where it cannot be read, others may read it, or a token is too short to be safe.
    """
    path = Path(path).expanduser()
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(LARGEST).decode("ascii")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no plain text"
        raise InputError(f"the token file {path} cannot be read: {why}; it is made by zsadclip serve") from error
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"the token file {path} can be read by others (mode {mode & 0o777:o}): chmod 600 {path}")
    tokens = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not tokens or not all(
        re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token) and len(token) >= SHORTEST for token in tokens
    ):
        raise InputError(f"the token file {path}: expected one token a line, of {SHORTEST} letters and digits or more")
    return tokens


def add_token(path: str | os.PathLike, token: str = "") -> str:
    """Add a token, a new one unless given, to a file, which is made for its owner alone; raises OutputError."""
    token = token or secrets.token_urlsafe(32)
    try:
        handle = os.open(Path(path).expanduser(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
    except OSError as error:
        raise OutputError(f"cannot write the token file {path}: {error.strerror}; choose another place") from error
    return token


class Tokens:
    """The tokens of a server, read again when their file changes."""

    def __init__(self, path: Path):
        self.path = path
        self._state: tuple | None = None
        self._digests: dict[str, bytes] = {}
        self.read()

    def read(self) -> None:
        """Look whether the file changed; raises InputError as `read_tokens`."""
        try:
            found = os.stat(self.path)
            state = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
        except OSError:
            state = None
        if state is None or state != self._state:
            digests = [hashlib.sha256(token.encode()).digest() for token in read_tokens(self.path)]
            self._digests, self._state = {digest.hex()[:16]: digest for digest in digests}, state

    def client_of(self, token: str) -> str | None:
        """The client that a token belongs to, None for a wrong one; takes as long for each."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = [name for name, each in self._digests.items() if hmac.compare_digest(each, digest)]
        return found[0] if found else None
