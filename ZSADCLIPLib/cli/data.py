"""`zsadclip data`: the audit of a data set."""

from __future__ import annotations

import argparse
from contextlib import closing

from .bar import Bar


def add_data(p: argparse.ArgumentParser) -> None:
    p.add_argument("action", choices=["audit"])
    p.add_argument("source", metavar="DIR", help="folder or manifest CSV")
    p.add_argument("--out", metavar="DIR", help="where audit.json, audit.csv and audit.md go (default: zsadclip-audit)")
    p.add_argument("--channel", default="t2w", help="t1n, t1c, t2w or t2f")
    p.add_argument("--label-rule", default="auto", help="auto, a year such as 2023, or nonzero")
    p.add_argument("--target", choices=["wt", "tc", "et"], default="wt")
    p.add_argument("--ignore", nargs="+", type=int, default=[], metavar="LABEL", help="label values that do not count")
    p.add_argument("--placement", choices=["sform", "qform"], help="which one to follow where a file's two disagree")
    p.add_argument("--keep-identifiers", action="store_true", help="let names of folders into results and messages")


def run_data(chosen: argparse.Namespace) -> int:
    """Audit a data set; 1 when no case can be used."""
    from ..datasets.audit import audit, markdown, write_audit

    with closing(Bar()) as bar:
        audited = audit(
            chosen.source,
            chosen.channel,
            chosen.label_rule,
            chosen.target,
            bar,
            tuple(chosen.ignore),
            chosen.keep_identifiers,
            chosen.placement,
        )
    print(markdown(audited))
    paths = write_audit(chosen.out or "zsadclip-audit", audited)
    print(f"saved: {', '.join(str(path) for path in paths)}")
    return int(not audited.records)
