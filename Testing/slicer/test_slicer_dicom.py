"""*Export to DICOM*: the objects of a result beside its series, and what is said where that cannot be."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_files import write_series
from dicom_results import IDENTITY

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

LPS = np.diag([-1.0, -1.0, 1.0])


@pytest.fixture
def series(done, tmp_path):
    """The input of the result on display as files of a database, its slices from the last to the first."""
    import slicer
    from ZSADCLIPSlicer.scene.geometry import affineOf

    node, affine = done.results.result.input, affineOf(done.results.result.input)
    array = slicer.util.arrayFromVolume(node).T.astype(np.uint16)
    axes = LPS @ affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    turned = [float(x) for x in np.concatenate([axes[:, 0] / sizes[0], axes[:, 1] / sizes[1]])]
    places = dict(origin=LPS @ affine[:3, 3], step=axes[:, 2], ImageOrientationPatient=turned)
    spacing = dict(PixelSpacing=[float(sizes[1]), float(sizes[0])], SliceThickness=float(sizes[2]))
    folder = write_series(tmp_path / "series", array, **places, **spacing, **IDENTITY)
    files = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID): str(file) for file in folder.iterdir()}
    node.SetAttribute("DICOM.instanceUIDs", " ".join(files))
    return SimpleNamespace(fileForInstance=lambda uid: files.get(uid, ""))


def test_accepted_findings_go_into_the_study_of_the_volume(done, series):
    from ZSADCLIPSlicer.scene import dicomexport

    result, found = done.results.result, {}

    def insert(folder):
        found.update({file.stem: pydicom.dcmread(file) for file in Path(folder).iterdir()})

    assert dicomexport.hindrance(result, series) == ""
    said = dicomexport.export(result, series, insert)
    assert said.startswith("2 findings") and set(found) == {"seg", "report", "map"}
    assert int((found["seg"].pixel_array > 0).sum()) == int((result.parts()[0] > 0).sum())
    assert found["seg"].StudyInstanceUID == "1.2.826.0.1.3680043.9.1.1.9" and found["seg"].PatientName == "Doe^Jane"
    result.accept(1, False)
    assert dicomexport.export(result, series, insert).startswith("1 findings")
    assert [segment.SegmentLabel for segment in found["seg"].SegmentSequence] == ["Finding 2"]


def test_what_hinders_is_said_with_the_way_that_is_left(done, series, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.scene import dicomexport

    result, shown = done.results.result, []
    monkeypatch.setattr(slicer.util, "infoDisplay", shown.append, raising=False)
    monkeypatch.setattr(slicer, "dicomDatabase", series, raising=False)
    monkeypatch.setattr(dicomexport, "insert", lambda folder: None)
    done.ui.dicomButton.click()
    assert "2 findings are in the DICOM database" in shown[-1] and "identity" in shown[-1]
    uids = result.input.GetAttribute("DICOM.instanceUIDs")
    result.input.SetAttribute("DICOM.instanceUIDs", f"{uids} 1.2.3")
    assert "not in the DICOM database any more" in dicomexport.hindrance(result, series)
    result.input.SetAttribute("DICOM.instanceUIDs", "")
    done.ui.dicomButton.click()
    assert "was not loaded from DICOM" in shown[-1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "from 5.12 on" in dicomexport.hindrance(result, series)


def test_terms_follow_the_object_asked_for(done):
    from ZSADCLIPSlicer.scene import segmentation

    node = done.results.result.segmentation
    segment = node.GetSegmentation().GetSegment(segmentation.SEGMENT)
    segmentation.setRegion(node, "lung")
    assert "39607008^Lung" in segment.GetTerminology() and "52988006^Lesion" in segment.GetTerminology()
    segmentation.setRegion(node, "screw")
    assert "Brain" not in segment.GetTerminology() and "Lung" not in segment.GetTerminology()
