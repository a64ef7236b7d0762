"""Parts of masks: the support filter, the largest part, growing and filling, which must be what SciPy gives."""

import numpy as np
import pytest
from scipy import ndimage

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volumes.components import components, grown, holes_filled, largest_part, remove_small, slices_deep


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_slices_of_support_remove_exactly_what_lies_in_one(axis):
    mask = np.random.default_rng(5).random((14, 15, 16)) > 0.95
    assert np.array_equal(remove_small(mask, (1, 1, 1), 0.0, 1, axis), mask)
    kept, labels, expected = remove_small(mask, (1, 1, 1), 0.0, 2, axis), components(mask), np.zeros_like(mask)
    for label in range(1, labels.max() + 1):
        part = labels == label
        expected |= part & (np.unique(np.nonzero(part)[axis]).size > 1)
    assert np.array_equal(kept, expected) and 0 < kept.sum() < mask.sum()


def test_size_and_support_are_both_asked_for():
    mask = np.zeros((8, 20, 20), bool)
    mask[1, :10, :10] = True  # 100 voxels in one slice
    mask[2:6, 18, 18] = True  # 4 voxels in four slices
    mask[2:5, 12:15, 2:5] = True  # 27 voxels in three
    assert [remove_small(mask, (1, 1, 1), mm3, deep).sum() for mm3, deep in ((0, 1), (0, 3), (20, 1), (20, 3), (20, 4))] == [
        131, 31, 127, 27, 0,
    ]  # fmt: skip


def test_millimetres_become_slices():
    assert [slices_deep(3, mm, 100) for mm in (0.5, 1, 1.5, 2, 3, 5)] == [6, 3, 2, 2, 1, 1]
    assert slices_deep(3, 0.99999, 100) == slices_deep(3, 1.00001, 100) == 3  # stored affines round
    assert slices_deep(0, 1, 100) == 1 and slices_deep(3, 1, 2) == 2 and slices_deep(3, 1, 1) == 1
    for mm in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expected 0 or more"):
            slices_deep(mm, 1, 100)


@pytest.mark.parametrize("shape", [(9, 10, 11), (7, 8, 1), (1, 1, 5)])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.7, 1.0])
def test_growing_filling_and_the_largest_part_are_scipy_s(rng, shape, share):
    mask = rng.random(shape) < share
    assert np.array_equal(grown(mask, 3), ndimage.binary_dilation(mask, iterations=3))
    assert np.array_equal(~grown(~mask, 3), ndimage.binary_erosion(mask, iterations=3, border_value=1))
    for axis in range(3):
        filled = np.stack([ndimage.binary_fill_holes(one) for one in np.moveaxis(mask, axis, 0)])
        assert np.array_equal(np.moveaxis(holes_filled(mask, axis), axis, 0), filled)
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    assert np.array_equal(largest_part(mask), labels == 1 + sizes.argmax() if mask.any() else mask)


def test_nothing_has_no_parts():
    mask = np.zeros((4, 5, 6), bool)
    for done in (largest_part(mask), grown(mask, 2), holes_filled(mask, 1)):
        assert done.shape == mask.shape and not done.any()
