"""The data audit finds what was planted, and goes on."""

import csv
import json
import re

import numpy as np
import pytest
from conftest import affine

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.datasets.audit import audit, markdown, write_audit
from ZSADCLIPLib.errors import DependencyError, InputError
from ZSADCLIPLib.progress import Cancelled
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume

SPACING = (1.0, 1.5, 2.0)


def put(root, number, seed=None, edit=lambda image, mask: None, visit=0, spacing=SPACING, mask_spacing=None):
    """A brain-like case with two lesions of 8 and 1 voxels; `edit` plants the problem."""
    case = f"BraTS-MET-{number:05d}-{visit:03d}"
    rng = np.random.default_rng(number if seed is None else seed)
    image = np.zeros((12, 12, 10), np.float32)
    image[2:-2, 2:-2, 1:-1] = rng.integers(1, 900, (8, 8, 8))
    mask = np.zeros(image.shape, np.float32)
    mask[3:5, 3:5, 3:5] = 2
    mask[8, 8, 7] = 3
    edit(image, mask)
    folder = root / case
    write_volume(folder / f"{case}-t2w.nii.gz", Volume(image, affine(spacing)))
    write_volume(folder / f"{case}-seg.nii.gz", Volume(mask, affine(mask_spacing or spacing)))
    return folder / f"{case}-t2w.nii.gz"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    root = tmp_path_factory.mktemp("BraTS2023-MET")

    def nan(image, mask):
        image[5, 5, 5] = np.nan

    def unknown(image, mask):
        mask[0, 0, 0] = 7

    def half(image, mask):
        mask[0, 0, 0] = 0.5

    def healthy(image, mask):
        mask[:] = 0

    def blank(image, mask):
        image[:] = 0

    put(root, 1)
    put(root, 1, seed=100, visit=1)
    put(root, 2, edit=nan)
    put(root, 3, edit=unknown)
    put(root, 4, edit=half)
    put(root, 5, edit=healthy)
    put(root, 6, edit=blank)
    put(root, 7, seed=1)
    put(root, 8, mask_spacing=(1.0, 1.5, 2.1))
    broken = put(root, 9)
    broken.write_bytes(broken.read_bytes()[:200])
    lonely = put(root, 10)
    lonely.with_name("BraTS-MET-00010-000-seg.nii.gz").unlink()
    return audit(root), root


def test_every_planted_problem_is_found_and_the_others_go_on(planted):
    found, _ = planted
    cases = {case.id[10:15] + case.id[-1]: case for case in found.cases}
    assert [key for key, case in cases.items() if case.usable] == ["000010", "000011", "000020", "000050"]
    expected = {
        "000030": r"label values \[7\]",
        "000040": "not whole numbers",
        "000060": "every voxel",
        "000070": "equal those of BraTS-MET-00001-000",
        "000080": "another grid",
        "000090": "cannot read",
    }
    for key, message in expected.items():
        assert any(re.search(message, error) for error in cases[key].errors), key
    assert any("NaN" in note for note in cases["000020"].warnings)
    assert any("no voxel of target wt" in note for note in cases["000050"].warnings)
    assert len(found.problems) == 1 and "no seg file" in found.problems[0]
    assert [r.id for r in found.records] == [case.id for case in found.cases if case.usable]


def test_geometry_and_lesions_are_measured(planted):
    case = planted[0].cases[0]
    assert case.shape == (12, 12, 10) and case.spacing == pytest.approx(SPACING) and case.orientation == "RAS"
    assert case.labels == {0: 12 * 12 * 10 - 9, 2: 8, 3: 1}
    assert case.lesions == 2 and case.lesion_mm3 == pytest.approx((24.0, 3.0)) and case.lesion_slices == 3
    assert case.blank_slices == 2 and case.skull_stripped and case.brain_mm3 == pytest.approx(8 * 8 * 8 * 3.0)
    assert case.rule == "2023"


def test_the_summary_counts_usable_cases(planted):
    summary = planted[0].summary()
    assert (summary["cases"], summary["usable"], summary["subjects"]) == (10, 4, 9)
    assert summary["subjects_with_several_cases"] == 1
    assert summary["shapes"] == {"12x12x10": 4} and summary["orientations"] == {"RAS": 4}
    assert summary["label_sets"] == {"0,2,3": 3, "0": 1}
    assert summary["lesions"] == 6 and summary["without_lesion"] == 1
    assert summary["lesion_mm3"]["max"] == pytest.approx(24) and summary["lesions_up_to_2_mm3"] == 0


def test_the_files_say_the_same(planted, tmp_path):
    found, _ = planted
    paths = write_audit(tmp_path / "report", found)
    data = json.loads(paths[0].read_text("utf-8"))
    assert data["summary"]["usable"] == 4 and len(data["cases"]) == 10
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["usable"] for row in rows].count("True") == 4
    assert rows[0]["lesion_mm3"] == "24 3" and rows[0]["shape"] == "12x12x10"
    text = paths[2].read_text("utf-8")
    assert text == markdown(found) and "**unusable**" in text and "| usable | 4 |" in text


def manifest(tmp_path, *lines):
    put(tmp_path, 1)
    put(tmp_path, 2)
    text = "\n".join(["id,image,mask,split,rule", *lines])
    (tmp_path / "m.csv").write_text(text.format(*(f"{t}/{t}" for t in ("BraTS-MET-00001-000", "BraTS-MET-00002-000"))))
    return tmp_path / "m.csv"


def test_an_unknown_rule_costs_a_case_not_the_audit(tmp_path, monkeypatch):
    lines = ["a,{0}-t2w.nii.gz,{0}-seg.nii.gz,,2032", "b,{1}-t2w.nii.gz,{1}-seg.nii.gz,,2023"]
    found = audit(manifest(tmp_path, *lines))
    assert "unknown label rule '2032'" in found.cases[0].errors[0] and found.cases[1].usable

    def unreadable(path, placement=None):
        raise DependencyError("SimpleITK is missing")

    monkeypatch.setattr("ZSADCLIPLib.datasets.audit.read_volume", unreadable)
    assert [case.errors for case in audit(tmp_path / "m.csv").cases] == [["SimpleITK is missing"]] * 2


def test_lines_without_a_side_are_told(tmp_path):
    lines = ["a,{0}-t2w.nii.gz,{0}-seg.nii.gz,train,2023", "b,{1}-t2w.nii.gz,{1}-seg.nii.gz,,2023"]
    (problem,) = audit(manifest(tmp_path, *lines)).problems
    assert problem.startswith("case b has no split while other lines")


def test_ignored_labels_are_no_errors(planted, tmp_path, capsys):
    case = next(case for case in audit(planted[1], ignore=(7,)).cases if case.id == "BraTS-MET-00003-000")
    assert case.usable and case.lesions == 2
    assert main(["data", "audit", str(planted[1]), "--ignore", "7", "9", "--out", str(tmp_path)]) == 0
    assert "BraTS-MET-00003-000: **unusable**" not in capsys.readouterr().out


def test_cancelling_and_empty_folders(planted, tmp_path):
    def stop(fraction, text, *count):
        if fraction > 0.3:
            raise Cancelled

    with pytest.raises(Cancelled):
        audit(planted[1], progress=stop)
    with pytest.raises(InputError, match="holds no case"):
        audit(tmp_path)
