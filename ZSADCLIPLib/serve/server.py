"""The HTTP side of a server: who may ask, what is understood, and plain answers.

Every call but `/v1/health` needs the bearer token; `Host` is checked against DNS rebinding. A body is read only after its
length was said and fits. Answers are JSON; errors are {"error": a sentence}.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from .. import __version__
from ..errors import InputError, OutputError, UsageError, ZSADCLIPError
from ..fields import from_dict
from ..files.text import parse_json
from ..remote.client import is_loopback
from ..remote.settings import API, HEADER, OUT, RemoteSettings
from ..remote.tokens import Tokens
from .config import ServeSettings
from .job import NAMES, Job, Refused
from .offers import check_offered, offers
from .queue import Queue
from .replies import FIXED, encoded, status_text

MOST_CALLS = 64
LARGEST = 1 << 14  # bytes of a job
SECONDS = 30  # for a client to say what it wants
LONGEST_WAIT = 2.0
BLOCK = 1 << 18
JOB = r"/v1/jobs/(?P<job>[0-9a-f]{32})"


class ServeServer(ThreadingHTTPServer):
    """Answers calls about the jobs of `queue`; `context` is its TLS. Raises OutputError when the port is taken."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, settings: ServeSettings, tokens: Tokens, queue: Queue, context: ssl.SSLContext | None):
        self.settings, self.tokens, self.queue, self.context = settings, tokens, queue, context
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self.hosts, self.started = settings.hosts(), time.monotonic()
        self._calls = threading.BoundedSemaphore(MOST_CALLS)
        try:
            super().__init__((settings.host, settings.port), _Handler)
        except OSError as error:
            where, advice = f"{settings.host}:{settings.port}", "is another program there? Choose another --port"
            raise OutputError(f"cannot listen at {where}: {error.strerror}; {advice}") from error

    @property
    def address(self) -> str:
        """Where clients find it; of one that listens at all addresses by the name of this computer."""
        host = self.settings.host
        host = socket.getfqdn() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return f"{'https' if self.context else 'http'}://{host}:{self.server_port}"

    def process_request(self, request: socket.socket, client_address) -> None:
        """Answer in a thread, of which there are not too many."""
        if not self._calls.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._calls.release()
            raise

    def process_request_thread(self, request: socket.socket, client_address) -> None:
        """Speak TLS in the call's own thread, so that a slow or silent caller holds up nobody else."""
        try:
            request.settimeout(SECONDS)
            if self.context is not None:
                request = self.context.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:  # of TLS, too: a caller that speaks something else, or is gone
            self.shutdown_request(request)
        finally:
            self._calls.release()

    def handle_error(self, request, client_address) -> None:
        """Nothing: a call that broke off; what fails inside is answered and logged where it fails."""


class _Handler(BaseHTTPRequestHandler):
    server: ServeServer
    server_version, sys_version = "ZSADCLIP", ""
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    error_content_type, error_message_format = "text/plain", "%(code)d %(message)s\n"

    def do_GET(self) -> None:
        file = rf"{JOB}/files/(?P<name>[\w.]+)"
        self._guarded({"/": self._status, "/v1/health": self._health, JOB: self._told, file: self._file})

    def do_POST(self) -> None:
        self._guarded({"/v1/jobs": self._submit})

    def do_PUT(self) -> None:
        self._guarded({rf"{JOB}/volume": self._take})

    def do_DELETE(self) -> None:
        self._guarded({JOB: self._forget})

    def setup(self) -> None:
        super().setup()
        self._job: Job | None = None

    def finish(self) -> None:
        """The call has ended, perhaps because its client did."""
        if self._job is not None:
            self.server.queue.hung_up(self._job)
        super().finish()

    def handle_expect_100(self) -> bool:
        """Do not ask for a body yet: it is asked for when it will be read."""
        return True

    def _guarded(self, routes: Mapping[str, Callable[..., None]]) -> None:
        """Answer who may ask, never with a traceback; a body that is not read ends the connection."""
        self._unread = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            self._check_host()
            address = urlsplit(self.path)
            self._asked = parse_qs(address.query)
            form = next((form for form in routes if re.fullmatch(form, address.path)), "")
            self._client = self._client_of()
            near = form == "/" and is_loopback(self.client_address[0])
            if self._client is None and form != "/v1/health" and not near:
                raise Refused(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong; choose the server's token file")
            if not form:
                raise Refused(HTTPStatus.NOT_FOUND, f"nothing is here; the server {__version__} speaks version {API}")
            routes[form](**re.fullmatch(form, address.path).groupdict())
        except Refused as error:
            self._refuse(error.status, str(error))
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True
        except ZSADCLIPError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:
            self.server.queue.log(f"a call failed: {type(error).__name__}")
            self._refuse(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"the server failed ({type(error).__name__}); tell who runs it"
            )

    def _check_host(self) -> None:
        named = self.headers.get_all("Host") or []
        try:
            host = (urlsplit(f"//{named[0]}").hostname or "") if len(named) == 1 else ""
        except ValueError:
            host = ""
        if host not in self.server.hosts and host != self.connection.getsockname()[0]:
            raise Refused(
                HTTPStatus.FORBIDDEN, "the server does not know itself by this name; start it with --name HOST"
            )

    def _client_of(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            self.server.tokens.read()
        except InputError as error:  # it was taken away or opened to others: nobody gets in
            self.server.queue.log(str(error))
            return None
        return self.server.tokens.client_of(token.strip()) if kind.lower() == "bearer" else None

    def _length(self, most: int) -> int:
        """The length of the body; raises Refused where it is not said, or is more than `most`."""
        lengths = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not re.fullmatch("[0-9]{1,15}", lengths[0]):
            raise Refused(
                HTTPStatus.LENGTH_REQUIRED, "say how long the body is: one Content-Length, no Transfer-Encoding"
            )
        if int(lengths[0]) > most:
            text = f"the body has {int(lengths[0])} bytes and the server takes {most}; crop the volume, or start the "
            text += "server with a larger --max-mb"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        return int(lengths[0])

    def _status(self) -> None:
        self._answer(
            HTTPStatus.OK, status_text(self.server.queue, self.server.started).encode(), "text/plain; charset=utf-8"
        )

    def _health(self) -> None:
        more = offers(self.server.settings) | {"jobs": self.server.queue.status()} if self._client else {}
        self._answer(HTTPStatus.OK, encoded({"service": "zsadclip", "api": API, **more}))

    def _submit(self) -> None:
        body = self.rfile.read(self._length(LARGEST))
        self._unread = False
        try:
            data = parse_json(body)
        except ValueError as error:
            raise UsageError(f"the job is no JSON: {error}") from error
        if not isinstance(data, dict) or data.keys() != {"api", "settings", "sizes"}:
            raise UsageError("a job has api, settings and sizes, and nothing else; update client or server")
        if data["api"] != API:
            raise UsageError(
                f"the server speaks version {API} and the client {data['api']!r:.20}; update the older one"
            )
        settings = from_dict(RemoteSettings, data["settings"], "settings:")
        check_offered(settings, self.server.settings)
        self._job = self.server.queue.admit(self._client, settings, _sizes(data["sizes"]))
        self._answer(HTTPStatus.CREATED, encoded({"id": self._job.id}))

    def _take(self, job: str) -> None:
        self._job = found = self.server.queue.find(self._client, job)
        self.server.queue.take(found, self.rfile, self._length(self.server.settings.most_bytes))
        self._unread = False
        self._answer(HTTPStatus.ACCEPTED, encoded({"id": job}))

    def _told(self, job: str) -> None:
        start, wait = self._asked.get("from", ["0"])[0], self._asked.get("wait", ["0"])[0]
        if not re.fullmatch("[0-9]{1,7}", start) or not re.fullmatch(r"[0-9](\.[0-9]{1,3})?", wait):
            raise UsageError(
                f"from={start!r:.20}, wait={wait!r:.20}: expected a number of an event, and seconds below 10"
            )
        self._job = found = self.server.queue.find(self._client, job)
        self._answer(HTTPStatus.OK, encoded(self.server.queue.told(found, int(start), min(float(wait), LONGEST_WAIT))))

    def _file(self, job: str, name: str) -> None:
        found = self.server.queue.find(self._client, job)
        if name not in found.files:
            raise Refused(HTTPStatus.NOT_FOUND, "no such file; its names are in the event result")
        packer = zlib.compressobj(1, wbits=31)
        with open(Path(found.folder, OUT, name), "rb") as file:
            self._head(HTTPStatus.OK, {"Content-Type": "application/gzip", "Transfer-Encoding": "chunked"})
            while block := file.read(BLOCK):
                self._chunk(packer.compress(block))
                found.heard = time.monotonic()
        self._chunk(packer.flush())
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _forget(self, job: str) -> None:
        self.server.queue.forget(self.server.queue.find(self._client, job))
        self._answer(HTTPStatus.OK, encoded({"id": job}))

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        try:
            self._answer(status, encoded({"error": message}))
        except OSError:
            self.close_connection = True

    def _answer(self, status: HTTPStatus, data: bytes, kind: str = "application/json") -> None:
        more = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
        more |= {"Retry-After": "60"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        self.close_connection = self.close_connection or self._unread
        more |= {"Connection": "close"} if self.close_connection else {}
        self._head(status, {"Content-Type": kind, "Content-Length": str(len(data)), **more})
        self.wfile.write(data)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (FIXED | {HEADER: str(API)} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the queue tells what matters."""


def _sizes(data: object) -> dict[str, int]:
    """The bytes of each file; raises UsageError."""
    good = isinstance(data, dict) and "input" in data and data.keys() <= NAMES.keys()
    if not good or not all(type(size) is int and 0 < size < 1 << 50 for size in data.values()):
        raise UsageError(f"sizes are {data!r:.60}; expected the bytes of input, and of brain where there is a mask")
    return data
