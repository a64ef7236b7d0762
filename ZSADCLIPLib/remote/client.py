"""The client of `zsadclip serve`, over http.client alone: no proxies, no redirections, a certificate that is pinned."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import re
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from ..errors import InputError, ServerError, UsageError
from ..files.atomic import atomic_path
from ..progress import Progress, Report
from .settings import API, HEADER, RESULTS

SECONDS = 15.0  # for the server to answer
PATIENCE = 10.0  # seconds without the server, once it has the job
WAIT = 0.2  # seconds that the server may hold a question; so long a cancel is not heard
BLOCK = 1 << 18
LARGEST = 4 << 20  # bytes of an answer that is no file
UNREACHABLE = (OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Address:
    """Where a server is."""

    secure: bool
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """True for names and addresses that never leave this computer."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """The address https://HOST:PORT of a server; without https:// it is added, or http:// on this computer.

    Raises UsageError for another form, and for http:// to another computer.
    """
    text, form = text.strip(), "expected https://HOST:PORT, as zsadclip serve prints it"
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", parts.port or 8443
    except ValueError as error:
        raise UsageError(f"the address {text!r:.80}: {form}") from error
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host) or rest or parts.scheme not in ("", "http", "https"):
        raise UsageError(f"the address {text!r:.80}: {form}")
    if parts.scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"the address {text!r:.80}: http:// is for this computer alone, as anyone could listen; {form}"
        )
    return Address(parts.scheme == "https" or not (parts.scheme or is_loopback(host)), host, port)


def parse_fingerprint(text: str) -> str:
    """The SHA-256 of a certificate as 64 small hex digits, "" for none; raises UsageError."""
    digits = re.sub(r"[:\s]", "", text).lower().removeprefix("sha256").removeprefix("=")
    if not digits or re.fullmatch("[0-9a-f]{64}", digits):
        return digits
    raise UsageError(f"the fingerprint {text!r:.80}: expected the 64 hex digits that zsadclip serve prints")


def show_fingerprint(digits: str) -> str:
    """A fingerprint in pairs, as people compare it."""
    return ":".join(digits[n : n + 2] for n in range(0, len(digits), 2)).upper()


class _HasJob(ServerError):
    """The client has a job on this server already."""


class _Pinned(http.client.HTTPSConnection):
    """TLS with the server of a fingerprint, or with one that the authorities of this computer know."""

    def __init__(self, address: Address, fingerprint: str, seconds: float):
        context = ssl.create_default_context()
        if fingerprint:  # the certificate itself is known; its names and dates say nothing more
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._expected = fingerprint
        super().__init__(address.host, address.port, timeout=seconds, context=context, blocksize=BLOCK)

    def connect(self) -> None:
        super().connect()
        if not self._expected:
            return
        found = hashlib.sha256(self.sock.getpeercert(binary_form=True)).hexdigest()
        if not hmac.compare_digest(found, self._expected):
            self.close()
            raise ServerError(
                f"the server's certificate has the fingerprint {show_fingerprint(found)}, expected "
                f"{show_fingerprint(self._expected)}: it was made anew, or another computer answers. Nothing was sent; "
                "compare it with what zsadclip serve prints"
            )


class Server:
    """One connection to a server; raises ServerError where it does not answer or refuses, with what to do.

    `token` is what its token file holds, `fingerprint` as `parse_fingerprint` gives it. Use it in a `with`.
    """

    def __init__(self, address: Address, token: str, fingerprint: str = "", seconds: float = SECONDS):
        if fingerprint and not address.secure:
            raise UsageError(f"a fingerprint needs TLS: write the address as https://{address.host}:{address.port}")
        self.address = address
        self._headers = {"Authorization": f"Bearer {token}", "Connection": "keep-alive"}
        plain = http.client.HTTPConnection(address.host, address.port, timeout=seconds, blocksize=BLOCK)
        self._connection = _Pinned(address, fingerprint, seconds) if address.secure else plain

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def health(self) -> dict:
        """What the server is and offers; raises ServerError also where its version does not fit."""
        told = self._ask("GET", "/v1/health")
        if told.get("api") != API:
            older = "server" if int(told.get("api", 0)) < API else "module in Slicer"
            raise ServerError(f"the server speaks version {told.get('api')} and this client {API}: update the {older}")
        return told

    def submit(self, settings: dict, sizes: dict[str, int], progress: Progress) -> str:
        """Ask for a job over files of these bytes; its id. An earlier one of this client may be about to end."""
        begun = time.monotonic()
        while True:
            try:
                return str(self._ask("POST", "/v1/jobs", {"api": API, "settings": settings, "sizes": sizes})["id"])
            except _HasJob:
                if time.monotonic() - begun > PATIENCE:
                    raise
                progress(0.0, "waiting")
                time.sleep(WAIT)

    def upload(self, job: str, packed: BinaryIO, size: int, progress: Progress) -> None:
        """Send the files of a job, packed by `pack`, `size` bytes."""

        def blocks() -> Iterator[bytes]:
            sent = 0
            while block := packed.read(BLOCK):
                progress(sent / max(size, 1), "sending")
                yield block
                sent += len(block)

        headers = {"Content-Length": str(size), "Content-Type": "application/gzip"}
        try:
            self._json(self._send("PUT", f"/v1/jobs/{job}/volume", blocks(), headers))
        except UNREACHABLE as error:
            self._connection.close()
            for event in self._events_after(job, error):  # the server may have said why it did not go on
                if event.get("event") == "error":
                    raise ServerError(str(event["message"])) from error
            raise self._lost(error) from error

    def _events_after(self, job: str, error: Exception) -> list[dict]:
        try:
            return self._json(self._send("GET", f"/v1/jobs/{job}?from=0&wait=0"))["events"]
        except UNREACHABLE:
            raise self._lost(error) from error

    def follow(self, job: str, progress: Progress, report: Report) -> dict:
        """The result event of a job; on the way `progress` is told, which may raise Cancelled, and `report` of cases."""
        seen, last, heard = 0, (0.0, "waiting", None, None), time.monotonic()
        while True:
            progress(*last)
            try:
                told = self._json(self._send("GET", f"/v1/jobs/{job}?from={seen}&wait={WAIT}"))
                heard = time.monotonic()
            except UNREACHABLE as error:
                self._connection.close()
                if time.monotonic() - heard > PATIENCE:
                    raise self._lost(error) from error
                time.sleep(WAIT)
                continue
            for event in told["events"]:
                kind = event.get("event")
                if kind == "progress":
                    last = (float(event["fraction"]), str(event["text"]), event.get("done"), event.get("total"))
                elif kind in ("case", "note"):
                    report(event)
                elif kind == "result":
                    return event
                elif kind in ("error", "cancelled"):
                    raise ServerError(str(event.get("message") or "the server stopped the job; run again"))
            seen = int(told["next"])

    def fetch(self, job: str, files: list[dict], folder: Path, most: int, progress: Progress) -> None:
        """Write the result files of a job into `folder`, at most `most` bytes; each is held against its SHA-256."""
        if not all(each.get("name") in RESULTS for each in files) or sum(int(each["bytes"]) for each in files) > most:
            raise ServerError("the server offers files that no detection has; update the server")
        for n, each in enumerate(files):
            progress(n / len(files), "fetching")
            with atomic_path(folder / each["name"]) as temporary, open(temporary, "wb") as file:
                try:
                    self._fetch(job, each, file)
                except (*UNREACHABLE, zlib.error) as error:
                    raise self._lost(error) from error

    def _fetch(self, job: str, each: dict, file: BinaryIO) -> None:
        answer = self._send("GET", f"/v1/jobs/{job}/files/{each['name']}")
        if answer.status != http.HTTPStatus.OK:
            self._json(answer)
        unpacker, digest, left = zlib.decompressobj(wbits=31), hashlib.sha256(), int(each["bytes"])
        while block := answer.read(BLOCK):
            data = unpacker.decompress(block, left + 1)
            left -= len(data)
            digest.update(data)
            file.write(data)
            if left < 0 or unpacker.unconsumed_tail:
                break
        if left or digest.hexdigest() != each["sha256"]:
            self._connection.close()
            raise ServerError(f"{each['name']} arrived damaged; run again")

    def forget(self, job: str) -> None:
        """Cancel a job, or have its files removed; a server that does not answer does so by itself soon."""
        self._connection.timeout = min(self._connection.timeout, 2.0)
        for _ in range(2):  # the call may be in the middle of something: then by a new one
            try:
                self._send("DELETE", f"/v1/jobs/{job}").read(LARGEST)
                return
            except (*UNREACHABLE, ServerError):
                self._connection.close()

    def _ask(self, method: str, path: str, data: dict | None = None) -> dict:
        body = None if data is None else json.dumps(data).encode()
        try:
            return self._json(
                self._send(method, path, body, {} if body is None else {"Content-Type": "application/json"})
            )
        except UNREACHABLE as error:
            raise self._lost(error) from error

    def _send(self, method: str, path: str, body=None, headers: dict | None = None) -> http.client.HTTPResponse:
        self._connection.request(method, path, body, {**self._headers, **(headers or {})})
        return self._connection.getresponse()

    def _json(self, answer: http.client.HTTPResponse) -> dict:
        """The JSON of an answer; raises ServerError with what the server said where that is no success."""
        data = answer.read(LARGEST)
        if answer.headers.get(HEADER) is None:
            raise ServerError(
                f"{self.address} answers {answer.status} {answer.reason}, but not as zsadclip serve; correct the address, or "
                "look at the proxy before it"
            )
        try:
            told = json.loads(data)
            if answer.status >= 400:
                kind = _HasJob if answer.status == http.HTTPStatus.CONFLICT else ServerError
                raise kind(str(told["error"]))
            return dict(told)
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(f"{self.address} answers something that is no JSON; update the server") from error

    def _lost(self, error: Exception) -> ServerError:
        self._connection.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not known here ({error.verify_message}): give its fingerprint"
        elif isinstance(error, (ssl.SSLError, http.client.BadStatusLine, ConnectionResetError)):
            why = "it broke the call off; does the address begin with https:// or http:// as printed, and does it still run?"
        else:
            why = f"{getattr(error, 'strerror', None) or error or type(error).__name__}: does it run, and is the address right?"
        return ServerError(f"no answer of the server {self.address}: {why}")


def pack(files: list[tuple[bytes, Path]], target: BinaryIO, progress: Progress) -> int:
    """Write files one behind the other as one gzip stream, each with its first bytes replaced; how long that became.

    Raises InputError where one cannot be read.
    """
    packer = zlib.compressobj(1, wbits=31)
    try:
        total, done = sum(path.stat().st_size for _, path in files), 0
        for start, path in files:
            with open(path, "rb") as file:
                file.seek(len(start))
                target.write(packer.compress(start))
                while block := file.read(1 << 22):
                    progress(done / total, "packing")
                    target.write(packer.compress(block))
                    done += len(block)
    except OSError as error:
        raise InputError(f"the volume cannot be read: {error.strerror}") from error
    target.write(packer.flush())
    size = target.tell()
    target.seek(0)
    return size
