"""A server from its start to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import OutputError
from ..files.locks import folder_lock
from ..remote.client import show_fingerprint
from ..remote.tokens import Tokens, add_token
from .config import ServeSettings
from .engine import engine_command
from .queue import Queue
from .server import ServeServer
from .tls import certificate, context_of


@contextmanager
def serving(settings: ServeSettings, log: Callable[[str], None], command=engine_command) -> Iterator[ServeServer]:
    """A server that listens; `serve_forever()` answers, and at the end nothing of any job is left.

    Folder, token file and certificate are made where they are missing. Raises OutputError where the folder or the port is
    another's, InputError for a token file or certificate that will not do.
    """

    def say(text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that is gone, or a full disk, is no reason to stop
            log(text)

    root = settings.root
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot use the folder {root}: {error.strerror}; choose another one with --folder"
        ) from error
    with folder_lock(root):
        if not settings.tokens.exists():
            add_token(settings.tokens)
        tokens = Tokens(settings.tokens)
        context, digest = context_of(*certificate(settings)) if settings.secure else (None, "")
        queue = Queue(settings, say, command)
        try:
            with ServeServer(settings, tokens, queue, context) as server:
                say(f"listens at {server.address}")
                say(f"token file {settings.tokens}")
                if digest:
                    say(f"fingerprint {show_fingerprint(digest)}")
                yield server
        finally:
            queue.stop()


def admit(settings: ServeSettings, path: str) -> None:
    """Write a new token to a file of its own and to the server's file; raises OutputError."""
    if os.path.exists(path):
        raise OutputError(f"{path} is there already; name a new file for the token")
    token = add_token(path)
    settings.tokens.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    add_token(settings.tokens, token)
