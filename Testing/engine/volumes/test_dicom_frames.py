"""Several planes in one DICOM file: enhanced files of one or more volumes, and Siemens mosaics."""

import numpy as np
import pytest

pytest.importorskip("SimpleITK")
pytest.importorskip("pydicom")

from dicom_files import AFFINE, ORIGIN, STEP, brain, write_enhanced, write_mosaic, write_series  # noqa: E402

from ZSADCLIPLib.errors import InputError  # noqa: E402
from ZSADCLIPLib.volumes.dicom import scan  # noqa: E402
from ZSADCLIPLib.volumes.reading import files_of, read_volume  # noqa: E402

TRUE, OTHER = brain(), brain(seed=1)


def planes(*volumes):
    """Volumes (columns, rows, slices) as planes (frames, rows, columns), one volume after the other."""
    return np.concatenate([volume.transpose(2, 1, 0) for volume in volumes])


def is_true(volume, array=TRUE):
    return np.array_equal(volume.array, array) and np.allclose(volume.affine, AFFINE, atol=1e-6)


def test_an_enhanced_file_is_a_volume_whatever_the_order_of_its_frames(tmp_path):
    assert is_true(read_volume(write_enhanced(tmp_path / "a.dcm", planes(TRUE), range(10)).parent))
    order = np.random.default_rng(0).permutation(10)
    volume = read_volume(write_enhanced(tmp_path / "b" / "x", planes(TRUE)[order], order))
    assert is_true(volume) and volume.notes == ()


@pytest.mark.parametrize(
    "group, keyword, values",
    [
        ("MRImageFrameTypeSequence", "FrameType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "B0 MAP"])),
        ("MREchoSequence", "EffectiveEchoTime", (10.0, 90.0)),
        ("MRDiffusionSequence", "DiffusionBValue", (0.0, 1000.0)),
        ("FrameContentSequence", "TemporalPositionIndex", (1, 2)),
        ("FrameContentSequence", "FrameAcquisitionNumber", (1, 2)),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", (0.0, 300.0)),
        ("FrameContentSequence", "FrameComments", ("same", "same")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_two_volumes_of_one_enhanced_file_are_told_apart(tmp_path, group, keyword, values):
    frames = [{group: {keyword: value}} for value in values for _ in range(10)]
    path = write_enhanced(tmp_path / "x.dcm", planes(TRUE, OTHER), [*range(10)] * 2, frames)
    for source in (path, tmp_path):
        with pytest.raises(InputError, match="2 volumes in 1 DICOM series"):
            read_volume(source)
        assert is_true(read_volume(source, series="1")) and is_true(read_volume(source, series="2"), OTHER)


def test_several_enhanced_files_of_a_series_are_as_many_volumes(tmp_path):
    for n in range(4):
        write_enhanced(tmp_path / f"{n}.dcm", planes(brain(seed=n)), range(10), InstanceNumber=n + 1)
    with pytest.raises(InputError, match="4 volumes in 1 DICOM series"):
        read_volume(tmp_path)
    assert is_true(read_volume(tmp_path, series="3"), brain(seed=2))
    assert is_true(read_volume(tmp_path / "2.dcm"), brain(seed=2)) and files_of(tmp_path / "2.dcm") == [
        tmp_path / "2.dcm"
    ]


def test_an_enhanced_volume_cut_into_files_is_one(tmp_path):
    write_enhanced(tmp_path / "a.dcm", planes(TRUE[:, :, :6]), range(6))
    write_enhanced(tmp_path / "b.dcm", planes(TRUE[:, :, 6:]), range(6, 10), InstanceNumber=2)
    assert is_true(read_volume(tmp_path))


def test_each_frame_has_its_own_scale(tmp_path):
    frames = [
        {"PixelValueTransformationSequence": {"RescaleSlope": 1 + k / 2, "RescaleIntercept": -k}} for k in range(10)
    ]
    volume = read_volume(write_enhanced(tmp_path / "x.dcm", planes(TRUE), range(10), frames))
    expected = TRUE * (1 + np.arange(10) / 2) - np.arange(10)
    assert volume.array.dtype == np.float32 and np.allclose(volume.array, expected, rtol=1e-6)
    shared = {"PixelValueTransformationSequence": {"RescaleSlope": 2.5, "RescaleIntercept": 0}}
    volume = read_volume(write_enhanced(tmp_path / "y.dcm", planes(TRUE), range(10), shared=shared))
    assert np.allclose(volume.array, TRUE * 2.5)


def test_each_slice_of_a_series_has_its_own_scale(tmp_path):
    write_series(tmp_path / "d", TRUE, RescaleSlope=lambda k: (1, 2.5)[k > 0], RescaleIntercept=0)
    assert np.allclose(read_volume(tmp_path / "d").array, TRUE * np.where(np.arange(10) > 0, 2.5, 1))


def test_an_enhanced_file_with_a_missing_plane_is_an_error(tmp_path):
    keep = [k for k in range(10) if k != 4]
    volume = read_volume(write_enhanced(tmp_path / "x.dcm", planes(TRUE)[keep], keep))
    assert [note.code for note in volume.notes] == ["uneven"]


def test_a_truncated_enhanced_file_is_refused(tmp_path):
    path = write_enhanced(tmp_path / "x.dcm", planes(TRUE), range(10))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged file"):
        read_volume(path)


@pytest.mark.parametrize("slices", [9, 10, 1])
def test_a_mosaic_is_unpacked(tmp_path, slices):
    volume = read_volume(write_mosaic(tmp_path / "x.dcm", brain(slices)))
    assert is_true(volume, brain(slices)) or slices == 1 and np.array_equal(volume.array, brain(1))
    assert volume.affine == pytest.approx(AFFINE)


def test_a_mosaic_whose_slices_run_the_other_way_is_placed_by_its_own_header(tmp_path):
    volume = read_volume(write_mosaic(tmp_path / "x.dcm", TRUE, normal=(0, 0, -1.0)))
    assert np.array_equal(volume.array, TRUE[:, :, ::-1])
    assert volume.affine[:3, 3] == pytest.approx([10, 20, ORIGIN[2] - 9 * STEP[2]]) and volume.affine[
        2, 2
    ] == pytest.approx(2.5)


def test_mosaics_of_a_series_are_its_time_points(tmp_path):
    for n in range(3):
        write_mosaic(tmp_path / f"{n}.dcm", brain(seed=n), number=n + 1, AcquisitionNumber=n + 1)
    assert [row["part"] for row in scan(tmp_path).rows()] == [f"M ND MOSAIC, acquisition {n}" for n in (1, 2, 3)]
    assert is_true(read_volume(tmp_path, series="2"), OTHER)


def test_a_mosaic_without_direction_is_refused_by_name(tmp_path):
    write_mosaic(tmp_path / "x.dcm", TRUE, csa=False)
    with pytest.raises(InputError, match="Siemens mosaic .* convert it to NIfTI"):
        read_volume(tmp_path)
