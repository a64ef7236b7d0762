"""A round trip with a real server, Orthanc, where it is installed: send, find, get, equal; and the node between the two."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest
from dicom_results import exported, whole_series
from test_node import Running, free_port, settings_of

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

from ZSADCLIPLib.cli import main  # noqa: E402
from ZSADCLIPLib.dicom.network import Peer, has_instance  # noqa: E402

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs orthanc")
STUDY = "1.2.826.0.1.3680043.9.1.1.9"


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Orthanc:
    """A server of its own in a folder."""

    def __init__(self, folder):
        self.dicom, self.http = free_port(), free_port()
        folder.mkdir()
        settings = {
            "Name": "TEST",
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "DicomAet": "PACS",
            "DicomPort": self.dicom,
            "HttpPort": self.http,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "Plugins": [],
            "OverwriteInstances": False,
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._log = open(folder / "log", "w")  # noqa: SIM115
        self._process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=self._log, stderr=self._log)
        end = time.monotonic() + 600
        while time.monotonic() < end and not (answers(self.http) and answers(self.dicom)):
            time.sleep(0.1)

    def ask(self, path, data=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/{path}", body)
        answer = urllib.request.urlopen(request, timeout=600).read()
        return answer if path.endswith("/file") else json.loads(answer)

    def stop(self):
        self._process.terminate()
        self._process.wait()
        self._log.close()


@pytest.fixture
def orthanc(tmp_path):
    server = Orthanc(tmp_path / "orthanc")
    yield server
    server.stop()


def test_what_a_server_keeps_is_what_was_sent(tmp_path, orthanc, capsys):
    series = whole_series(tmp_path / "s", 3)
    folder, _ = exported(series, tmp_path / "out")
    place = f"PACS@127.0.0.1:{orthanc.dicom}"
    assert main(["dicom", "send", str(series), str(folder), "--to", place]) == 0
    assert capsys.readouterr().out.count(": stored") == 6
    kinds = {}
    for instance in orthanc.ask("instances"):
        (tmp_path / "back.dcm").write_bytes(orthanc.ask(f"instances/{instance}/file"))
        back = pydicom.dcmread(tmp_path / "back.dcm")
        kinds[back.Modality] = kinds.get(back.Modality, 0) + 1
        sent = next(
            ds
            for ds in map(pydicom.dcmread, [*series.iterdir(), *folder.iterdir()])
            if ds.SOPInstanceUID == back.SOPInstanceUID
        )
        assert back == sent
    assert kinds == {"MR": 3, "SEG": 1, "SR": 1, "OT": 1}
    made = pydicom.dcmread(folder / "seg.dcm")
    peer = Peer.parse(place)
    assert has_instance(peer, "ZSADCLIP", STUDY, made.SeriesInstanceUID, made.SOPInstanceUID)
    assert not has_instance(peer, "ZSADCLIP", STUDY, made.SeriesInstanceUID, "1.2.3")
    assert main(["dicom", "send", str(folder), "--to", f"PACS@127.0.0.1:{free_port()}"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_a_server_sends_a_study_and_gets_the_results(tmp_path, orthanc):
    series = whole_series(tmp_path / "s", 9, SeriesDescription="T2 axial")
    place = f"PACS@127.0.0.1:{orthanc.dicom}"
    assert main(["dicom", "send", str(series), "--to", place]) == 0
    settings = settings_of(tmp_path / "node", orthanc.dicom)
    with Running(settings) as running:
        modality = {"AET": "ZSADCLIP", "Host": "127.0.0.1", "Port": settings.port}
        request = urllib.request.Request(
            f"http://127.0.0.1:{orthanc.http}/modalities/node", json.dumps(modality).encode(), method="PUT"
        )
        urllib.request.urlopen(request, timeout=600).read()
        (study,) = orthanc.ask("studies")
        assert orthanc.ask("modalities/node/store", [study])["FailedInstancesCount"] == 0
        (ledger,) = running.settled()
        # The study holds our results now, which come along when it is sent whole once more.
        again = orthanc.ask("modalities/node/store", [study])
        assert (again["InstancesCount"], again["FailedInstancesCount"]) == (12, 0)
        assert [each.sent for each in running.settled()] == [ledger.sent]
    assert len(ledger.sent) == 3
    modalities = [
        orthanc.ask(f"series/{each}")["MainDicomTags"]["Modality"] for each in orthanc.ask(f"studies/{study}")["Series"]
    ]
    assert sorted(modalities) == ["MR", "OT", "SEG", "SR"]
    assert len(orthanc.ask("instances")) == 12
