"""The settings of a node: one TOML or JSON file, read and checked before anything listens."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ..dicom.export import SETS
from ..dicom.network import Peer, title_of, tls_context
from ..errors import InputError, UsageError
from ..fields import AtLeast, Between, OneOf, Positive, from_dict
from ..jobs.registry import job_from_dict

Port = Annotated[int, Between(0, 65536)]
Title = str


@dataclass(frozen=True)
class PeerSettings:
    """Who may call, and where to send: its title, host or address, and port."""

    aet: Title
    host: str
    port: Port


@dataclass(frozen=True)
class Rule:
    """Which volumes are scored and how; the first rule that fits a volume counts.

    modality, description   equal, and a regular expression to be found in SeriesDescription, case ignored; "" fits all.
    slices        fewest and most.
    send          one of `dicom.export.SETS`.
    results       title of the peer that gets them; "" is the caller.
    detect        settings of `jobs.detect.Detect`.
    """

    modality: str = "MR"
    description: str = ""
    slices: tuple[Positive, Positive] = (8, 4096)
    send: Annotated[str, OneOf(tuple(SETS))] = "results"
    results: Title = ""
    detect: dict = field(default_factory=dict)

    def fits(self, modality: str, description: str, slices: int) -> bool:
        """True for a volume that the rule selects."""
        found = self.modality.upper() in ("", modality) and self.slices[0] <= slices <= self.slices[1]
        return found and re.search(self.description, description, re.IGNORECASE) is not None


@dataclass(frozen=True)
class NodeSettings:
    """What a node is and may do.

    aet, host, port   its title, and where it listens: this computer alone unless `host` says otherwise.
    spool         its folder: what came in, what is to do, what came out. Nobody else can read it.
    quiet_s       seconds without an image after which a study counts as complete.
    keep_hours    how long images and results stay after all is sent or given up.
    tries, time_out_s   of a detection.
    most_studies, most_gb, spare_gb   studies waiting, size of the spool, and free space, beyond which images are refused.
    associations  callers at a time.
    status_port   where the status is told as plain text over HTTP, on this computer alone; 0 is nowhere.
    tls_cert, tls_key, tls_ca   PEM files for mutual TLS, of all calls in and out.
    """

    spool: str
    peer: tuple[PeerSettings, ...]
    rule: tuple[Rule, ...]
    aet: Title = "ZSADCLIP"
    host: str = "127.0.0.1"
    port: Port = 11112
    quiet_s: Annotated[float, AtLeast(0)] = 10.0
    keep_hours: Annotated[float, AtLeast(0)] = 24.0
    tries: Positive = 3
    time_out_s: Positive = 3600
    most_studies: Positive = 100
    most_gb: Annotated[float, Between(0)] = 20.0
    spare_gb: Annotated[float, AtLeast(0)] = 1.0
    associations: Positive = 4
    status_port: Annotated[int, AtLeast(0)] = 0
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""

    def peer_of(self, aet: str) -> Peer:
        """Where a peer is to be called; raises UsageError for a title that is none's."""
        found = next((peer for peer in self.peer if peer.aet == aet), None)
        if found is None:
            raise UsageError(f"{aet!r} is no peer; known are {', '.join(peer.aet for peer in self.peer)}")
        return Peer(found.aet, found.host, found.port, self.tls(server=False))

    def tls(self, server: bool) -> ssl.SSLContext | None:
        """The TLS of calls, None without files; raises UsageError for some of the files only, or unusable ones."""
        files = (self.tls_cert, self.tls_key, self.tls_ca)
        if not any(files):
            return None
        if not all(files):
            raise UsageError("TLS needs tls_cert, tls_key and tls_ca; give all three or none")
        return tls_context(*files, server=server)

    def addresses(self) -> dict[str, set[str]]:
        """The network addresses of each peer by its title; raises UsageError for an unknown host."""
        found: dict[str, set[str]] = {}
        for peer in self.peer:
            try:
                infos = socket.getaddrinfo(peer.host, None)
            except (OSError, UnicodeError) as error:
                raise UsageError(f"the host {peer.host!r} of {peer.aet} is unknown; give an address") from error
            found.setdefault(peer.aet, set()).update(str(info[4][0]) for info in infos)
        return found


def read_settings(path: Path) -> NodeSettings:
    """The settings in a file; raises InputError where it cannot be read and UsageError naming what is wrong in it."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else _toml(text)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the settings {path} cannot be read: {error}; expected TOML, or JSON in a .json file"
        ) from error
    settings = from_dict(NodeSettings, data, f"{path.name}:")
    _check(settings)
    return settings


def detect_job(rule: Rule, folder: str, output: str, dicom: str | None = None) -> dict:
    """The job that scores a volume by a rule; raises UsageError for settings that are none of `Detect`."""
    taken = {"inputs", "output", "dicom", "workers", "shard", "executor"} & rule.detect.keys()
    if taken:
        raise UsageError(f"rule.detect has {', '.join(sorted(taken))}, which the node itself decides; leave it out")
    job = {"job": "detect", "inputs": [folder], "output": output, "skip_existing": True, **rule.detect}
    job |= {"dicom": dicom} if dicom else {}
    job_from_dict(job)
    return job


def _toml(text: str) -> Mapping:
    if sys.version_info < (3, 11):
        raise ValueError("TOML needs Python 3.11; write the same as JSON")
    import tomllib

    return tomllib.loads(text)


def _check(settings: NodeSettings) -> None:
    """Raise UsageError for what types do not say."""
    if not settings.peer or not settings.rule:
        raise UsageError("a node needs a [[peer]] that may call and a [[rule]] that selects; give at least one of each")
    titles = [settings.aet, *(peer.aet for peer in settings.peer)]
    for title in titles:
        title_of(title)
    if len(set(titles)) < len(titles):
        raise UsageError(f"titles are not distinct: {', '.join(titles)}; one place a title")
    for rule in settings.rule:
        try:
            re.compile(rule.description)
        except re.error as error:
            raise UsageError(f"the description {rule.description!r} is no regular expression: {error}") from error
        if rule.slices[0] > rule.slices[1]:
            raise UsageError(f"slices {list(rule.slices)}: expected fewest and most")
        if rule.results:
            settings.peer_of(rule.results)
        detect_job(rule, "in", "out", rule.send)
    settings.tls(server=True)
    settings.addresses()
