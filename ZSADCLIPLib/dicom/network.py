"""DICOM over the network, as the one who calls: echo, store and find (PS3.4, annexes A, B and C)."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import DependencyError, InputError, OutputError, UsageError
from .check import is_cut
from .sources import discreet

TIMEOUT_S = 30
PLACE = re.compile(r"(?P<aet>[^@\s]{1,16})@(?P<host>[^\s@]+):(?P<port>\d{1,5})")
ECHO = "1.2.840.10008.1.1"
PLAIN = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit and implicit little endian, which every server takes."""
ENDED = "ended the connection"
STATUSES = {
    0x0122: "does not take this kind of object",
    0x0124: "refuses: not authorised",
    0xA700: "is out of space",
    0xA900: "finds that the object does not fit its kind",
    0xC000: "cannot understand the object",
}


@dataclass(frozen=True)
class Peer:
    """A DICOM application elsewhere: its title, host and port; `tls` encrypts the way there."""

    aet: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def parse(cls, text: str, tls: ssl.SSLContext | None = None) -> Peer:
        """From AET@HOST:PORT; raises UsageError."""
        found = PLACE.fullmatch(text)
        if not found or not 0 < int(found["port"]) < 65536:
            raise UsageError(f"{text!r} is no DICOM server; expected AET@HOST:PORT, such as PACS@10.0.0.5:104")
        return cls(title_of(found["aet"]), found["host"], int(found["port"]), tls)

    def __str__(self) -> str:
        return f"{self.aet}@{self.host}:{self.port}"


def title_of(text: str) -> str:
    """The title of an application (AE, PS3.5, 6.2) as it is given; raises UsageError for one that is none."""
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", text) or text != text.strip():
        raise UsageError(f"the title {text!r}: expected 1 to 16 ASCII letters without a backslash")
    return text


def pynetdicom_of():
    """The library, without its log, which quotes what is sent; raises DependencyError."""
    try:
        import pynetdicom
    except ImportError as error:
        raise DependencyError(
            "DICOM over the network needs pynetdicom, which is not installed: pip install 'zsadclip[node]'"
        ) from error
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    return pynetdicom


def tls_context(cert: str, key: str, ca: str, server: bool) -> ssl.SSLContext:
    """Mutual TLS: own certificate and key, and whose certificates the others must have; raises UsageError."""
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=ca)
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the TLS files {cert}, {key}, {ca} cannot be used: {error}; expected PEM files") from error
    context.minimum_version, context.verify_mode = ssl.TLSVersion.TLSv1_2, ssl.CERT_REQUIRED
    # Certificates of devices name titles rather than hosts; the authority is what is trusted.
    context.check_hostname = False
    return context


@contextmanager
def associated(peer: Peer, title: str, contexts: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator:
    """An association of pynetdicom with contexts (class, transfer syntaxes); raises OutputError where there is none."""
    pynetdicom = pynetdicom_of()
    ae = pynetdicom.AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = TIMEOUT_S
    for sop_class, syntaxes in contexts:
        ae.add_requested_context(sop_class, list(syntaxes))
    tls = (peer.tls, None) if peer.tls else None
    try:
        association = ae.associate(peer.host, peer.port, ae_title=peer.aet, tls_args=tls)
    except (OSError, UnicodeError) as error:  # a name server may be back later
        raise OutputError(f"the host of {peer} cannot be found; check its name, or give an address") from error
    if not association.is_established:
        what = "does not answer; check host and port"
        if association.is_rejected:
            what = f"refuses the call; check its title, and that it knows {title}"
        raise OutputError(f"{peer} {what}")
    try:
        yield association
    except RuntimeError as error:  # pynetdicom's word for a call that is over
        raise OutputError(f"{peer} {ENDED}") from error
    finally:
        association.release()


def echo(peer: Peer, title: str) -> None:
    """Ask whether a server is there; raises OutputError."""
    with associated(peer, title, [(ECHO, PLAIN)]) as association:
        if getattr(association.send_c_echo(), "Status", None) != 0:
            raise OutputError(f"{peer} does not answer an echo")


def send(files: Iterable[Path], peer: Peer, title: str, sent: Callable[[Path, str], None]) -> None:
    """Store files at a server, one after the other; `sent(file, problem)` hears of each, the problem "" where it is stored.

    Raises OutputError where the server does not answer and InputError for a file that is no DICOM object.
    """
    heads = {file: _head(file) for file in files}
    # A server that takes no kind of object ends the call unless there is something else that it takes.
    contexts: dict[tuple[str, tuple[str, ...]], None] = {(ECHO, PLAIN): None}
    for sop_class, syntax in heads.values():
        contexts[sop_class, PLAIN] = None
        if syntax not in PLAIN:
            contexts[sop_class, (syntax,)] = None
    if len(contexts) > 128:
        raise UsageError(f"{len(contexts)} kinds of objects at once; a call has room for 128: send fewer files")
    with associated(peer, title, contexts) as association:
        for file, (sop_class, syntax) in heads.items():
            accepted = {c.transfer_syntax[0] for c in association.accepted_contexts if c.abstract_syntax == sop_class}
            sent(file, _store(association, file, syntax, accepted))


def has_instance(peer: Peer, title: str, study: str, series: str, instance: str) -> bool:
    """True where a server says that it holds an object; False where it does not, or cannot be asked."""
    from pydicom import Dataset
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "IMAGE", study
    query.SeriesInstanceUID, query.SOPInstanceUID = series, instance
    try:
        with associated(peer, title, [(FIND, PLAIN)]) as association:
            if not association.accepted_contexts:
                return False
            answers = [found for _, found in association.send_c_find(query, FIND) if found is not None]
    except OutputError:
        return False
    return any(found.get("SOPInstanceUID") == instance for found in answers)


def _head(file: Path) -> tuple[str, str]:
    """Class and transfer syntax of a file; raises InputError."""
    from pydicom import dcmread

    try:
        meta = dcmread(file, specific_tags=[], stop_before_pixels=True).file_meta
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise InputError(f"{file} is no complete DICOM file; send the objects of 'zsadclip detect --dicom'") from error


def _store(association, file: Path, syntax: str, accepted: set[str]) -> str:
    """Why a file could not be stored, "" where it is."""
    from pydicom import dcmread

    if not association.is_established:
        return ENDED
    with discreet():
        ds = dcmread(file)
        if is_cut(ds):
            return "was not asked: the file is cut off"
        if syntax not in accepted and accepted:
            if syntax not in PLAIN:
                ds.decompress(generate_instance_uid=False)
            elif not accepted & set(PLAIN):
                return STATUSES[0x0122]
        try:
            status = getattr(association.send_c_store(ds), "Status", None)
        except ValueError:  # no context of this class was accepted
            return STATUSES[0x0122]
        except RuntimeError:  # since we looked
            return ENDED
    if status is None:
        return "gives no answer"
    # Warnings (B000 to BFFF) say that the object is stored, changed or not.
    return "" if status == 0 or 0xB000 <= status <= 0xBFFF else STATUSES.get(status, f"answers {status:#06x}")
