"""`zsadclip dicom send` and `check`: what is done with DICOM objects that are there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError, ZSADCLIPError

TITLE = "ZSADCLIP"
MOST_LINES = 10


def add_files(p: argparse.ArgumentParser) -> None:
    p.add_argument("files", nargs="+", metavar="FILE|FOLDER", help="DICOM objects, or folders of them")


def add_send(p: argparse.ArgumentParser) -> None:
    add_files(p)
    p.add_argument("--to", required=True, metavar="AET@HOST:PORT", help="the server")
    p.add_argument("--as", dest="title", default=TITLE, metavar="AET", help=f"own title (default {TITLE})")
    p.add_argument("--tls", nargs=3, metavar=("CERT", "KEY", "CA"), help="mutual TLS with these PEM files")


def add_check(p: argparse.ArgumentParser) -> None:
    add_files(p)
    p.add_argument("--source", metavar="FOLDER", help="the series that was scored: are its places copied exactly?")
    p.add_argument("--series", metavar="N|UID|DESCRIPTION", help="which volume of the source")


def run_send(chosen: argparse.Namespace) -> int:
    """Echo, then send: a line a file; 1 where one was not stored."""
    from ..dicom.network import Peer, echo, pynetdicom_of, send, title_of, tls_context

    pynetdicom_of()
    peer = Peer.parse(chosen.to, tls_context(*chosen.tls, server=False) if chosen.tls else None)
    title, files, failed = title_of(chosen.title), _files(chosen.files), []
    echo(peer, title)

    def sent(file: Path, problem: str) -> None:
        failed.extend([file] if problem else [])
        print(f"{file}: {f'not stored, {peer} {problem}' if problem else 'stored'}", flush=True)

    send(files, peer, title, sent)
    return int(bool(failed))


def run_check(chosen: argparse.Namespace) -> int:
    """A line a file and what is wrong with it; 1 where something is."""
    from ..dicom.check import check

    places = _places(Path(chosen.source).expanduser(), chosen.series) if chosen.source else None
    bad = False
    for file in _files(chosen.files):
        try:
            found = check(file, places)
        except ZSADCLIPError as error:
            found = [str(error)]
        bad = bad or bool(found)
        print(f"{file}: {'good' if not found else f'{len(found)} problems'}")
        for text in found[:MOST_LINES]:
            print(f"  {text}")
        if len(found) > MOST_LINES:
            print(f"  and {len(found) - MOST_LINES} more")
    return int(bad)


def folders_of(source: Path, keep_identifiers: bool = False) -> Iterator[Path]:
    """A file or medium itself; of a folder, those with DICOM files among it and all below."""
    from ..files.folders import walk
    from ..files.names import is_dicom

    if source.is_file():
        yield source
        return
    for folder, names in walk(source, keep_identifiers):
        if any(is_dicom(folder / name) for name in names if not name.startswith(".")):
            yield folder


def _places(source: Path, series: str | None) -> dict[tuple[str, int], str]:
    """The positions of all slices in and below a source; raises InputError where there is no volume."""
    from ..dicom.check import places_of
    from ..dicom.sources import read_sources

    if not source.exists():
        raise InputError(f"there is no file or folder {source}; check the name")
    found: dict[tuple[str, int], str] = {}
    problem: InputError | None = None
    for folder in folders_of(source):
        try:
            found |= places_of(read_sources(folder, series))
        except InputError as error:  # it may hold no case of these objects
            problem = error
    if not found:
        raise problem or InputError(f"{source} holds no DICOM series of a volume; name a folder with one")
    return found


def _files(named: list[str]) -> list[Path]:
    """The DICOM files that are named or below a named folder, each once; raises InputError where there is none."""
    from ..files.folders import walk
    from ..files.names import is_dicom

    found: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        if path.is_dir():
            files = (folder / each for folder, names in walk(path) for each in names if not each.startswith("."))
            found += [file for file in files if is_dicom(file)]
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"there is no file or folder {path}; check the name")
    if not found:
        raise InputError(f"no DICOM file in {', '.join(named)}; name objects or a folder of them")
    return list(dict.fromkeys(found))
