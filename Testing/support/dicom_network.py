"""A PACS for tests: a server that keeps what it is sent, counts it, and answers questions about it."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import contextmanager

from pydicom import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Archive:
    """What a server was sent: datasets and how often, by SOPInstanceUID; `status` is its answer, `unsaid` loses answers."""

    def __init__(self):
        self.kept, self.times, self.status, self.callers = {}, Counter(), 0x0000, set()

    def store(self, event) -> int:
        if self.status == 0:
            ds = event.dataset
            ds.file_meta = event.file_meta
            self.kept[ds.SOPInstanceUID] = ds
            self.times[ds.SOPInstanceUID] += 1
            self.callers.add(event.assoc.requestor.ae_title.strip())
        return self.status

    def find(self, event):
        uid = event.identifier.get("SOPInstanceUID")
        if uid in self.kept:
            found = Dataset()
            found.QueryRetrieveLevel, found.SOPInstanceUID = "IMAGE", uid
            yield 0xFF00, found


@contextmanager
def serving(archive: Archive, title="PACS", port=0, tls=None, find=True):
    """The archive as a server on this computer; gives its port."""
    ae = AE(ae_title=title)
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    ae.supported_contexts = ae.supported_contexts[:126]
    ae.add_supported_context(Verification)
    handlers = [(evt.EVT_C_STORE, archive.store)]
    if find:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        handlers.append((evt.EVT_C_FIND, archive.find))
    server = ae.start_server(("127.0.0.1", port or free_port()), block=False, evt_handlers=handlers, ssl_context=tls)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
