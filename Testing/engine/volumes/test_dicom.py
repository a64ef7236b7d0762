"""DICOM folders as scanners, archives and people leave them: each trouble is read right, refused, or said."""

import random
import shutil

import numpy as np
import pytest

pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")

from dicom_files import (  # noqa: E402
    AFFINE,
    CAPTURE,
    CORONAL,
    CT,
    ORIGIN,
    PDF,
    SAGITTAL,
    SEG,
    SR,
    STEP,
    UID,
    brain,
    write_object,
    write_series,
    write_slice,
)

from ZSADCLIPLib.errors import InputError  # noqa: E402
from ZSADCLIPLib.notes import sentences  # noqa: E402
from ZSADCLIPLib.volumes.dicom import scan  # noqa: E402
from ZSADCLIPLib.volumes.reading import read_volume  # noqa: E402

TRUE = brain()


def codes(volume):
    return [(note.code, note.severity) for note in volume.notes]


def is_true(volume, array=TRUE, affine=AFFINE):
    return np.array_equal(volume.array, array) and np.allclose(volume.affine, affine, atol=1e-6)


def several(path, count, **options):
    """What an error says that lists volumes, none of which was read."""
    with pytest.raises(InputError, match=f"{count} volumes in .*--series") as caught:
        read_volume(path, **options)
    return str(caught.value)


def test_a_series_in_any_order_and_under_any_names_is_one_volume(tmp_path):
    folder, order = write_series(tmp_path / "d", TRUE), list(range(10))
    random.Random(3).shuffle(order)
    for n, file in zip(order, sorted(folder.iterdir()), strict=True):
        file.rename(folder / f"x{n}")
    assert is_true(read_volume(folder)) and codes(read_volume(folder)) == []
    assert read_volume(folder).array.dtype == np.uint16


def test_instance_numbers_that_run_against_the_positions_do_not_matter(tmp_path):
    assert is_true(read_volume(write_series(tmp_path / "d", TRUE, InstanceNumber=lambda k: 99 - k)))
    assert is_true(read_volume(write_series(tmp_path / "e", TRUE, InstanceNumber=None)))


@pytest.mark.parametrize(
    "tags",
    [
        {"EchoTime": 90.0},
        {"EchoNumbers": 2},
        {"TemporalPositionIdentifier": 2},
        {"DiffusionBValue": 1000.0},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"AcquisitionNumber": 2},
        {"TriggerTime": 400.0},
        {},
    ],
    ids=lambda tags: next(iter(tags), "order alone"),
)
def test_two_volumes_of_one_series_are_told_apart(tmp_path, tags):
    before = {"EchoTime": 10.0, "EchoNumbers": 1, "TemporalPositionIdentifier": 1, "AcquisitionNumber": 1}
    before |= {"TriggerTime": 0.0, "DiffusionBValue": 0.0, "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}
    write_series(tmp_path / "d", TRUE, **before)
    write_series(tmp_path / "d", brain(seed=1), first=101, **{**before, **tags})
    said = several(tmp_path / "d", 2)
    assert "1: MR 10 slices 16x18, 0.8x0.9x2.5 mm, axial" in said and "DOE" not in said and UID not in said
    assert is_true(read_volume(tmp_path / "d", series="1"))
    assert is_true(read_volume(tmp_path / "d", series="2"), brain(seed=1))


def test_time_points_slice_by_slice_and_a_broken_off_last_one(tmp_path):
    for t in range(3):
        write_series(tmp_path / "d", brain(seed=t), prefix=f"{t}-", InstanceNumber=lambda k, t=t: 3 * k + t)
    assert "time point 3 of 3" in several(tmp_path / "d", 3)
    assert is_true(read_volume(tmp_path / "d", series="3"), brain(seed=2))
    write_series(tmp_path / "d", brain(3, seed=3), prefix="3-", first=100)
    several(tmp_path / "d", 4)


def test_time_points_that_lack_slices_are_doubtful(tmp_path):
    write_series(tmp_path / "d", TRUE, skip=[4])
    write_series(tmp_path / "d", brain(seed=1), first=101)
    several(tmp_path / "d", 2)
    for n, array in (("1", np.delete(TRUE, 4, 2)), ("2", brain(seed=1))):
        volume = read_volume(tmp_path / "d", series=n)
        assert np.array_equal(volume.array, array) and ("uneven", "error") in codes(volume)


def test_volumes_that_nothing_orders_are_refused(tmp_path):
    for t in range(2):
        write_series(tmp_path / "d", brain(seed=t), prefix=f"{t}-")
    with pytest.raises(InputError, match="nothing in the headers orders them"):
        read_volume(tmp_path / "d", series="1")
    assert "nothing in the headers orders them" in scan(tmp_path / "d").rows()[0]["usable"]


def test_a_value_that_changes_from_slice_to_slice_splits_nothing(tmp_path):
    volume = read_volume(write_series(tmp_path / "d", TRUE, EchoTime=lambda k: 10 + 0.1 * k))
    assert is_true(volume) and codes(volume) == [("series", "info")]
    assert is_true(read_volume(write_series(tmp_path / "e", TRUE, AcquisitionNumber=lambda k: k % 2)))


def test_two_interleaved_stacks_are_two_volumes(tmp_path):
    write_series(tmp_path / "d", TRUE, AcquisitionNumber=1)
    write_series(tmp_path / "d", brain(seed=1), first=101, origin=ORIGIN + 0.3 * STEP, AcquisitionNumber=2)
    several(tmp_path / "d", 2)
    assert is_true(read_volume(tmp_path / "d", series="1"))


@pytest.mark.parametrize("n", [1, 5, 10])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_slice_that_is_there_twice_is_read_once(tmp_path, n, renamed):
    folder = write_series(tmp_path / "d", TRUE)
    copy = folder / "again"
    shutil.copy(folder / f"s{n:03}", copy)
    if renamed:
        ds = pydicom.dcmread(copy)
        ds.SOPInstanceUID, ds.InstanceNumber = f"{UID}.77", 77
        ds.save_as(copy)
    assert is_true(read_volume(folder)) and codes(read_volume(folder)) == [("duplicates", "info")]


@pytest.mark.parametrize("first", [1, 101])
def test_a_series_that_is_there_twice_is_read_once(tmp_path, first):
    write_series(tmp_path / "d", TRUE)
    write_series(tmp_path / "d", TRUE, first=first, prefix="copy")
    assert is_true(read_volume(tmp_path / "d"))
    assert "10 slices are there twice" in sentences(read_volume(tmp_path / "d").notes)


def test_blank_slices_of_time_points_are_no_copies(tmp_path):
    for t in range(3):
        volume = brain(seed=t)
        volume[:, :, 0] = 0
        write_series(tmp_path / "d", volume, first=1 + 100 * t, SOPInstanceUID=f"{UID}.5")
    several(tmp_path / "d", 3)


def test_a_doubled_slice_with_other_pixels_is_an_error(tmp_path):
    folder = write_series(tmp_path / "d", TRUE)
    write_slice(folder / "z", brain(seed=1)[:, :, 4].T, ORIGIN + 4 * STEP, number=50)
    volume = read_volume(folder)
    assert codes(volume) == [("uneven", "error")] and "different pixels" in volume.notes[0].text and is_true(volume)


@pytest.mark.parametrize(
    "lost, text", [((4,), "1 slice seems to be missing, after slice 4 of 9"), ((2, 6), "2 slices seem")]
)
def test_missing_slices_are_an_error(tmp_path, lost, text):
    volume = read_volume(write_series(tmp_path / "d", TRUE, skip=lost))
    assert codes(volume) == [("uneven", "error")] and text in volume.notes[0].text
    assert "2.5 to 5 mm apart" in volume.notes[0].text
    assert scan(tmp_path / "d").rows()[0]["usable"] != "yes"


def test_every_second_slice_missing_is_an_error(tmp_path):
    folder = write_series(tmp_path / "d", TRUE, skip=range(1, 10, 2), SpacingBetweenSlices=2.5)
    assert "1 of 2 seem missing" in read_volume(folder).notes[0].text
    gap = write_series(tmp_path / "gap", TRUE, SpacingBetweenSlices=0.5, SliceThickness=2.0)
    assert codes(read_volume(gap)) == []


def test_mixed_distances_are_an_error_and_rounded_ones_are_not(tmp_path):
    folder = write_series(tmp_path / "d", TRUE[:, :, :5])
    write_series(folder, TRUE[:, :, 5:], first=6, step=2 * STEP, origin=ORIGIN + 6 * STEP)
    assert codes(read_volume(folder)) == [("uneven", "error")]
    rounded = write_series(tmp_path / "e", TRUE, ImagePositionPatient=lambda k: [-10, -20, round(30 + 0.625 * k, 1)])
    assert codes(read_volume(rounded)) == [("uneven", "warning")]
    assert read_volume(rounded).affine[2, 2] == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": [1.1, 1.1]}, {"axes": CORONAL, "step": (0, 2.5, 0)}, {"uid": UID + ".2"}]
)
def test_other_spacing_orientation_or_series_is_another_volume(tmp_path, tags):
    write_series(tmp_path / "d", TRUE)
    write_series(tmp_path / "d", brain(seed=1), first=101, **tags)
    several(tmp_path / "d", 2)
    assert is_true(read_volume(tmp_path / "d", series="1"))


def test_a_single_slice_takes_its_thickness(tmp_path):
    volume = read_volume(write_series(tmp_path / "d", TRUE[:, :, :1], SliceThickness=5.0))
    assert volume.spacing == pytest.approx((0.8, 0.9, 5)) and codes(volume) == [("thickness", "info")]
    volume = read_volume(write_series(tmp_path / "e", TRUE[:, :, :1], SliceThickness=None, SpacingBetweenSlices=6.0))
    assert volume.spacing[2] == pytest.approx(6)
    assert codes(read_volume(write_series(tmp_path / "f", TRUE[:, :, :1], SliceThickness=None))) == [
        ("thickness", "error")
    ]
    assert codes(read_volume(write_series(tmp_path / "g", TRUE, PixelSpacing=None))) == [("spacing", "error")]


def test_a_tilted_gantry_keeps_its_shear(tmp_path):
    volume = read_volume(write_series(tmp_path / "d", TRUE, step=(0, -0.67, 2.5), sop_class=CT))
    assert volume.affine[:3, 2] == pytest.approx([0, 0.67, 2.5]) and codes(volume) == []


def test_pixels_to_be_shown_inverted_are_said_and_palettes_are_colours(tmp_path):
    volume = read_volume(write_series(tmp_path / "d", TRUE, sop_class=CT, photometric="MONOCHROME1"))
    assert is_true(volume, 65535 - TRUE) and codes(volume) == [("voxels", "warning")]
    with pytest.raises(InputError, match="colour image"):
        read_volume(write_series(tmp_path / "e", TRUE, photometric="PALETTE COLOR"))


def test_slices_without_positions_are_said(tmp_path):
    volume = read_volume(write_series(tmp_path / "d", TRUE, ImagePositionPatient=None))
    assert ("unplaced", "warning") in codes(volume) and np.array_equal(volume.array, TRUE)
    assert volume.spacing[2] == pytest.approx(2.5)
    located = {"ImagePositionPatient": None, "InstanceNumber": None, "SliceLocation": lambda k: 4.0 * k}
    volume = read_volume(write_series(tmp_path / "e", TRUE, **located))
    assert codes(volume) == [("unplaced", "warning")] and volume.spacing[2] == pytest.approx(4)
    volume = read_volume(write_series(tmp_path / "f", TRUE, skip=[4], **located))
    assert codes(volume) == [("unplaced", "warning"), ("uneven", "error")]


def test_a_localizer_stands_aside(tmp_path):
    write_series(tmp_path / "d", TRUE)
    for n, axes in enumerate((CORONAL, SAGITTAL, (1, 0, 0, 0, 1, 0))):
        write_slice(tmp_path / "d" / f"loc{n}", np.ones((18, 16)), axes=axes, uid=UID + ".3", number=n, SeriesNumber=0)
    write_slice(
        tmp_path / "d" / "scout", np.ones((18, 16)), uid=UID + ".4", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    volume = read_volume(tmp_path / "d")
    assert is_true(volume) and "left out of the folder: localizer (4 files)" in sentences(volume.notes)


@pytest.mark.parametrize("first", ["a", "z"])
def test_objects_that_are_no_images_are_left_out(tmp_path, first):
    folder = write_series(tmp_path / "d", TRUE)
    for n, sop_class in enumerate((SEG, SR, CAPTURE, PDF)):
        write_object(folder / f"{first}{n}.dcm", sop_class)
    volume = read_volume(folder)
    assert is_true(volume)
    for what in ("segmentation", "structured report", "secondary capture", "encapsulated document"):
        assert f"{what} (1 file)" in sentences(volume.notes)
    (only,) = [write_object(tmp_path / "only" / "x", SEG)]
    with pytest.raises(InputError, match=r"no DICOM series of a volume: segmentation \(1 file\)"):
        read_volume(only.parent)


def test_placed_captures_are_read_where_nothing_else_is(tmp_path):
    write_series(tmp_path / "d", brain(seed=1), first=101, sop_class=CAPTURE, uid=UID + ".7")
    assert is_true(read_volume(tmp_path / "d"), brain(seed=1))
    assert is_true(read_volume(write_series(tmp_path / "d", TRUE)))


@pytest.mark.parametrize(
    "code, what", [("3.1", "ultrasound"), ("12.1", "X-ray cine"), ("20", "nuclear medicine"), ("1", "projection")]
)
def test_frames_that_are_no_volume_are_refused_by_name(tmp_path, code, what):
    write_object(tmp_path / "x.dcm", f"1.2.840.10008.5.1.4.1.1.{code}")
    for path in (tmp_path, tmp_path / "x.dcm"):
        with pytest.raises(InputError, match=what):
            read_volume(path)
