"""The listening side: images of known callers into the spool, each on disk before it is acknowledged."""

from __future__ import annotations

from collections.abc import Callable

from ..dicom.network import pynetdicom_of
from ..dicom.sources import discreet
from ..errors import OutputError
from ..volumes.dicom_headers import IMAGES, STORAGE
from .config import NodeSettings
from .spool import UID, Spool, study_key

SUCCESS, NOT_AUTHORISED, NO_SPACE, CANNOT = 0x0000, 0x0124, 0xA700, 0xC000
DISCARDED = 0xB006  # a warning, so that a sender goes on with the rest of the study
PDU_BYTES = 1 << 17
MOST_BYTES = 4 << 30  # of one image
SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"),
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
)
"""What SimpleITK decodes: little and big endian, RLE, JPEG, JPEG-LS, JPEG 2000."""
TAKEN = {f"{STORAGE}{code}" for code in IMAGES}
"""Classes of images that are kept. Others, such as earlier results, come with studies that are sent whole."""


def listen(settings: NodeSettings, spool: Spool, log: Callable[[str], None]):
    """Start the server in threads of its own; `shutdown()` of what is returned ends it. Raises OutputError, UsageError."""
    pynetdicom = pynetdicom_of()
    from pynetdicom import AllStoragePresentationContexts, evt
    from pynetdicom.sop_class import Verification

    ae = pynetdicom.AE(ae_title=settings.aet)
    ae.require_called_aet, ae.require_calling_aet = True, [peer.aet for peer in settings.peer]
    ae.maximum_associations, ae.maximum_pdu_size = settings.associations, PDU_BYTES
    ae.add_supported_context(Verification)
    for sop_class in {context.abstract_syntax for context in AllStoragePresentationContexts} | TAKEN:
        ae.add_supported_context(sop_class, list(SYNTAXES))
    allowed = settings.addresses()

    def is_known(event) -> bool:
        caller = event.assoc.requestor
        return caller.address in allowed.get(str(caller.ae_title).strip(), ())

    def on_request(event) -> None:
        caller = event.assoc.requestor
        title = str(caller.primitive.calling_ae_title).strip()
        if caller.address not in allowed.get(title, ()):
            log(f"refused a call from {caller.address}")
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # for good, by the user: calling title not recognised
            event.assoc.kill()

    def on_echo(event) -> int:
        return SUCCESS if is_known(event) else NOT_AUTHORISED

    def on_store(event) -> int:
        if not is_known(event):
            return NOT_AUTHORISED
        return _store(event, spool, log) if event.request.AffectedSOPClassUID in TAKEN else DISCARDED

    handlers = [(evt.EVT_REQUESTED, on_request), (evt.EVT_C_ECHO, on_echo), (evt.EVT_C_STORE, on_store)]
    try:
        place = (settings.host, settings.port)
        return ae.start_server(place, block=False, ssl_context=settings.tls(server=True), evt_handlers=handlers)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise OutputError(f"cannot listen at {where}: {error.strerror}; is another program there?") from error


def _store(event, spool: Spool, log: Callable[[str], None]) -> int:
    """The answer to an image."""
    caller = str(event.assoc.requestor.ae_title).strip()
    try:
        with discreet():
            ds = event.dataset
            study, instance = str(ds.get("StudyInstanceUID", "")), str(event.request.AffectedSOPInstanceUID)
            # Names are made of them; a different one within would be another image under this name.
            if not UID.fullmatch(study) or not UID.fullmatch(instance) or ds.get("SOPInstanceUID") != instance:
                return CANNOT
            size = event.request.DataSet.getbuffer().nbytes
            if size > MOST_BYTES or not spool.has_room(size, study_key(caller, study)):
                log("refused an image: the spool is full")
                return NO_SPACE
            spool.receive(caller, study, instance, event.encoded_dataset())
    except OutputError as error:
        log(f"refused an image: {error}")
        return NO_SPACE
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        log(f"refused an image: {type(error).__name__}")
        return CANNOT
    return SUCCESS
