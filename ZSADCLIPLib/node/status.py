"""How a node does, as plain text; studies are named by digests."""

from __future__ import annotations

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ..errors import OutputError
from .config import NodeSettings
from .spool import LEDGER, OPEN, Spool

MOST_SHOWN = 50


def status_text(spool: Spool, settings: NodeSettings) -> str:
    """A line about the node, then one about each study, those that wait first."""
    rows, now = [], time.time()
    for study in spool:
        ledger = study.read()
        if ledger is None:
            continue
        sent = sum(parcel.state == "sent" for parcel in ledger.parcels)
        age = max(0.0, now - _changed(study.folder / LEDGER))
        to = f", {sent} of {len(ledger.parcels)} objects sent" if ledger.parcels else ""
        said = f", {ledger.said}" if ledger.said else ""
        text = f"{study.key}  {ledger.state:8}{len(study.names()):5} images{to}{said}, {_age(age)}"
        rows.append((ledger.state not in OPEN, age, ledger.state, text))
    counted = Counter(state for *_, state, _ in rows)
    head = f"{settings.aet} at {settings.host}:{settings.port}: " + (
        ", ".join(f"{number} {state}" for state, number in sorted(counted.items())) or "no studies"
    )
    shown = [text for *_, text in sorted(rows)[:MOST_SHOWN]]
    more = [f"and {len(rows) - MOST_SHOWN} more"] if len(rows) > MOST_SHOWN else []
    return "\n".join([head, *shown, *more, "Research use only, not for diagnosis."]) + "\n"


def serve_status(port: int, spool: Spool, settings: NodeSettings) -> ThreadingHTTPServer | None:
    """Tell the status over HTTP at a port of this computer, None for port 0; raises OutputError."""
    if port == 0:
        return None

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = status_text(spool, settings).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            """Say nothing."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    except OSError as error:
        raise OutputError(f"cannot tell the status at port {port}: {error.strerror}; choose another one") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"
