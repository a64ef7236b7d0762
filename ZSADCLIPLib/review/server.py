"""A small server for one review page on this computer: verdicts go into the run, nobody else gets in.

Loopback only, a token in the printed address that becomes a cookie, a check of Host against DNS rebinding and of Origin against
other sites, and a content security policy. Only files that the page consists of are served, by a list made before.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ..errors import InputError, OutputError
from ..files.names import safe_name
from ..files.text import parse_json
from .finished import Finished
from .page import RUN, mode, script_json
from .verdicts import ENDING, Review, fits, read_reviews, review_from, to_dict, write_review

LARGEST = 1 << 20  # bytes of a review
SECONDS = 30  # for a client to say what it wants
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png", ".txt": "text/plain"}
POLICY = (
    "default-src 'none'; script-src 'self' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; font-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
REVIEWS = "reviews"
"""The folder in a run where served verdicts go: a folder a reader, a file a case."""


class ReviewServer(ThreadingHTTPServer):
    """Serves the page in `page` and keeps reviews of `cases` in OUT/reviews/READER/ID_review.json.

    `port` 0 takes any free one. Raises OutputError when the port is taken.
    """

    daemon_threads = True

    def __init__(self, out: Path, page: Path, cases: list[Finished], port: int = 0):
        self.out, self.token = out, secrets.token_urlsafe(24)
        self.cases = {case.id: case for case in cases}
        self.files = {path.relative_to(page).as_posix(): path for path in page.rglob("*") if path.suffix in TYPES}
        if RUN not in self.files:
            raise InputError(f"{page} holds no review page; write it first: zsadclip review OUT --images ...")
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise OutputError(f"cannot serve on port {port}: {error.strerror}; choose another one") from error
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.cookie = f"zsadclip{self.server_port}"

    @property
    def address(self) -> str:
        """What the reader opens; whoever knows it may read and write the reviews."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def reviews_of(self, reader: str) -> Review | None:
        """What a reader said of this page's cases; None where that is nothing."""
        folder = self.folder_of(reader)
        if not any(folder.glob(f"*{ENDING}")):
            return None
        return next((review for review in read_reviews([folder]) if review.reviewer == reader), None)

    def folder_of(self, reader: str) -> Path:
        """Where a reader's reviews are."""
        return self.out / REVIEWS / safe_name(reader)

    def keep(self, case_id: str, data: bytes) -> None:
        """Write a review of one case; raises InputError when it is none, or of another case or result."""
        try:
            review = review_from(parse_json(data))
        except ValueError as error:
            raise InputError(f"not JSON: {error}") from error
        if [case.id for case in review.cases] != [case_id]:
            raise InputError(f"expected a review of the case {case_id} alone")
        case = self.cases[case_id]
        fits(review.cases[0], case.seal, [finding["label"] for finding in case.facts["findings"]])
        path = self.folder_of(review.reviewer) / f"{case_id}{ENDING}"
        if path.is_file() and read_reviews([path])[0].reviewer != review.reviewer:
            raise InputError(f"the reader {review.reviewer!r} is spelt like another one here; choose another name")
        write_review(path, review)


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    server_version, sys_version = "ZSADCLIP", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_PUT(self) -> None:
        self._guarded(self._put)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Answer only those who came by the printed address, and never with a traceback."""
        if self.headers.get("Host") not in self.server.hosts:
            return self._answer(HTTPStatus.FORBIDDEN, "another host")
        asked = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        if self.command == "GET" and asked and self._is_token(asked):
            return self._enter()
        if not self._is_token(self._cookie()):
            return self._answer(HTTPStatus.FORBIDDEN, "open the address that zsadclip review --serve printed")
        try:
            return act()
        except InputError as error:
            return self._answer(HTTPStatus.BAD_REQUEST, str(error))
        except OutputError as error:
            return self._answer(HTTPStatus.INSUFFICIENT_STORAGE, str(error))

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self.server.token.encode())

    def _cookie(self) -> str:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    def _enter(self) -> None:
        cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
        self._answer(HTTPStatus.SEE_OTHER, "", headers={"Location": "/", "Set-Cookie": cookie})

    def _get(self) -> None:
        address = urlsplit(self.path)
        name = address.path.removeprefix("/") or "index.html"
        if name == "mode.js":
            return self._answer(HTTPStatus.OK, mode(served=True), "text/javascript")
        if name == "reviews":
            review = self.server.reviews_of(parse_qs(address.query).get("reader", [""])[0])
            return self._answer(HTTPStatus.OK, script_json(review and to_dict(review)), "application/json")
        if (path := self.server.files.get(name)) is None or not path.is_file():
            return self._answer(HTTPStatus.NOT_FOUND, "no such file")
        return self._answer(HTTPStatus.OK, path.read_bytes(), TYPES[path.suffix])

    def _put(self) -> None:
        case_id = urlsplit(self.path).path.removeprefix("/review/")
        origin = self.headers.get("Origin", "").removeprefix("http://")
        if self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or origin not in self.server.hosts:
            return self._answer(HTTPStatus.FORBIDDEN, "another site")
        if self.path != f"/review/{case_id}" or case_id not in self.server.cases:
            return self._answer(HTTPStatus.NOT_FOUND, "no such case")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or "Transfer-Encoding" in self.headers:
            return self._answer(HTTPStatus.LENGTH_REQUIRED, "say how long the review is")
        if int(length) > LARGEST:
            return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a review has at most {LARGEST} bytes")
        if self.headers.get_content_type() != "application/json":
            return self._answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        self.server.keep(case_id, self.rfile.read(int(length)))
        return self._answer(HTTPStatus.OK, "saved")

    def _answer(
        self, status: HTTPStatus, body: str | bytes, kind: str = "text/plain", headers: dict[str, str] | None = None
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        charset = "" if kind.startswith("image/") else "; charset=utf-8"
        fixed = {
            "Content-Type": kind + charset,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "Connection": "close",
        }
        self.send_response(status)
        for name, value in (fixed | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: addresses hold the token and ids."""
