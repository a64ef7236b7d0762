"""DICOM objects read by other people's programs, where these are installed (dicom3tools, dcmtk, dcmqi, SimpleITK)."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import CORONAL, SAGITTAL
from dicom_results import IDENTITY, exported, whole_series
from test_objects import OBLIQUE, draw, enhanced

itk = pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from ZSADCLIPLib.dicom.check import check, places_of  # noqa: E402
from ZSADCLIPLib.dicom.sources import read_sources  # noqa: E402

JAPANESE = {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"}
SERIES = {
    "oblique": ({"ImageOrientationPatient": list(OBLIQUE)}, (0, -0.49667, 2.45017)),
    "coronal": ({"ImageOrientationPatient": list(CORONAL), "BodyPartExamined": "HEAD"}, (0, 2.5, 0)),
    "sagittal": ({"ImageOrientationPatient": list(SAGITTAL)}, (2.5, 0, 0)),
    "tilted CT": ({"Modality": "CT", "sop_class": "1.2.840.10008.5.1.4.1.1.2"}, (0, 0.5, 2.5)),
    "Japanese": (JAPANESE, (0, 0, 2.5)),
    "stripped": ({**dict.fromkeys(IDENTITY), "PatientName": "", "PatientID": "", "SliceThickness": None}, (0, 0, 2.5)),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{name: (series, folder of its objects, outcome)}."""
    root, found = tmp_path_factory.mktemp("made"), {}
    draw(root / "p.png")
    for name, (tags, step) in SERIES.items():
        series = whole_series(root / name, 5, step=np.array(step), **tags)
        found[name] = (series, *exported(series, root / f"out {name}", "all", 2, root / "p.png"))
    series = enhanced(root / "enhanced" / "f.dcm", Modality="MR").parent
    found["enhanced"] = (series, *exported(series, root / "out enhanced", "all", 2, root / "p.png"))
    return found


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
@pytest.mark.parametrize("name", [*SERIES, "enhanced"])
def test_the_validator_finds_no_error(made, name):
    series, folder, _ = made[name]
    places = places_of(read_sources(series))
    assert {file.name: check(file, places) for file in folder.iterdir()} == {
        f"{kind}.dcm": [] for kind in ("seg", "report", "map", "picture")
    }


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
def test_the_validator_is_heard(made, tmp_path):
    ds = pydicom.dcmread(made["oblique"][1] / "seg.dcm")
    del ds.SegmentSequence[0].SegmentLabel
    ds.save_as(tmp_path / "x.dcm")
    assert any(line.startswith("dciodvfy: Error") and "SegmentLabel" in line for line in check(tmp_path / "x.dcm"))


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dcmtk")
def test_dcmtk_prints_the_report(made):
    said = subprocess.run(
        ["dsrdump", str(made["Japanese"][1] / "report.dcm")], capture_output=True, text=True, check=True
    )
    assert "Imaging Measurement Report" in said.stdout and said.stdout.count("Measurement Group") == 2


def dcmqi(program, *arguments):
    """Run a program of the dcmqi wheel, from this environment or the folder ZSADCLIP_DCMQI."""
    folder = os.environ.get("ZSADCLIP_DCMQI", "")
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
    script = Path(folder, "bin", program) if folder else Path(sys.executable).with_name(program)
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)


has_dcmqi = "ZSADCLIP_DCMQI" in os.environ or importlib.util.find_spec("dcmqi") is not None


@pytest.mark.skipif(not has_dcmqi, reason="needs the wheel dcmqi")
@pytest.mark.parametrize("name", ["oblique", "coronal", "sagittal", "Japanese", "stripped", "enhanced"])
def test_slicers_importers_read_all_values(made, tmp_path, name):
    _, folder, outcome = made[name]
    done = dcmqi("paramap2itkimage", "--inputDICOM", folder / "map.dcm", "--outputDirectory", tmp_path, "-t", "nrrd")
    assert done.returncode == 0
    scores = itk.ReadImage(str(tmp_path / "pmap.nrrd"))
    assert same_values(scores, outcome.map.astype(np.float32), outcome.affine)
    done = dcmqi(
        "segimage2itkimage",
        "--inputDICOM",
        folder / "seg.dcm",
        "--outputDirectory",
        tmp_path,
        "-t",
        "nrrd",
        "--mergeSegments",
    )
    assert done.returncode == 0
    read = sum(itk.GetArrayFromImage(itk.ReadImage(str(file))) > 0 for file in tmp_path.glob("[0-9]*.nrrd"))
    assert int(read.sum()) == int((outcome.labels > 0).sum())
    done = dcmqi("tid1500reader", "--inputDICOM", folder / "report.dcm", "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text("utf-8"))["Measurements"]
    assert done.returncode == 0 and len(groups) == len(outcome.findings)
    for group, finding in zip(groups, outcome.findings, strict=True):
        values = [float(item["value"]) for item in group["measurementItems"][:3]]
        assert np.allclose(values, [finding["volume_mm3"], finding["peak"], finding["mean"]], rtol=1e-9)


def same_values(image, array, affine):
    """True where an image of SimpleITK has the voxels of an array at the same places, in whatever order of slices."""
    values = itk.GetArrayFromImage(image).transpose(2, 1, 0)
    if values.shape != array.shape:
        return False
    back = np.linalg.inv(affine)
    for index in np.ndindex(*(2,) * 3):
        corner = [int(i) * (n - 1) for i, n in zip(index, array.shape, strict=True)]
        place = np.array([*image.TransformIndexToPhysicalPoint(corner), 1.0]) * [-1, -1, 1, 1]
        i, j, k = np.rint((back @ place)[:3]).astype(int)
        if (
            not (min(i, j, k) >= 0 and (back @ place)[:3].max() < max(array.shape))
            or values[tuple(corner)] != array[i, j, k]
        ):
            return False
    return bool((np.sort(values.ravel()) == np.sort(array.ravel())).all())


def test_simpleitk_and_highdicom_read_what_they_can(made):
    import highdicom

    _, folder, outcome = made["oblique"]
    picture = itk.ReadImage(str(folder / "picture.dcm"))
    assert picture.GetNumberOfComponentsPerPixel() == 3
    segments = highdicom.seg.segread(folder / "seg.dcm")
    assert segments.number_of_segments == len(outcome.findings)
    uids = [str(ds.SOPInstanceUID) for ds in read_sources(made["oblique"][0]).datasets]
    whole = segments.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    assert (whole.transpose(2, 1, 0) == outcome.numbered).all()
