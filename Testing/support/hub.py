"""A hub and a proxy on the loopback interface, with a certificate of their own."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves CONTENT at any path over https; what it was asked is in `ranges`, how it behaves in its attributes."""

    def __init__(self, certificate: Path):
        super().__init__(("127.0.0.1", 0), _Answers)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.body, self.ranges, self.honours_range, self.cut = CONTENT, [], True, 0
        self.headers: dict[str, str] = {}
        self.redirect, self.redirect_headers = "", {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        hub: Hub = self.server
        if self.path == "/moved":
            self._head(302, hub.redirect_headers | {"Location": hub.redirect})
            return
        asked = self.headers.get("Range")
        hub.ranges.append(asked)
        start = int(asked.split("=")[1].rstrip("-")) if asked and hub.honours_range else 0
        if start and start >= len(hub.body):
            self._head(416, hub.headers)
            return
        body = hub.body[start:]
        self._head(206 if start else 200, hub.headers | {"Content-Length": str(len(body))})
        self.wfile.write(body[: hub.cut] if hub.cut else body)

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class Proxy(ThreadingHTTPServer):
    """Passes encrypted connections on (CONNECT) and counts them in `targets`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.targets: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        self.server.targets.append(self.path)
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while block := source.recv(1 << 16):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def make_certificate(folder: Path) -> Path:
    """A certificate and its key for 127.0.0.1 in one file."""
    path = folder / "hub.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(folder / "only.pem")]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text("utf-8") + (folder / "only.pem").read_text("utf-8"))
    return path
