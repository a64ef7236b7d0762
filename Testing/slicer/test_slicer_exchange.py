"""Volumes between Slicer and the engine: NIfTI that others read, and damage that is noticed."""

import numpy as np
import pytest

pytest_plugins = ["slicer_fixtures"]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_exchanged_volumes_are_nifti_to_others(slicer_env, tmp_path, rng, dtype):
    """Slicer's Python may lack nibabel; the engine reads what was written and writes what is read."""
    import nibabel
    from ZSADCLIPSlicer.engine import exchange

    from ZSADCLIPLib.volumes.reading import read_volume, write_volume

    array = rng.integers(0, 100, (4, 5, 6)).astype(dtype)
    affine = np.array([[0, -2.5, 0.1, 7], [1.5, 0, 0, -3], [0, 0.2, 4, 1], [0, 0, 0, 1]], np.float32)
    path = tmp_path / "volume.nii"
    exchange.write(path, array, affine)
    image = nibabel.load(path)
    assert np.array_equal(image.get_fdata(), array) and np.array_equal(image.affine, affine)
    assert np.allclose(image.header.get_zooms(), np.linalg.norm(affine[:3, :3], axis=0))
    assert image.header.get_xyzt_units()[0] == "mm"
    write_volume(path, read_volume(path), "float32")
    assert np.array_equal(exchange.read(path), array)


@pytest.mark.parametrize("map_type", ["int16", "float32"])
def test_maps_of_both_types_have_the_engines_numbers(slicer_env, tmp_path, rng, map_type):
    from ZSADCLIPSlicer.engine import exchange

    from ZSADCLIPLib.volume import Volume
    from ZSADCLIPLib.volumes.reading import read_volume, write_map

    path = tmp_path / "map.nii"
    write_map(path, Volume(rng.normal(3, 0.1, (4, 5, 6)).astype(np.float32), np.eye(4)), map_type)
    found = exchange.read(path)
    assert found.dtype == np.float32 and np.array_equal(found, read_volume(path).array)


def test_a_truncated_map_is_refused(slicer_env, tmp_path):
    from ZSADCLIPSlicer.engine import exchange

    from ZSADCLIPLib.errors import InputError

    path = tmp_path / "map.nii"
    exchange.write(path, np.ones((3, 4, 5), np.float32), np.eye(4))
    whole = path.read_bytes()
    for content, message in ((whole[:-1], "truncated"), (whole[:100], "100 bytes"), (b"x" * 400, "no uncompressed")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            exchange.read(path)
