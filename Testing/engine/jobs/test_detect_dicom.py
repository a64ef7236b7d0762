"""`detect --dicom`: objects of DICOM cases beside the other results, sealed, private, and nothing without being asked."""

import json
import shutil

import pytest
from dicom_results import whole_series
from small_models import VIT

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.files.privacy import pseudonym
from ZSADCLIPLib.volumes.reading import read_volume, write_volume

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("SimpleITK")

SECRETS = ("DOE", "Doe", "4711-PAT", "19700101", "ACC1", "1.2.826.0.1.3680043.9")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A series, a volume that is none, and a model."""
    root = tmp_path_factory.mktemp("home")
    write_volume(root / "v.nii.gz", read_volume(whole_series(root / "series", PatientName="Doe^Jane")))
    (root / "tiny.json").write_text(json.dumps(VIT))
    return root


def detect(home, out, *more, inputs=("series",)):
    options = ["--backbone", str(home / "tiny.json"), "--weights", "random", "--checkpoint", "vand:random"]
    options += ["--image-size", "64", "--device", "cpu", "--threshold", "quantile:0.95", "--min-size", "1"]
    named = [str(home / name) for name in inputs]
    return main(["detect", *named, "-o", str(out), *options, "--min-depth", "0", *more])


def test_objects_are_made_sealed_kept_and_private(home, tmp_path, capfd):
    out = tmp_path / "out"
    assert detect(home, out, "--dicom", "all", inputs=("series", "v.nii.gz")) == 0
    said = "".join(capfd.readouterr())
    name = pseudonym("1.2.826.0.1.3680043.9.1.1", "dicom")
    folder = out / "dicom" / name
    assert said.count("DICOM results carry the identifiers of their source") == 1
    assert "no DICOM results: the image is no DICOM series" in said
    assert [path.name for path in (out / "dicom").iterdir()] == [name]
    assert {file.name for file in folder.iterdir()} == {"seg.dcm", "report.dcm", "map.dcm", "picture.dcm"}
    record = json.loads((out / f"{name}.json").read_text("utf-8"))
    assert {key for key in record["files"] if key.startswith("dicom/")} == {
        f"dicom/{name}/{f.name}" for f in folder.iterdir()
    }
    segments = pydicom.dcmread(folder / "seg.dcm").SegmentSequence
    assert len(segments) == len(record["findings"]) > 0
    assert segments[0].AnatomicRegionSequence[0].CodeMeaning == "Brain"
    for path in (out / "dicom", folder):
        assert path.stat().st_mode & 0o777 == 0o700
    others = {file.name: file.read_bytes().decode("latin-1") for file in out.iterdir() if file.is_file()}
    for secret in SECRETS:
        assert secret not in said, secret
        assert not [key for key, text in others.items() if secret in key + text], secret
    assert b"Doe^Jane" in (folder / "seg.dcm").read_bytes()
    assert main(["dicom", "check", str(out / "dicom"), "--source", str(home)]) == 0
    assert capfd.readouterr().out.count(": good") == 4
    assert main(["dicom", "check", str(folder), "--source", str(tmp_path)]) == 1
    assert "holds no DICOM series" in capfd.readouterr().err

    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert detect(home, out, "--dicom", "--skip-existing") == 0
    assert "1 kept" in capfd.readouterr().out
    (folder / "report.dcm").unlink()
    assert detect(home, out, "--dicom", "--skip-existing") == 0
    assert "0 failed;" in capfd.readouterr().out
    assert {file.name for file in folder.iterdir()} == {"seg.dcm", "report.dcm", "map.dcm"}
    assert before["seg.dcm"] != (folder / "seg.dcm").stat().st_mtime_ns


def test_headers_that_will_not_do_stop_a_case_before_it_is_scored(home, tmp_path, capfd, monkeypatch):
    series = shutil.copytree(home / "series", tmp_path / "series")
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        del ds.StudyInstanceUID
        ds.save_as(file)
    from ZSADCLIPLib.detection.detector import Detector

    monkeypatch.setattr(Detector, "detect", lambda *_: pytest.fail("scored"))
    assert detect(home, tmp_path / "out", "--dicom", inputs=(str(series),)) == 1
    assert "lacks StudyInstanceUID: DICOM results cannot refer to it" in capfd.readouterr().out


def test_what_cannot_work_is_said_before_any_work(home, tmp_path, capfd):
    assert detect(home, tmp_path / "out", "--dicom", "all", "--no-pictures") == 2
    assert "needs the picture" in capfd.readouterr().err
    assert detect(home, tmp_path / "none", "--dicom", "--dry-run", inputs=("v.nii.gz",)) == 0
    assert "identifiers" not in "".join(capfd.readouterr())
    name = pseudonym("1.2.826.0.1.3680043.9.1.1", "dicom")
    theirs = tmp_path / "out" / "dicom" / name / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    assert detect(home, tmp_path / "out", "--dicom") == 2
    assert "no result of an earlier run" in capfd.readouterr().err and theirs.read_text() == "mine"


def test_accepted_findings_alone_are_exported_after_a_review(home, tmp_path, capfd):
    from review_run import opinion, review

    from ZSADCLIPLib.review.finished import finished_cases
    from ZSADCLIPLib.review.verdicts import write_review

    out, said = tmp_path / "out", tmp_path / "said_review.json"
    assert detect(home, out) == 0
    (case,) = finished_cases(out)
    assert len(case.facts["findings"]) > 1
    write_review(said, review("reader", opinion(case, {1: "reject", 2: "accept"})))
    named = ["review", str(out), "--apply-review", str(said), "--dicom"]
    assert main(named) == 2 and "--images" in capfd.readouterr().err
    assert main([*named, "--images", str(home / "series")]) == 0
    assert "carry the identifiers of their source" in capfd.readouterr().out
    folder = out / "accepted" / "dicom" / case.id
    assert {file.name for file in folder.iterdir()} == {"seg.dcm", "report.dcm", "map.dcm"}
    assert folder.stat().st_mode & 0o777 == 0o700
    ds = pydicom.dcmread(folder / "seg.dcm")
    (segment,) = ds.SegmentSequence
    assert segment.SegmentLabel == "Finding 2"
    voxels = case.facts["findings"][1]["voxels"]
    assert int(ds.pixel_array.sum()) == voxels
