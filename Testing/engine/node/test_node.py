"""The node: who may call, what is kept, scored and sent, and that neither loss nor repetition follows from a fault."""

import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from dicom_files import UID
from dicom_results import outcome_of, whole_series

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")
pytest.importorskip("SimpleITK")

from dicom_network import Archive, free_port, serving  # noqa: E402

from ZSADCLIPLib.cli import main  # noqa: E402
from ZSADCLIPLib.dicom.export import export, folder_of  # noqa: E402
from ZSADCLIPLib.dicom.network import ECHO, PLAIN, Peer, associated, echo, has_instance, send, tls_context  # noqa: E402
from ZSADCLIPLib.dicom.sources import read_sources  # noqa: E402
from ZSADCLIPLib.errors import InputError, OutputError, UsageError  # noqa: E402
from ZSADCLIPLib.node.config import read_settings  # noqa: E402
from ZSADCLIPLib.node.run import Node  # noqa: E402
from ZSADCLIPLib.node.spool import DONE, FAILED, SCORED, WAITING, Ledger, Parcel, Study  # noqa: E402
from ZSADCLIPLib.node.status import status_text  # noqa: E402
from ZSADCLIPLib.node.work import ChildScore, send_study  # noqa: E402


def settings_of(folder, port=0, **more):
    """Settings of a node whose one peer is at `port`, read from a file as a user writes it."""
    folder.mkdir(exist_ok=True)
    peer = [{"aet": "PACS", "host": "127.0.0.1", "port": port or 1}]
    data = {
        "spool": str(folder / "spool"),
        "port": free_port(),
        "quiet_s": 0.2,
        "peer": peer,
        "rule": [{"description": "t2"}],
    }
    (folder / "node.json").write_text(json.dumps(data | more))
    return read_settings(folder / "node.json")


def scoring(job, _):
    """Stands in for a detection: objects of two findings."""
    sources = read_sources(Path(job["inputs"][0]))
    export(folder_of(job["output"], "case"), sources, outcome_of(sources), job["dicom"])


class Running:
    """A node in a thread."""

    def __init__(self, settings, score=scoring):
        self.said = []
        self.node, self.giving = Node(settings, self.said.append, score), False
        settle = self.node.spool.settle
        # However long the next image takes on a busy machine, a study that is being given is not quiet.
        self.node.spool.settle = lambda study, quiet_s: None if self.giving else settle(study, quiet_s)
        self.peer = Peer(settings.aet, settings.host, settings.port)

    def __enter__(self):
        self.thread = threading.Thread(target=self.node.run)
        self.thread.start()
        self.until(lambda: self.said)
        return self

    def __exit__(self, *_):
        self.node.stopped.set()
        self.thread.join()

    def until(self, true, seconds=600):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.said
            time.sleep(0.05)

    def give(self, files, title="PACS"):
        problems, self.giving = [], True
        try:
            send(sorted(files), self.peer, title, lambda _, problem: problems.append(problem))
        finally:
            self.giving = False
        return problems

    def ledgers(self):
        return [study.read() for study in self.node.spool]

    def settled(self):
        self.until(lambda: self.ledgers() and all(each.state in (DONE, FAILED) for each in self.ledgers()))
        return self.ledgers()


def test_a_study_comes_in_and_its_results_go_back(tmp_path):
    archive, status = Archive(), free_port()
    other = whole_series(tmp_path / "other", 9, uid=f"{UID}.3", SeriesDescription="FLAIR")
    with serving(archive) as port:
        settings = settings_of(tmp_path / "node", port, status_port=status)
        series = whole_series(tmp_path / "t2", 9, SeriesDescription="T2 axial")
        with Running(settings) as running:
            echo(running.peer, "PACS")
            assert set(running.give([*series.iterdir(), *other.iterdir()])) == {""}
            (ledger,) = running.settled()
            assert ledger.state == DONE and len(ledger.sent) == len(archive.kept) == 3
            assert {ds.Modality for ds in archive.kept.values()} == {"SEG", "SR", "OT"}
            assert {ds.StudyInstanceUID for ds in archive.kept.values()} == {f"{UID}.9"} and archive.callers == {
                "ZSADCLIP"
            }
            # What comes again changes nothing; a further volume sends only what is new.
            running.give(series.iterdir())
            more = whole_series(tmp_path / "more", 9, uid=f"{UID}.4", SeriesDescription="again T2")
            running.give(more.iterdir())
            running.until(lambda: len(archive.kept) == 6)
            running.settled()
            assert set(archive.times.values()) == {1}
            page = urllib.request.urlopen(f"http://127.0.0.1:{status}/", timeout=600).read().decode()
            assert "1 done" in page and "3 of 3 objects sent" in page and "Doe" not in page and UID not in page
            assert not [line for line in running.said if "Doe" in line or UID in line or str(tmp_path) in line]
        spool = tmp_path / "node" / "spool"
        assert spool.stat().st_mode & 0o777 == 0o700
        assert main(["node", str(tmp_path / "node" / "node.json"), "--status"]) == 0
        node = running.node
        node.spool.expire(3600)
        assert len(list(spool.rglob("*.dcm"))) > 0
        node.spool.expire(-1)
        assert not list(spool.rglob("*.dcm")) and [study.read().state for study in node.spool] == [DONE]


def test_only_known_callers_may_call_and_only_images_are_kept(tmp_path):
    series = whole_series(tmp_path / "s", 2)
    peers = [{"aet": "PACS", "host": "127.0.0.1", "port": 1}, {"aet": "ELSEWHERE", "host": "192.0.2.7", "port": 104}]
    settings = settings_of(tmp_path / "node", peer=peers)
    with Running(settings) as running:
        for title in ("STRANGER", "ELSEWHERE"):
            with pytest.raises(OutputError, match="refuses the call"):
                echo(running.peer, title)
        with pytest.raises(OutputError, match="refuses the call"):
            echo(replace(running.peer, aet="OTHER"), "PACS")
        sources = read_sources(series)
        export(tmp_path / "made", sources, outcome_of(sources), "results")
        # A warning, which senders go on after: a study that holds results already can be sent whole.
        assert set(running.give((tmp_path / "made").iterdir())) == {""}
        assert not running.ledgers() and not list((tmp_path / "node").rglob("*.dcm"))
        (tmp_path / "cut.dcm").write_bytes(next(series.iterdir()).read_bytes()[:-9])
        assert running.give([tmp_path / "cut.dcm"]) == ["was not asked: the file is cut off"]
        bad = pydicom.dcmread(sorted(series.iterdir())[0])
        with pytest.warns(UserWarning):
            bad.StudyInstanceUID = "../../etc"
        bad.save_as(tmp_path / "bad.dcm")
        assert running.give([tmp_path / "bad.dcm"]) == ["cannot understand the object"]
        assert running.ledgers() == []
        running.node.spool._bytes = 10
        assert set(running.give(series.iterdir())) == {"is out of space"}
        running.node.spool._bytes, running.node.spool._most = 1e9, 0
        assert set(running.give(series.iterdir())) == {"is out of space"}


def test_what_fails_is_tried_again_or_given_up_and_said(tmp_path):
    tries = []

    def failing(job, scratch):
        tries.append(job)
        if len(tries) == 1:
            raise OutputError("busy")
        if len(tries) == 3:
            raise InputError(f"cannot read {scratch / 'images' / 'x'}")
        scoring(job, scratch)

    archive, first = Archive(), whole_series(tmp_path / "s", 9, SeriesDescription="T2")
    archive.status = 0xA700
    with serving(archive) as port:
        with Running(settings_of(tmp_path / "node", port), failing) as running:
            running.give(first.iterdir())
            running.until(lambda: any("busy" in line for line in running.said))
            running.node._not_before.clear()
            running.until(lambda: any("out of space" in line for line in running.said))
            assert running.ledgers()[0].state == SCORED
            archive.status = 0
            running.node._not_before.clear()
            assert running.settled()[0].state == DONE and set(archive.times.values()) == {1}
            other = whole_series(tmp_path / "o", 9, SeriesDescription="T2", StudyInstanceUID="1.2.3", uid=f"{UID}.8")
            running.give(other.iterdir())
            running.until(lambda: len(running.ledgers()) == 2)
            assert {each.state for each in running.settled()} == {DONE, FAILED}
        text = status_text(running.node.spool, running.node.settings)
        assert "1 done, 1 failed" in text and "cannot read x" in text and str(tmp_path) not in text


def test_an_object_whose_answer_was_lost_is_asked_for_before_it_goes_again(tmp_path):
    """A kill between the server's answer and our note of it."""
    archive = Archive()
    sources = read_sources(whole_series(tmp_path / "s", 9))
    with serving(archive) as port:
        settings = settings_of(tmp_path / "node", port)
        study = Study(tmp_path / "node" / "spool" / "studies" / "study-1")
        files = export(study.folder / "out" / "1" / "dicom" / "c", sources, outcome_of(sources), "results")
        uids = [str(pydicom.dcmread(file).SOPInstanceUID) for file in files]
        names = [str(file.relative_to(study.folder)) for file in files]
        send(files[:1], settings.peer_of("PACS"), "ZSADCLIP", lambda *_: None)
        parcels = tuple(
            Parcel(name, uid, "PACS", state)
            for name, uid, state in zip(names, uids, ("begun", "begun", "new"), strict=True)
        )
        ledger = study.write(Ledger("PACS", SCORED, (), parcels))
        assert send_study(study, ledger, settings).state == DONE
        assert dict(archive.times) == dict.fromkeys(uids, 1) and set(study.read().sent) == set(uids)
        assert not has_instance(settings.peer_of("PACS"), "ZSADCLIP", "1.2", "1.3", "1.4")


def test_a_call_that_is_over_is_said():
    with (
        serving(Archive()) as port,
        pytest.raises(OutputError, match="ended the connection"),
        associated(Peer("PACS", "127.0.0.1", port), "ZSADCLIP", [(ECHO, PLAIN)]) as association,
    ):
        association.abort()
        association.send_c_echo()


def test_a_damaged_ledger_and_an_interrupted_one_are_gone_on_with(tmp_path):
    archive = Archive()
    with serving(archive) as port:
        settings = settings_of(tmp_path / "node", port)
        node = Node(settings, print, scoring)
        for file in sorted(whole_series(tmp_path / "s", 9, SeriesDescription="T2").iterdir()):
            ds = pydicom.dcmread(file)
            node.spool.receive("PACS", ds.StudyInstanceUID, ds.SOPInstanceUID, file.read_bytes())
        (study,) = node.spool
        assert study.read() == Ledger("PACS", WAITING)
        os.utime(study.images, (0, 0))
        assert node.spool.settle(study, 60) is None  # the node has just begun: who was sending may come back
        time.sleep(0.3)
        node.step(study)
        assert study.read().state == DONE and len(archive.kept) == 3
        (study.folder / "study.json").write_text("{")
        assert study.read() is None and node.spool.settle(study, 0.0) is None


def test_what_came_while_a_study_failed_and_what_comes_again_is_scored(tmp_path):
    files = sorted(whole_series(tmp_path / "s", 9, SeriesDescription="T2").iterdir())
    scored, node = [], None

    def take(some):
        for file in some:
            ds = pydicom.dcmread(file)
            node.spool.receive("PACS", ds.StudyInstanceUID, ds.SOPInstanceUID, file.read_bytes())

    def failing(job, _):
        scored.append(len(list(Path(job["inputs"][0]).iterdir())))
        take(files[8:] if len(scored) == 1 else [])
        raise InputError("a slice is missing")

    rules = [{"modality": "mr", "slices": [1, 99]}]
    node = Node(settings_of(tmp_path / "node", quiet_s=0, rule=rules), print, failing)
    take(files[:8])
    (study,) = node.spool
    for _ in range(3):
        node.step(study)
    assert scored == [8, 9] and study.read().state == FAILED
    take(files[:1])
    node.step(study)
    assert scored == [8, 9, 9]
    study.clear()
    node.step(study)
    assert scored == [8, 9, 9] and list(study.folder.iterdir()) != []


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["--to", "PACS"], "expected AET@HOST:PORT"),
        (["--to", "P\\CS@127.0.0.1:1"], "the title 'P\\\\CS': expected"),
        (["--to", "PACS@127.0.0.1:1", "--as", "MUCH TOO LONG A TITLE"], "title 'MUCH TOO LONG A TITLE': expected"),
        (["--to", "PACS@a..b:1"], "cannot be found; check its name"),
        (["--to", "PACS@127.0.0.1:1"], "does not answer; check host and port"),
    ],
)
def test_servers_that_will_not_do_are_named(tmp_path, capsys, named, message):
    (file,) = whole_series(tmp_path / "s", 1).iterdir()
    assert main(["dicom", "send", str(file), *named]) in (1, 2)
    assert message in capsys.readouterr().err


def test_the_child_process_scores_or_says_why_not(tmp_path):
    score = ChildScore(300)
    with pytest.raises(InputError, match="holds no volume"):
        score({"job": "detect", "inputs": [str(tmp_path)], "output": str(tmp_path / "out")}, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peer": []}, "needs a \\[\\[peer\\]\\]"),
        ({"rule": [{"description": "("}]}, "no regular expression"),
        ({"rule": [{"results": "NOBODY"}]}, "'NOBODY' is no peer"),
        ({"rule": [{"slices": [9, 3]}]}, "fewest and most"),
        ({"rule": [{"detect": {"method": "none"}}]}, "method is 'none'"),
        ({"rule": [{"detect": {"output": "x"}}]}, "which the node itself decides"),
        ({"aet": "PACS"}, "not distinct"),
        ({"aet": "A\\B"}, "expected 1 to 16 ASCII letters"),
        ({"peer": [{"aet": "PACS", "host": "a..b", "port": 1}]}, "host 'a..b' of PACS is unknown"),
        ({"port": 70000}, "port is 70000"),
        ({"colour": 1}, "no field 'colour'"),
        ({"tls_cert": "a.pem"}, "give all three or none"),
        ({"tls_cert": "a.pem", "tls_key": "b.pem", "tls_ca": "c.pem"}, "cannot be used"),
    ],
)
def test_settings_that_will_not_do_are_named(tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        settings_of(tmp_path / "node", **change)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_calls_are_encrypted_and_both_sides_show_a_certificate(tmp_path):
    own, other = (certificate(tmp_path, name) for name in ("own", "other"))
    tls = {"tls_cert": own[0], "tls_key": own[1], "tls_ca": own[0]}
    with Running(settings_of(tmp_path / "node", **tls)) as running:
        echo(replace(running.peer, tls=tls_context(*tls.values(), server=False)), "PACS")
        stranger = tls_context(other[0], other[1], own[0], server=False)
        for context in (None, stranger):
            with pytest.raises(OutputError, match="does not answer"):
                echo(replace(running.peer, tls=context), "PACS")


def certificate(folder, name):
    """A certificate that vouches for itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def test_fifteen_lines_of_toml_are_enough(tmp_path, capsys):
    pytest.importorskip("tomllib")
    page = (Path(__file__).parents[3] / "docs" / "howto" / "node.md").read_text("utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    assert 5 < len(text.splitlines()) <= 15
    file = tmp_path / "node.toml"
    file.write_text(text)
    settings = read_settings(file)
    assert settings.peer and settings.rule
    assert main(["node", str(file), "--check"]) == 0 and "good" in capsys.readouterr().out
