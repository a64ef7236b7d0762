"""Where a file says that its voxels are: two answers, none, other units, sizes that cannot be, and changed bytes."""

import gzip
import struct

import nibabel
import numpy as np
import pytest
from conftest import affine

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.notes import settled
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.checks import is_label_map, size_notes
from ZSADCLIPLib.volumes.reading import read_volume, volume_hash, write_volume

PLACE = affine((1.0, 1.5, 2.0), (-6.0, 4.0, -9.0))


def saved(path, array, sform=PLACE, codes=(1, 1), qform=None, unit="mm", kind=nibabel.Nifti1Image):
    header = kind.header_class()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_qform(sform if qform is None else qform, codes[1])
    header.set_sform(sform, codes[0])
    header.set_xyzt_units(unit)
    kind(array, None, header).to_filename(path)
    return path


def with_slice_size(path, mm):
    """The same file with another third number of pixdim (NIfTI-1, bytes 88 to 91)."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<f", data, 76 + 12, mm)
    path.write_bytes(data)
    return path


@pytest.fixture
def array(rng):
    return rng.random((12, 14, 10)).astype(np.float32)


def mirrored():
    other = np.diag([1.0, 1.5, 2.0, 1.0])
    other[:3, 3] = (-5.0, 4.0, -9.0)
    return other


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 4), (4, 2)])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_two_placements_are_shown_and_one_must_be_chosen(tmp_path, array, codes, kind):
    path = saved(tmp_path / "x.nii.gz", array, affine((1, 1.5, 2), (60, 4, -9)), codes, mirrored(), kind=kind)
    with pytest.raises(InputError, match=r"sform [A-Z]{3} with its centre at \(.*qform RAS .*--placement") as caught:
        settled(read_volume(path).notes)
    assert "--allow" not in str(caught.value)


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_what_is_chosen_is_what_every_reader_finds_in_the_result(tmp_path, array, form):
    path = saved(tmp_path / "x.nii", array, affine((1, 1.5, 2), (60, 4, -9)), (2, 1), mirrored())
    volume = read_volume(path, form)
    settled(volume.notes)
    assert volume.notes[-1].code == "placed"
    header = nibabel.load(path).header
    assert np.allclose(volume.affine, header.get_sform() if form == "sform" else header.get_qform())
    write_volume(tmp_path / "y.nii", volume)
    again = nibabel.load(tmp_path / "y.nii")
    assert np.array_equal(again.affine, volume.affine)
    assert read_volume(tmp_path / "y.nii").notes == ()
    sitk = pytest.importorskip("SimpleITK")
    origin = np.array(sitk.ReadImage(str(tmp_path / "y.nii")).GetOrigin()) * (-1, -1, 1)
    assert np.allclose(origin, volume.affine[:3, 3], atol=1e-4)


@pytest.mark.parametrize("shift", [0.0, 1e-5, 0.05])
def test_rounding_between_the_placements_is_no_doubt(tmp_path, array, shift):
    other = PLACE.copy()
    other[:3, 3] += shift
    assert read_volume(saved(tmp_path / "x.nii", array, PLACE, (1, 1), other)).notes == ()


@pytest.mark.parametrize("codes", [(1, 0), (0, 1)])
def test_a_placement_whose_code_is_0_does_not_count(tmp_path, array, codes):
    sform, qform = (PLACE, mirrored()) if codes[0] else (mirrored(), PLACE)
    volume = read_volume(saved(tmp_path / "x.nii", array, sform, codes, qform), "qform")
    assert np.allclose(volume.affine, PLACE) and volume.notes == ()


def test_an_sform_of_other_sizes_than_pixdim_is_a_doubt(tmp_path, array):
    path = with_slice_size(saved(tmp_path / "x.nii", array, codes=(1, 0)), 9.0)
    with pytest.raises(InputError, match="1 x 1.5 x 2 mm by the sform and 1 x 1.5 x 9 mm by pixdim"):
        settled(read_volume(path).notes)
    assert [note.severity for note in settled(read_volume(path).notes, ("pixdim",))] == ["warning"]


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units_become_mm_also_in_the_result(tmp_path, array, unit, factor):
    place = np.diag([1 / factor, 1 / factor, 1 / factor, 1]) @ PLACE
    volume = read_volume(saved(tmp_path / "x.nii", array, place, unit=unit))
    assert np.allclose(volume.affine, PLACE)
    assert [note.code for note in volume.notes] == (["units"] if factor != 1 else [])
    write_volume(tmp_path / "y.nii", volume)
    again = read_volume(tmp_path / "y.nii")
    assert np.allclose(again.affine, PLACE, atol=1e-5) and again.notes == ()


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_units_and_a_choice_of_placement_go_together(tmp_path, array, form):
    small = np.diag([1000.0, 1000, 1000, 1])
    path = saved(tmp_path / "x.nii", array, small @ PLACE, (1, 1), small @ mirrored(), "micron")
    assert np.allclose(read_volume(path, form).affine, PLACE if form == "sform" else mirrored())


def test_a_size_of_0_without_placement_stops_a_case(tmp_path, array):
    path = with_slice_size(saved(tmp_path / "x.nii", array, codes=(0, 0)), 0.0)
    with pytest.raises(InputError, match="1 x 1.5 x 0 mm, and has neither sform nor qform"):
        settled(read_volume(path).notes)


@pytest.mark.parametrize(
    ("spacing", "shape", "code"),
    [
        ((1.0, 1.0, 2000.0), (100, 100, 20), "voxel-size"),
        ((0.001, 0.001, 0.001), (200, 200, 200), "voxel-size"),
        ((21.0, 1.0, 1.0), (10, 100, 100), "voxel-size"),
        ((6.0, 6.0, 6.0), (200, 100, 100), "extent"),
        ((0.1, 0.1, 0.5), (200, 200, 36), "small"),
        ((0.51, 0.51, 4.0), (406, 448, 36), None),
        ((1.0, 1.0, 5.0), (240, 240, 1), None),
        ((20.0, 1.0, 1.0), (10, 100, 100), None),
    ],
)
def test_sizes_that_cannot_be(spacing, shape, code):
    volume = Volume(np.broadcast_to(np.float32(1), shape), affine(spacing, (0, 0, 0)))
    assert [note.code for note in size_notes(volume)] == ([code] if code else [])


@pytest.mark.parametrize("name", ["x.nii.gz", "x.mgz"])
def test_changed_bytes_of_a_compressed_file_are_noticed(tmp_path, array, name):
    kind = nibabel.MGHImage if name.endswith("mgz") else nibabel.Nifti1Image
    kind(array, PLACE).to_filename(tmp_path / "plain.nii" if kind is nibabel.Nifti1Image else tmp_path / "plain.mgh")
    raw = next(tmp_path.glob("plain.*")).read_bytes()
    packed = bytearray(gzip.compress(raw, 0))  # stored, so that every change still unpacks
    (tmp_path / name).write_bytes(packed)
    assert np.array_equal(read_volume(tmp_path / name).array, array)
    packed[len(packed) // 2] ^= 1
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(InputError, match="check; the file is truncated or damaged"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("behind", [b"", b"\0" * 512, b"something else"])
def test_what_stands_behind_a_whole_stream_does_not_matter(tmp_path, array, behind):
    path = saved(tmp_path / "x.nii.gz", array)
    path.write_bytes(path.read_bytes() + behind)
    assert np.array_equal(read_volume(path).array, array)


@pytest.mark.parametrize("cut", [1, 4, 8, 20])
def test_a_stream_without_its_trailer_is_truncated(tmp_path, array, cut):
    path = saved(tmp_path / "x.nii.gz", array)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match="truncated"):
        read_volume(path)


@pytest.mark.parametrize("names", [("x.hdr", "x.img"), ("x.img", "x.hdr")])
def test_a_pair_is_read_by_either_name(tmp_path, array, names):
    nibabel.Nifti1Pair(array, PLACE).to_filename(tmp_path / "x.img")
    volume = read_volume(tmp_path / names[0])
    assert np.array_equal(volume.array, array) and np.allclose(volume.affine, PLACE) and volume.notes == ()
    before = volume_hash(tmp_path / names[0])
    (tmp_path / "x.img").write_bytes((tmp_path / "x.img").read_bytes()[:-4] + b"1234")
    assert volume_hash(tmp_path / names[0]) != before
    (tmp_path / names[1]).unlink()
    with pytest.raises(InputError):
        read_volume(tmp_path / names[0])


def test_analyze_does_not_say_how_the_patient_lies(tmp_path, array):
    nibabel.AnalyzeImage(array, np.diag([1.0, 1.5, 2.0, 1.0])).to_filename(tmp_path / "x.img")
    volume = read_volume(tmp_path / "x.img")
    assert np.array_equal(volume.array, array) and volume.spacing == (1.0, 1.5, 2.0)
    assert [note.code for note in volume.notes] == ["unplaced"]


@pytest.mark.parametrize("name", ["x.mgz", "x.mgh"])
def test_freesurfer_files_are_read(tmp_path, array, name):
    nibabel.MGHImage(array, PLACE).to_filename(tmp_path / name)
    volume = read_volume(tmp_path / name)
    assert np.array_equal(volume.array, array) and np.allclose(volume.affine, PLACE, atol=1e-5) and volume.notes == ()
    write_volume(tmp_path / "y.nii.gz", volume)
    assert np.allclose(read_volume(tmp_path / "y.nii.gz").affine, PLACE, atol=1e-5)


def test_what_a_library_warns_of_is_a_note_and_no_line_on_the_terminal(tmp_path, array, capfd):
    path = saved(tmp_path / "x.nii", array)
    data = bytearray(path.read_bytes())
    struct.pack_into("<h", data, 252, 99)  # qform_code
    path.write_bytes(data)
    notes = read_volume(path).notes
    assert any(note.code == "library" and "qform_code" in note.text for note in notes)
    out = capfd.readouterr()
    assert out.out == out.err == ""


def test_label_maps_are_told_from_images(array):
    def volume(values):
        return Volume(values, PLACE)

    labels = np.zeros((12, 14, 10), np.float32)
    labels[3:5] = 2
    assert is_label_map(volume(labels)) and is_label_map(volume(labels.astype(np.uint8)))
    assert not is_label_map(volume(array)) and not is_label_map(volume(labels * 0))
    assert not is_label_map(volume(labels + 0.5)) and not is_label_map(volume(labels - 1))
    assert not is_label_map(volume(np.arange(1680).reshape(12, 14, 10)))
