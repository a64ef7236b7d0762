"""One file from a hub: https only, resumed where it stopped, and under its own name only after its checksum fits."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from ..errors import WeightsError
from ..files.atomic import put_in_place
from ..progress import Progress

BLOCK = 1 << 20
NETWORK_ERRORS = (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException)


def fetch(url: str, sha: str, path: Path, progress: Progress) -> None:
    """Download `url` to `path`; `sha` is its SHA-256 or the beginning of it, empty for the one that the hub states.

    What has arrived stays in PATH.part when the connection ends, and the next call goes on from there; proxies come from the
    environment. Raises WeightsError when offline (HF_HUB_OFFLINE=1 or no route), for an address or a redirection that is not
    https, when no checksum is known, and when it differs.
    """
    where = f"{path.name} (sha256 {sha or 'not pinned'}) from {url}; put the file into {path.parent}"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise WeightsError(f"offline (HF_HUB_OFFLINE=1): cannot download {where}")
    if not url.startswith("https://"):
        raise WeightsError(f"refusing to download {path.name} from {url}: only https addresses are used")
    partial, redirects = partial_of(path), _HttpsOnly()
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    opener = urllib.request.build_opener(redirects)
    try:
        with opener.open(request, timeout=60) as answer:
            expected = _expected(sha, redirects.stated, answer.headers, where)
            _store(answer, partial, start if answer.status == 206 else 0, progress, where)
    except NETWORK_ERRORS as error:
        # A range that starts at the end of the file cannot be served: all of it is here, and its checksum decides.
        if not (start and getattr(error, "code", None) == 416):
            raise WeightsError(f"cannot reach the network ({error}): download {where}") from error
        expected = _expected(sha, redirects.stated, error.headers, where)
    actual = git_sha1(partial) if len(expected) == 40 else sha256_of(partial)
    if not actual.startswith(expected):
        partial.unlink()
        raise WeightsError(
            f"{path.name} arrived damaged: checksum {actual}, expected {expected}; it was deleted, try again"
        )
    put_in_place(partial, path)


def partial_of(path: Path) -> Path:
    """Where what has arrived of a file is kept until it is whole."""
    return path.with_name(path.name + ".part")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def git_sha1(path: Path) -> str:
    """The SHA-1 under which git, and so a hub, keeps a small file: that of b"blob LENGTH\\0" and the content."""
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size + path.read_bytes(), usedforsecurity=False).hexdigest()


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https addresses and to no other, and keeps the checksum that a hub states on the way."""

    stated = ""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not newurl.startswith("https://"):
            raise WeightsError(f"refusing to download: {req.full_url} leads to {newurl}, only https addresses are used")
        self.stated = self.stated or _stated(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stated(headers) -> str:
    """The checksum in a hub's headers: SHA-256 of a large file, git's SHA-1 of a small one; empty without one."""
    tags = [(headers.get(name) or "").strip('"') for name in ("X-Linked-ETag", "ETag")]
    return next((tag for tag in tags if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", tag)), "")


def _expected(sha: str, stated: str, headers, where: str) -> str:
    if not (expected := sha or stated or _stated(headers)):
        raise WeightsError(
            f"no checksum is pinned and the server states none, so nothing was fetched: download {where}"
        )
    return expected


def _store(answer, partial: Path, start: int, progress: Progress, where: str) -> None:
    """Append the answer's body to the partial file from byte `start` on."""
    total = done = start
    total += int(answer.headers.get("Content-Length") or 0)
    with open(partial, "ab") as stream:
        stream.truncate(start)
        while block := answer.read(BLOCK):
            stream.write(block)
            done += len(block)
            name = partial.name.removesuffix(".part")
            whole = max(total, done)  # the server need not state the length
            progress(done / whole, f"{name}: {done / 1e6:.0f} of {whole / 1e6:.0f} MB", done, whole)
    if done < total:
        raise WeightsError(
            f"the connection ended after {done:,} of {total:,} bytes; run the same command again to go on from there, or "
            f"download {where}"
        )
