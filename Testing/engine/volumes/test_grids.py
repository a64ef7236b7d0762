"""Masks that lie on another grid than their image: taken where that is certain, resampled where it is allowed."""

import nibabel
import numpy as np
import pytest
from conftest import affine

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.grids import on_grid
from ZSADCLIPLib.volumes.reading import read_mask

SPACING = (1.0, 1.5, 2.0)


@pytest.fixture
def image():
    return Volume(np.zeros((12, 14, 10), np.float32), affine(SPACING, (-6.0, 4.0, -9.0)), "image")


@pytest.fixture
def labels(rng):
    array = (rng.random((12, 14, 10)) > 0.8).astype(np.uint8)
    array[:2], array[-2:] = 0, 0
    return array


@pytest.mark.parametrize("shift", [0.002, 0.09, -0.09])
def test_a_tenth_of_a_voxel_is_rounding(image, labels, shift):
    placed = image.affine.copy()
    placed[:3, 3] += shift
    mask = on_grid(Volume(labels, placed), image)
    assert np.array_equal(mask.array, labels) and np.array_equal(mask.affine, image.affine) and mask.notes == ()


@pytest.mark.parametrize("cut", [(slice(2, 9), slice(3, 13), slice(1, 8)), (slice(0, 12), slice(0, 14), slice(0, 9))])
def test_a_part_of_the_lattice_is_placed(image, labels, cut):
    part = labels[cut]
    corner = image.affine.copy()
    corner[:3, 3] = (image.affine @ [*(each.start for each in cut), 1])[:3] + 1e-3
    expected = np.zeros_like(labels)
    expected[cut] = part
    assert np.array_equal(on_grid(Volume(part, corner), image).array, expected)


def test_a_larger_lattice_is_cut_and_what_is_lost_is_said(image, labels):
    wide = np.pad(labels, 3)
    corner = image.affine.copy()
    corner[:3, 3] = (image.affine @ [-3, -3, -3, 1])[:3]
    assert np.array_equal(on_grid(Volume(wide, corner), image).array, labels)
    wide[0, 0, 0] = 1
    lost = on_grid(Volume(wide, corner), image)
    assert lost.notes[0].code == "mask" and "1 of " in lost.notes[0].text


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR", "ILA"])
def test_another_order_of_the_axes_is_the_same_lattice(image, labels, codes):
    stored = nibabel.Nifti1Image(labels, image.affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(tuple(codes))
    )
    turned = stored.as_reoriented(turn)
    mask = Volume(np.asarray(turned.dataobj), turned.affine)
    assert mask.axcodes == tuple(codes)
    assert np.array_equal(on_grid(mask, image).array, labels)


@pytest.mark.parametrize("spacing", [(0.5, 0.75, 1.0), (2.0, 3.0, 4.0)])
def test_another_lattice_needs_leave_and_is_resampled_to_the_nearest(image, spacing):
    """Against the label at each image voxel's own place."""
    shape = tuple(round(n * a / b) for n, a, b in zip(image.shape, SPACING, spacing, strict=True))
    labels = np.arange(1, np.prod(shape) + 1).reshape(shape).astype(np.int32)
    mask = Volume(labels, affine(spacing, (-6.0, 4.0, -9.0)), "mask")
    with pytest.raises(InputError, match="voxels of .* instead of 1 x 1.5 x 2 mm.*--resample-mask"):
        on_grid(mask, image)
    taken = on_grid(mask, image, resample=True)
    assert taken.notes[-1].code == "resampled"
    for voxel in np.ndindex(*image.shape):
        at = np.linalg.inv(mask.affine) @ image.affine @ [*voxel, 1]
        clear = np.abs(at[:3] - np.floor(at[:3]) - 0.5).min() > 1e-6
        nearest = np.rint(at[:3]).astype(int)
        if clear and (nearest >= 0).all() and (nearest < shape).all():
            assert taken.array[voxel] == labels[tuple(nearest)]


def test_half_a_voxel_is_another_lattice_and_its_digits_are_told(image, labels):
    placed = image.affine.copy()
    placed[1, 3] += 0.75
    with pytest.raises(InputError, match="first voxel lies 0.75 mm away"):
        on_grid(Volume(labels, placed), image)


@pytest.mark.parametrize("resample", [False, True])
def test_a_mask_beside_the_image_is_refused(image, labels, resample):
    placed = image.affine.copy()
    placed[0, 3] += 500
    with pytest.raises(InputError, match="marks nothing within"):
        on_grid(Volume(labels, placed), image, resample)


def test_a_mask_with_two_placements_needs_a_choice(tmp_path, image, labels):
    stored = nibabel.Nifti1Image(labels, image.affine)
    stored.set_sform(image.affine, 2)
    stored.set_qform(affine(SPACING, (60.0, 4.0, -9.0)), 1)
    stored.to_filename(tmp_path / "m.nii")
    with pytest.raises(InputError, match="--placement"):
        read_mask(tmp_path / "m.nii", image)
    assert np.array_equal(read_mask(tmp_path / "m.nii", image, "sform").array, labels)
