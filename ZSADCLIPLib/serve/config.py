"""The settings of `zsadclip serve`, checked before anything listens."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..errors import UsageError
from ..fields import AtLeast, AtMost, Between, Count, Positive, check, flag
from ..remote.client import is_loopback

Port = Annotated[int, AtLeast(0), AtMost(65535)]
MEGA = 1_000_000


@dataclass(frozen=True)
class ServeSettings:
    """What a server is and may do.

    folder        its token file, certificate and the files of jobs; nobody else can read it.
    host, port    where it listens: this computer alone unless `host` says otherwise; port 0 takes any free one.
    name          further host names that clients may call it by.
    token_file    a line a client; made at the first start.
    tls           TLS on this computer, too; beyond it there is no way without.
    cert, key     PEM files; without them a certificate is made at the first start.
    max_mb        most megabytes of a volume with its mask, packed or not.
    workers       jobs at a time; `queue` more may wait.
    keep_minutes  how long results stay that nobody fetches.
    lease_s       seconds without a word of its client after which a job is cancelled.
    time_out_s    of a job.
    """

    folder: str = flag(
        default="", metavar="DIR", help="token file, certificate and files of jobs (default: in the cache)"
    )
    host: str = flag(default="127.0.0.1", help="address to listen at; beyond this computer always with TLS")
    port: Port = flag(default=8443)
    name: tuple[str, ...] = flag(default=(), metavar="HOST", help="further host names that clients may use")
    token_file: str = flag(default="", metavar="FILE", help="one token a line, a line a client (default: DIR/tokens)")
    tls: bool = flag(default=False, help="TLS on this computer, too")
    cert: str = flag(default="", metavar="PEM", help="certificate (default: one is made)")
    key: str = flag(default="", metavar="PEM", help="its private key")
    max_mb: Annotated[float, Between(0)] = flag(default=512.0, metavar="MB", help="largest volume (default 512)")
    queue: Count = flag(default=8, help="jobs that may wait (default 8)")
    workers: Positive = flag(default=1, help="jobs at a time (default 1)")
    keep_minutes: Annotated[float, AtLeast(0)] = flag(
        default=10.0, metavar="MIN", help="how long results stay that nobody fetches (default 10)"
    )
    lease_s: Annotated[float, AtLeast(1)] = flag(
        default=20.0, metavar="S", help="a job ends when its client is silent for so long (default 20)"
    )
    time_out_s: Positive = flag("--time-out", default=3600, metavar="S", help="longest job (default 3600)")
    weights_dir: str = flag(default="", metavar="DIR", help="folder with weights, searched before the cache")

    def __post_init__(self) -> None:
        check(self)
        if bool(self.cert) != bool(self.key):
            raise UsageError("--cert and --key belong together; give both, or none and a certificate is made")

    @property
    def root(self) -> Path:
        """The server's folder."""
        from ..backbones.weights import cache_dir

        return Path(self.folder).expanduser() if self.folder else cache_dir() / "serve"

    @property
    def tokens(self) -> Path:
        """The file of tokens."""
        return Path(self.token_file).expanduser() if self.token_file else self.root / "tokens"

    @property
    def secure(self) -> bool:
        """True where calls are encrypted: always beyond this computer."""
        return self.tls or bool(self.cert) or not is_loopback(self.host)

    @property
    def most_bytes(self) -> int:
        """Most bytes of a volume."""
        return int(self.max_mb * MEGA)

    def hosts(self) -> set[str]:
        """The names that a client may call this server by, beside the address that it called."""
        named = {"127.0.0.1", "localhost", "::1", self.host, *self.name}
        if not is_loopback(self.host):
            named |= {socket.gethostname(), socket.getfqdn()}
        return {each.lower() for each in named}
