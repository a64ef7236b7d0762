"""`zsadclip node`: a DICOM node of one file of settings."""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_node(p: argparse.ArgumentParser) -> None:
    p.add_argument("settings", metavar="NODE.toml", help="settings (docs/howto/node.md); TOML, or JSON in a .json file")
    p.add_argument("--check", action="store_true", help="read the settings and say whether they will do")
    p.add_argument("--status", action="store_true", help="print what the node of these settings has done and has to do")


def run_node(chosen: argparse.Namespace) -> int:
    """Serve until interrupted."""
    from ..node.config import read_settings
    from ..node.run import GIGA, Node
    from ..node.spool import Spool
    from ..node.status import status_text

    settings = read_settings(Path(chosen.settings))
    if chosen.status:
        limits = (settings.most_studies, settings.most_gb * GIGA, settings.spare_gb * GIGA)
        print(status_text(Spool(Path(settings.spool).expanduser(), *limits), settings), end="")
        return 0
    if chosen.check:
        print(f"{chosen.settings}: good; {len(settings.peer)} peers, {len(settings.rule)} rules")
        return 0
    print("Research use only, not for diagnosis.", flush=True)
    Node(settings, lambda text: print(time.strftime("%F %T"), text, flush=True)).run()
    return 0
