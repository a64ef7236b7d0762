"""`zsadclip serve`."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress

from ..serve.config import ServeSettings
from .options import add_flags, job_of


def add_serve(p: argparse.ArgumentParser) -> None:
    add_flags(p, ServeSettings)
    p.add_argument("--new-token", metavar="FILE", help="admit one more client: write its token to FILE, and end")


def run_serve(chosen: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from ..serve.run import admit, serving

    settings = job_of(ServeSettings, chosen)
    if chosen.new_token:
        admit(settings, chosen.new_token)
        print(f"{chosen.new_token}: the token of one more client; give the file to it alone")
        return 0
    print("Research use only, not for diagnosis. Ctrl-C ends it.", flush=True)
    with (
        serving(settings, lambda text: print(time.strftime("%F %T"), text, flush=True)) as server,
        suppress(KeyboardInterrupt),
    ):
        server.serve_forever()
    return 0
