"""`zsadclip models` and `zsadclip phantom`: what comes with the package or can be had, and volumes made up."""

from __future__ import annotations

import argparse
from contextlib import closing

from ..adapters import METHODS
from ..errors import UsageError, number_of
from .bar import Bar


def add_models(p: argparse.ArgumentParser) -> None:
    p.add_argument("action", nargs="?", choices=["list", "get", "remove"], default="list")
    p.add_argument("name", nargs="?", help="backbone to download")
    p.add_argument("--weights-dir", help="folder with weights, searched before the cache")


def run_models(chosen: argparse.Namespace) -> int:
    """List backbones and adapters, download a backbone, or delete what was downloaded."""
    from ..adapters.checkpoint import list_adapters
    from ..backbones.weights import download, remove_downloaded, status

    if chosen.action == "get":
        if not chosen.name:
            raise UsageError("zsadclip models get NAME: name a backbone of 'zsadclip models'")
        with closing(Bar()) as bar:
            for path in download(chosen.name, chosen.weights_dir, bar):
                print(path)
        return 0
    if chosen.action == "remove":
        files = remove_downloaded(chosen.weights_dir)
        for path in files:
            print(path)
        print(f"{len(files)} downloaded files deleted")
        return 0
    for row in status(chosen.weights_dir):
        size = f"{row['size_bytes'] / 1e6:5.0f} MB" if row["size_bytes"] else " " * 8
        print(f"{row['name']:20s} {row['state']:10s} {size}  {row['label']}  {row['where']}")
    for info in list_adapters(chosen.weights_dir):
        print(f"{info.name:34s} {METHODS[info.method].label} on {info.backbone.get('name')}")
    return 0


def add_phantom(p: argparse.ArgumentParser) -> None:
    p.add_argument("--cases", type=int, default=1)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", required=True)
    p.add_argument("--healthy", action="store_true", help="without lesions")
    p.add_argument(
        "--channels",
        nargs="+",
        metavar="CHANNEL",
        help="t2w (default) t1n t1c t2f; mri also pd free, drawn if not given",
    )
    p.add_argument("--world", choices=["met-t2", "mri"], default="met-t2", help="which synthetic brains")
    p.add_argument("--domain", choices=["brain", "industrial"], default="brain")


def run_phantom(chosen: argparse.Namespace) -> int:
    """Write synthetic cases."""
    from ..synthetic.brains import write_dataset

    with closing(Bar()) as bar:
        paths = write_dataset(
            chosen.out,
            cases=chosen.cases,
            seed=chosen.seed,
            healthy=chosen.healthy,
            channels=tuple(chosen.channels) if chosen.channels else ("t2w",) if chosen.world == "met-t2" else None,
            world=chosen.world,
            domain=chosen.domain,
            progress=bar,
        )
    print(f"{number_of(len(paths), 'synthetic case')} in {chosen.out}")
    return 0
