"""Smoothing inside the brain: exact against the definition, and what it must leave alone."""

import numpy as np
import pytest
from scipy import ndimage

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.volumes.smoothing import smoothed

SPACING = (0.8, 1.3, 2.5)  # row, column, slice


@pytest.fixture
def case(rng):
    inside = np.zeros((9, 14, 12), bool)
    inside[2:8, 3:12, 2:10] = True
    inside[4, 6, 5] = False
    return rng.random(inside.shape, np.float32), inside


@pytest.mark.parametrize(("how", "axes"), [("through", (0,)), ("3d", (0, 1, 2))])
def test_it_is_the_gaussian_mean_of_the_scores_inside(case, how, axes):
    maps, inside = case
    mm = (SPACING[2], SPACING[0], SPACING[1])
    out = smoothed(maps, inside, SPACING, 2.0, how)
    at = np.argwhere(inside)
    for voxel in ((2, 3, 2), (4, 6, 4), (7, 11, 9)):  # a corner, beside the hole, another corner
        away = (at - voxel) * mm
        near = (np.abs(np.delete(away, axes, 1)) == 0).all(1)
        reach = [int(4 * 2.0 / step + 0.5) for step in mm]  # SciPy's kernels end after four standard deviations
        near &= (np.abs(at - voxel)[:, axes] <= np.array(reach)[list(axes)]).all(1)
        weights = np.exp(-0.5 * (away[near][:, axes] ** 2).sum(1) / 4.0)
        values = maps[tuple(at[near].T)]
        assert out[voxel] == pytest.approx((weights * values).sum() / weights.sum(), abs=2e-6)


@pytest.mark.parametrize("how", ["through", "3d"])
def test_no_score_crosses_the_border_and_none_is_lowered_there(case, how):
    maps, inside = case
    out = smoothed(maps, inside, SPACING, 3.0, how)
    assert np.array_equal(out[~inside], maps[~inside]) and not np.array_equal(out[inside], maps[inside])
    other = np.where(inside, maps, np.float32(1e6))
    assert np.array_equal(smoothed(other, inside, SPACING, 3.0, how)[inside], out[inside])
    flat = smoothed(np.where(inside, np.float32(0.7), maps), inside, SPACING, 3.0, how)
    assert flat[inside] == pytest.approx(0.7, abs=1e-6)


def test_whole_volumes_and_mirrored_ones(case):
    maps, inside = case
    everywhere = np.ones_like(inside)
    core = smoothed(maps, everywhere, (1, 1, 1), 0.5, "through")[3:-3]  # no border in reach
    assert core == pytest.approx(ndimage.gaussian_filter1d(maps, 0.5, 0)[3:-3], abs=1e-6)
    turned = smoothed(maps[::-1, :, ::-1], inside[::-1, :, ::-1], SPACING, 2.0, "3d")
    assert np.array_equal(turned, smoothed(maps, inside, SPACING, 2.0, "3d")[::-1, :, ::-1])


def test_nothing_to_do_and_wrong_values(case):
    maps, inside = case
    before = maps.copy()
    assert np.array_equal(smoothed(maps, inside, SPACING, 0.0), maps)
    assert np.array_equal(smoothed(maps, np.zeros_like(inside), SPACING, 2.0), maps)
    smoothed(maps, inside, SPACING, 2.0)
    assert np.array_equal(maps, before)
    for mm in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="expected 0 or more"):
            smoothed(maps, inside, SPACING, mm)
    with pytest.raises(UsageError, match="choose through or 3d"):
        smoothed(maps, inside, SPACING, 1.0, "2d")
    with pytest.raises(InputError, match="expected the same grid"):
        smoothed(maps, inside[1:], SPACING, 1.0)
