"""Files come in clean or with a clear error, and go out complete, on the very grid they came from."""

from __future__ import annotations

import builtins
import gzip
import json
import math
import os

import nibabel
import numpy as np
import pytest
from conftest import affine

from ZSADCLIPLib.detection.inputs import expand_inputs
from ZSADCLIPLib.errors import DependencyError, InputError, UsageError, ZSADCLIPError
from ZSADCLIPLib.files.atomic import atomic_path
from ZSADCLIPLib.files.text import write_csv, write_json, write_text
from ZSADCLIPLib.notes import sentences
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.itk import same_locale
from ZSADCLIPLib.volumes.reading import read_mask, read_volume, write_volume

OBLIQUE = np.array([[0.9, -0.2, 0.1, -81.3], [0.21, 1.1, -0.3, 13.7], [-0.05, 0.33, 2.9, 7.1], [0, 0, 0, 1]])


def saved(path, array, matrix=None, **fields):
    """A NIfTI file written by nibabel, with header fields set."""
    image = nibabel.Nifti1Image(array, affine() if matrix is None else matrix)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


# ---- NIfTI in


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_array_affine_and_name_are_read(tmp_path, rng, suffix):
    array = rng.integers(-500, 500, (5, 6, 7)).astype(np.int16)
    saved(tmp_path / "x.nii.gz", array, OBLIQUE)
    path = tmp_path / f"sub-01.t2w{suffix}"
    data = (tmp_path / "x.nii.gz").read_bytes()
    path.write_bytes(data if suffix.lower().endswith("gz") else gzip.decompress(data))
    volume = read_volume(path)
    assert volume.name == "sub-01.t2w"
    assert volume.array.dtype == np.int16
    assert np.array_equal(volume.array, array)
    assert np.array_equal(volume.affine, nibabel.load(tmp_path / "x.nii.gz").affine)
    assert volume.notes == ()


@pytest.mark.parametrize(
    ("stored", "read"),
    [("u1", "u1"), (">i2", "i2"), ("u4", "u4"), ("i8", "i4"), ("f4", "f4"), (">f8", "f4")],
)
def test_integers_stay_and_the_rest_is_float32(tmp_path, rng, stored, read):
    array = rng.integers(0, 200, (4, 4, 4)).astype(stored)
    image = nibabel.Nifti1Image(array, affine(), dtype=np.dtype(stored))
    image.to_filename(tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    assert volume.array.dtype == np.dtype(read)
    assert np.array_equal(volume.array, array)


def test_huge_64_bit_integers_become_float32(tmp_path):
    array = np.array([[[0, 2**40]]], np.int64)
    nibabel.Nifti1Image(array, affine(), dtype=np.int64).to_filename(tmp_path / "x.nii")
    volume = read_volume(tmp_path / "x.nii")
    assert volume.array.dtype == np.float32
    assert volume.array.max() == 2.0**40


def test_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), affine())
    image.header.set_slope_inter(0.5, -3)
    path = tmp_path / "x.nii"
    image.to_filename(path)
    raw = np.asarray(nibabel.load(path).dataobj)
    volume = read_volume(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, raw, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 6, 7, 1), (5, 6, 7, 1, 1)])
def test_a_single_frame_is_squeezed_and_noted(tmp_path, rng, shape):
    array = rng.random(shape).astype(np.float32)
    volume = read_volume(saved(tmp_path / "x.nii.gz", array))
    assert np.array_equal(volume.array, array.reshape(5, 6, 7))
    assert "(5, 6, 7)" in volume.notes[0].text


def test_a_picture_becomes_one_slice(tmp_path, rng):
    array = rng.random((5, 6)).astype(np.float32)
    volume = read_volume(saved(tmp_path / "x.nii", array, OBLIQUE))
    assert np.array_equal(volume.array[:, :, 0], array)
    write_volume(tmp_path / "y.nii", volume)
    assert np.array_equal(nibabel.load(tmp_path / "y.nii").affine, nibabel.load(tmp_path / "x.nii").affine)


@pytest.mark.parametrize("shape", [(16, 16, 1), (3, 40, 40), (1, 1, 1)])
def test_thin_volumes_are_fine(tmp_path, rng, shape):
    array = rng.random(shape).astype(np.float32)
    assert np.array_equal(read_volume(saved(tmp_path / "x.nii.gz", array)).array, array)


@pytest.mark.parametrize(("lowest", "dark"), [(2.0, 0.0), (-7.0, -7.0)])
@pytest.mark.parametrize("high", [np.inf, 1e300])
def test_nan_is_dark_and_what_is_too_high_is_bright(tmp_path, lowest, dark, high):
    array = np.full((4, 4, 4), 5.0)
    array[0, 0] = lowest, np.nan, high, -high
    volume = read_volume(saved(tmp_path / "x.nii.gz", array))
    assert volume.array[0, 0].tolist() == [lowest, dark, 5, lowest]
    assert (volume.array[1:] == 5).all()
    assert [note.code for note in volume.notes] == ["voxels"] * 3
    assert volume.notes[1].text == "1 of 64 voxels infinite, or too high for float32: read as 5"


@pytest.mark.parametrize("value", [0.0, 3.5, np.nan])
def test_a_constant_volume_is_read_and_noted(tmp_path, value):
    volume = read_volume(saved(tmp_path / "x.nii", np.full((3, 3, 3), value, np.float32)))
    assert volume.is_constant
    assert volume.notes[-1].code == "constant"


def test_missing_orientation_and_foreign_units_are_noted(tmp_path, rng):
    image = nibabel.Nifti1Image(rng.random((3, 4, 5)).astype(np.float32), None)
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / "x.nii")
    notes = sentences(read_volume(tmp_path / "x.nii").notes)
    assert "neither sform nor qform" in notes
    assert "micrometres" in notes


# ---- bad input


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="nowhere.nii.gz"):
        read_volume(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"not an image", bytes(400)])
def test_unreadable_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot read"):
        read_volume(tmp_path / name)


def test_unknown_suffix(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match=r"\.nii\.gz"):
        read_volume(tmp_path / "x.txt")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_truncated_file(tmp_path, rng, name, share):
    path = saved(tmp_path / name, rng.random((20, 20, 20)).astype(np.float32))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="truncated|cannot read"):
        read_volume(path)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_header_that_claims_absurd_sizes_allocates_nothing(tmp_path, name):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), affine())
    data = bytearray(image.to_bytes())
    data[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(InputError, match="cannot hold"):
        read_volume(tmp_path / name)


def test_a_compressed_file_that_claims_gigabytes_is_measured_first(tmp_path):
    # 2 MiB of noise do not compress, so the claim passes the largest ratio of the sizes; it must still be found out.
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), affine())
    data = bytearray(image.to_bytes()) + os.urandom(2**21)
    data[42:48] = np.array([700, 700, 700], "<i2").tobytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(data, 1))
    with pytest.raises(InputError, match="claims 1372000352 bytes"):
        read_volume(tmp_path / "x.nii.gz")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4, 4, 2), np.float32), r"\(4, 4, 4, 2\)"),
        (np.zeros((4, 4, 4, 1, 3), np.float32), r"pick one frame"),
        (np.zeros((4, 4, 4), np.complex64), "complex"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour or vector"),
    ],
)
def test_more_than_one_value_a_voxel(tmp_path, array, words):
    with pytest.raises(InputError, match=words):
        read_volume(saved(tmp_path / "x.nii.gz", array))


@pytest.mark.parametrize("kind", ["zero", "flat", "nan"])
def test_an_affine_of_no_use(tmp_path, kind):
    rows = {"zero": np.zeros((3, 4)), "flat": np.eye(4)[[0, 0, 2]], "nan": np.full((3, 4), np.nan)}[kind]
    path = saved(tmp_path / "x.nii", np.ones((3, 3, 3), np.float32))
    data = bytearray(path.read_bytes())
    data[280:328] = rows.astype("<f4").tobytes()
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.nii.*affine"):
        read_volume(path)


def test_damaged_headers_never_raise_anything_else(tmp_path, rng):
    path = tmp_path / "x.nii"
    image = nibabel.Nifti1Image(rng.random((4, 5, 6)).astype(np.float32), OBLIQUE)
    good = np.frombuffer(image.to_bytes(), np.uint8)
    read = 0
    for _ in range(400):
        data = good.copy()
        data[rng.integers(0, 352, rng.integers(1, 6))] = rng.integers(0, 256)
        path.write_bytes(data.tobytes())
        try:
            volume = read_volume(path)
            write_volume(tmp_path / "y.nii", volume, "float32")
            read += 1
        except ZSADCLIPError:
            pass
    assert 50 < read < 400


# ---- masks


def test_masks_are_rounded_to_small_integers(tmp_path, volume):
    labels = np.zeros(volume.shape)
    labels[3:5] = 3.0000002
    mask = read_mask(saved(tmp_path / "m.nii.gz", labels, volume.affine), volume)
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, np.rint(labels))


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan])
def test_values_that_are_not_labels(tmp_path, volume, value):
    labels = np.zeros(volume.shape)
    labels[1, 1, 1] = value
    with pytest.raises(InputError, match="whole numbers"):
        read_mask(saved(tmp_path / "m.nii.gz", labels, volume.affine), volume)


# ---- NIfTI out


def qform_only(image):
    image.set_qform(image.affine, code=1, strip_shears=True)
    image.set_sform(None, code=0)


def both(image):
    image.set_qform(affine((2, 3, 4), (1, 2, 3)), code=1)
    image.set_sform(OBLIQUE, code=4)


def neither(image):
    image.set_qform(None, code=0)
    image.set_sform(None, code=0)
    image.header["pixdim"][1:4] = 0.7, 1.1, 1.9


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("place", [qform_only, both, neither])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_results_lie_exactly_where_the_input_lay(tmp_path, rng, kind, place, suffix):
    image = kind(rng.random((5, 6, 7)), OBLIQUE)
    place(image)
    image.header["descrip"] = b"Doe^Jane"
    image.to_filename(tmp_path / f"in{suffix}")
    volume = read_volume(tmp_path / f"in{suffix}")
    result = rng.normal(size=volume.shape).astype(np.float32)
    write_volume(tmp_path / f"out{suffix}", volume.with_array(result), "float32")
    before, after = nibabel.load(tmp_path / f"in{suffix}"), nibabel.load(tmp_path / f"out{suffix}")
    assert type(after) is type(before)
    assert after.affine.tobytes() == before.affine.tobytes() == volume.affine.tobytes()
    for name in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_z", "xyzt_units"):
        assert np.array_equal(after.header[name], before.header[name])
    assert after.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(after.dataobj), result)
    assert read_volume(tmp_path / f"out{suffix}").same_grid(volume, 0)
    assert b"Doe" not in bytes(after.header["descrip"])


def test_an_affine_from_elsewhere_is_stored_as_float32(tmp_path, rng):
    volume = Volume(rng.random((3, 4, 5)).astype(np.float32), OBLIQUE)
    write_volume(tmp_path / "x.nii.gz", volume)
    assert np.array_equal(read_volume(tmp_path / "x.nii.gz").affine, OBLIQUE.astype(np.float32))


def test_a_changed_affine_is_what_is_written(tmp_path, rng):
    volume = read_volume(saved(tmp_path / "x.nii", rng.random((3, 4, 5)).astype(np.float32), OBLIQUE))
    moved = Volume(volume.array, affine((2, 2, 2), (9, 8, 7)), geometry=volume.geometry)
    write_volume(tmp_path / "y.nii", moved)
    assert np.array_equal(read_volume(tmp_path / "y.nii").affine, moved.affine)


def test_values_that_do_not_fit_the_type_are_refused(tmp_path, volume):
    with pytest.raises(InputError, match="uint8"):
        write_volume(tmp_path / "x.nii", volume.with_array(volume.array + 100), "uint8")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"x\.png"):
        write_volume(tmp_path / "x.png", volume)


def test_the_same_result_is_the_same_file(tmp_path, volume):
    for name in ("a", "b"):
        write_volume(tmp_path / name / "x.nii.gz", volume)
    assert (tmp_path / "a/x.nii.gz").read_bytes() == (tmp_path / "b/x.nii.gz").read_bytes()


# ---- complete or absent


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "x.nii.gz"
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text("utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert json.loads(path.read_text("utf-8")) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another"):
        write_text(tmp_path / "file" / "x.txt", "")


def test_json_and_csv(tmp_path):
    data = {"a": np.float32(0.5), "b": [np.int64(3), float("nan")], "c": np.arange(2), "d": tmp_path, 5: (1, None)}
    write_json(tmp_path / "x.json", data)
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {
        **{"a": 0.5, "b": [3, None], "c": [0, 1]},
        **{"d": str(tmp_path), "5": [1, None]},
    }
    write_csv(tmp_path / "x.csv", [{"id": "a,b", "x": 1}, {"id": "c", "y": None}])
    assert (tmp_path / "x.csv").read_bytes() == b'id,x,y\n"a,b",1,\nc,,\n'
    write_csv(tmp_path / "y.csv", [], ["id"])
    assert (tmp_path / "y.csv").read_text("utf-8") == "id\n"


# ---- SimpleITK


@pytest.fixture
def itk():
    return pytest.importorskip("SimpleITK")


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_itk_files_agree_with_nifti(tmp_path, rng, itk, suffix):
    array = rng.integers(0, 99, (5, 6, 7)).astype(np.int16)
    u, _, vt = np.linalg.svd(OBLIQUE[:3, :3])
    matrix = np.eye(4)
    matrix[:3, :3] = u @ vt * (0.5, 1.5, 2.5)
    matrix[:3, 3] = OBLIQUE[:3, 3]
    saved(tmp_path / "x.nii.gz", array, matrix)
    itk.WriteImage(itk.ReadImage(str(tmp_path / "x.nii.gz")), str(tmp_path / f"x{suffix}"))
    volume = read_volume(tmp_path / f"x{suffix}")
    assert (volume.name, volume.notes, volume.array.dtype) == ("x", (), np.int16)
    assert np.array_equal(volume.array, array)
    assert volume.affine == pytest.approx(matrix, abs=1e-5)
    if suffix in (".nhdr", ".mhd"):  # two files cannot appear at once
        with pytest.raises(UsageError, match=r"\.nrrd, \.mha"):
            write_volume(tmp_path / f"y{suffix}", volume)
        return
    write_volume(tmp_path / f"y{suffix}", volume.with_array(array * 0.5), "float32")
    again = read_volume(tmp_path / f"y{suffix}")
    assert {path.stem for path in tmp_path.iterdir()} == {"x", "x.nii", "y"}
    assert np.array_equal(again.array, array * 0.5)
    assert again.affine == pytest.approx(volume.affine, abs=1e-9)


def test_itk_files_with_several_values_a_voxel(tmp_path, itk):
    for n, image in enumerate(
        [
            itk.Image([4, 4, 4], itk.sitkVectorUInt8, 3),
            itk.Image([4, 4, 4], itk.sitkComplexFloat32),
            itk.Image([4, 4, 4, 2], itk.sitkFloat32),
        ]
    ):
        itk.WriteImage(image, str(tmp_path / f"{n}.mha"))
        with pytest.raises(InputError, match="pick one"):
            read_volume(tmp_path / f"{n}.mha")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("compress", [True, False])
def test_truncated_itk_files(tmp_path, rng, itk, suffix, compress):
    path = tmp_path / f"x{suffix}"
    itk.WriteImage(itk.GetImageFromArray(rng.random((20, 20, 20))), str(path), useCompression=compress)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="truncated|cannot read"):
        read_volume(path)


def test_itk_headers_that_claim_absurd_sizes(tmp_path, itk):
    path = tmp_path / "x.mhd"
    itk.WriteImage(itk.Image([4, 4, 4], itk.sitkUInt8), str(path))
    path.write_text(path.read_text("utf-8").replace("DimSize = 4 4 4", "DimSize = 4000 4000 4000"))
    with pytest.raises(InputError, match="64000000000"):
        read_volume(path)


def dicom_series(itk, folder, array, step=(0.0, 0.0, 2.5), missing=(), uid="1.2.3"):
    """One file per slice of an int16 array (I, J, K); `step` is from slice to slice in LPS mm."""
    folder.mkdir(exist_ok=True)
    for k in set(range(array.shape[2])) - set(missing):
        image = itk.GetImageFromArray(np.ascontiguousarray(array[:, :, k].T)[None])
        image.SetSpacing((0.8, 0.9, 2.5))
        position = np.array([10.0, -20.0, 30.0]) + k * np.array(step)
        image.SetOrigin([float(x) for x in position])
        tags = {
            "0008|0060": "MR",
            "0010|0010": "Doe^Jane",
            "0020|000e": uid,
            "0020|000d": "1.2.4",
            "0008|0018": f"{uid}.{k + 1}",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:g}" for x in position),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": "2.5",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = itk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{uid}-{array.shape[2] - k:03}.dcm"))
        with same_locale():
            writer.Execute(image)
    return folder


def test_a_dicom_series_is_one_volume(tmp_path, rng, itk):
    array = rng.integers(0, 999, (8, 9, 5)).astype(np.int16)
    volume = read_volume(dicom_series(itk, tmp_path / "study", array))
    assert np.array_equal(volume.array, array)
    expected = np.array([[-0.8, 0, 0, -10], [0, -0.9, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    assert volume.affine == pytest.approx(expected)
    assert (volume.name, volume.notes) == ("study", ())


def test_a_tilted_gantry_keeps_its_shear(tmp_path, rng, itk):
    tilt = (0.0, -2.5 * math.tan(math.radians(15)), 2.5)
    volume = read_volume(dicom_series(itk, tmp_path / "ct", rng.integers(0, 9, (8, 9, 5)).astype(np.int16), tilt))
    assert volume.affine[:3, 2] == pytest.approx([0, -tilt[1], 2.5], abs=1e-4)


def test_a_missing_slice_is_noted(tmp_path, rng, itk):
    array = rng.integers(0, 999, (8, 9, 6)).astype(np.int16)
    volume = read_volume(dicom_series(itk, tmp_path / "mr", array, missing=[2]))
    assert volume.shape == (8, 9, 5)
    assert "2.5 to 5 mm apart" in volume.notes[0].text


def test_folders_without_one_series(tmp_path, rng, itk):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM series"):
        read_volume(tmp_path / "empty")
    array = rng.integers(0, 999, (8, 9, 2)).astype(np.int16)
    for uid in ("1.2.3", "1.2.5"):
        dicom_series(itk, tmp_path / "two", array, uid=uid)
    with pytest.raises(InputError, match="2 DICOM series"):
        read_volume(tmp_path / "two")


def test_without_simpleitk_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "SimpleITK":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "x.nrrd").write_bytes(b"NRRD0004")
    for path in (tmp_path / "x.nrrd", tmp_path):
        with pytest.raises(DependencyError, match=r"zsadclip\[itk\]"):
            read_volume(path)


# ---- cases are tested in test_cases.py; here only that they are reachable


def test_expand_inputs_is_part_of_io(tmp_path, rng):
    path = saved(tmp_path / "x.nii", rng.random((2, 2, 2)).astype(np.float32))
    assert [case.id for case in expand_inputs([path])] == ["x"]


def test_a_sheared_grid_goes_to_nifti_only(tmp_path, rng, itk):
    volume = Volume(rng.random((3, 4, 5)).astype(np.float32), OBLIQUE)
    with pytest.raises(InputError, match=r"right angles.*\.nii\.gz"):
        write_volume(tmp_path / "x.nrrd", volume)
    assert not list(tmp_path.iterdir())
