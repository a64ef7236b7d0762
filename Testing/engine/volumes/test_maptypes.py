"""Maps in 16 bits: close to the scores, the same numbers for every reader, and packed again without loss."""

import nibabel
import numpy as np
import pytest

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.maptypes import MOST, as_stored, packed
from ZSADCLIPLib.volumes.reading import read_volume, write_map

RANGES = {
    "probabilities": (0.0, 1.0),
    "VAND": (0.0004, 3.9994),
    "signed": (-0.73, 0.21),
    "far from zero": (1000.0, 1000.001),
    "tiny": (0.0, 1e-41),
    "huge": (-3e38, 3e38),
    "narrow": (0.5, np.nextafter(np.float32(0.5), np.float32(1))),
}


def scores_in(low, high, rng):
    values = rng.uniform(0, 1, (9, 8, 7))
    values.flat[:2] = 0, 1
    return np.clip(low + values * (float(high) - low), low, high).astype(np.float32)


@pytest.mark.parametrize("low, high", RANGES.values(), ids=RANGES)
def test_scores_are_off_by_half_a_step_at_most(low, high, rng):
    scores = scores_in(low, high, rng)
    voxels, slope, inter = packed(scores)
    off = np.abs(voxels * slope + inter - scores.astype(np.float64)).max()
    assert voxels.dtype == np.int16 and off <= slope / 2
    assert slope / 2 <= max((float(high) - low) / (MOST - 1), 2.0**-24 * max(abs(low), abs(high)), 2.0**-126)


@pytest.mark.parametrize("low, high", RANGES.values(), ids=RANGES)
def test_float32_and_float64_multiply_out_to_the_same_numbers(low, high, rng):
    voxels, slope, inter = packed(scores_in(low, high, rng))
    single = voxels.astype(np.float32) * np.float32(slope) + np.float32(inter)
    assert single.dtype == np.float32 and np.array_equal(single, voxels * slope + inter)
    assert np.array_equal(single, (voxels + np.float32(inter / slope)) * np.float32(slope))


@pytest.mark.parametrize("low, high", RANGES.values(), ids=RANGES)
def test_what_was_read_is_written_without_loss(low, high, rng):
    once = as_stored(scores_in(low, high, rng), "int16")
    assert np.array_equal(as_stored(once, "int16"), once)


@pytest.mark.parametrize("low, high", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("map_type", ["int16", "float32"])
def test_files_hold_what_was_promised(low, high, map_type, tmp_path, rng):
    scores = scores_in(low, high, rng)
    for suffix in (".nii", ".nii.gz"):
        write_map(tmp_path / f"x{suffix}", Volume(scores, np.diag([1, 2, 3, 1.0])), map_type)
        found = read_volume(tmp_path / f"x{suffix}").array
        assert found.dtype == np.float32 and np.array_equal(found, as_stored(scores, map_type))
        assert nibabel.load(tmp_path / f"x{suffix}").get_data_dtype() == map_type


def test_a_constant_map_keeps_its_value(tmp_path):
    write_map(tmp_path / "x.nii", Volume(np.full((2, 3, 4), 0.1, np.float32), np.eye(4)), "int16")
    assert (read_volume(tmp_path / "x.nii").array == np.float32(0.1)).all()


def test_itk_reads_the_same_numbers(tmp_path, rng):
    itk = pytest.importorskip("SimpleITK")
    scores = scores_in(-0.73, 0.21, rng)
    write_map(tmp_path / "x.nii.gz", Volume(scores, np.eye(4)), "int16")
    found = itk.GetArrayFromImage(itk.ReadImage(str(tmp_path / "x.nii.gz"))).transpose()
    assert np.array_equal(found.astype(np.float32), as_stored(scores, "int16"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_and_unknown_types_are_refused(bad, tmp_path):
    volume = Volume(np.full((2, 3, 4), bad, np.float32), np.eye(4))
    with pytest.raises(InputError, match="not finite .* write float32"):
        write_map(tmp_path / "x.nii", volume, "int16")
    with pytest.raises(UsageError, match="map type 'int8' is unknown; choose one of int16, float32"):
        write_map(tmp_path / "x.nii", volume, "int8")
    assert not list(tmp_path.iterdir())
