"""Intensities become 8 bits as documented, in every kind of volume."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from conftest import ORIENTATIONS, affine, stored_as

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volume import Volume, once_a_volume
from ZSADCLIPLib.volumes.background import Background, find_background, has_zero_background
from ZSADCLIPLib.volumes.intensity import blank_slices, brain_mask, is_skull_stripped, to_uint8


def head(rng, noise: float, stripped: bool) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball with a dark centre in air, and the ball; not stripped, a neck reaches the lower face."""
    i, j, k = np.indices((40, 44, 36)) - np.array([20, 22, 18]).reshape(3, 1, 1, 1)
    ball = i**2 + j**2 + k**2 < 14**2
    array = np.where(ball, 300.0, 0) + 0.0
    array[i**2 + j**2 + k**2 < 16] = 5
    if not stripped:
        neck = (i**2 + j**2 < 14**2) & (k < 0)
        array[neck & ~ball] = 250
        ball = ball | neck
    return (array + noise * np.abs(rng.normal(size=array.shape))).astype(np.float32), ball


def test_minmax_takes_each_slice_by_itself(rng):
    array = rng.normal(50, 20, (4, 9, 7)).astype(np.float32)
    array[2] = 13
    out = to_uint8(array, "per-slice-minmax")
    for n in (0, 1, 3):
        one = array[n].astype(np.float64)
        assert np.array_equal(out[n], np.rint((one - one.min()) / (one.max() - one.min()) * 255))
        assert (out[n].min(), out[n].max()) == (0, 255)
    assert not out[2].any()


def test_minmax_leaves_full_range_8_bit_images_alone(rng):
    array = np.stack([rng.permutation(256).reshape(16, 16) for _ in range(3)]).astype(np.float32)
    assert np.array_equal(to_uint8(array, "per-slice-minmax"), array)


def test_percentiles_are_taken_over_the_foreground(rng):
    array = rng.uniform(100, 1100, (6, 20, 20)).astype(np.float32)
    array[:, :8] = 0
    out = to_uint8(array)
    assert np.array_equal(out == 0, array == 0)
    low, high = np.percentile(array[array > 0], (0.5, 99.5))
    inside = (array > low) & (array < high)
    expected = 1 + 254 * (array[inside] - low) / (high - low)
    assert np.abs(out[inside] - expected).max() <= 0.51
    assert (out[array > high] == 255).all()
    assert (out[(array > 0) & (array < low)] == 1).all()


def test_an_outlier_does_not_darken_the_volume(rng):
    array = rng.uniform(100, 200, (6, 30, 30)).astype(np.float32)
    array[0, 0, 0] = 1e6
    assert to_uint8(array).mean() > 100


def test_standardised_images_keep_their_zero_background(rng):
    array = rng.normal(size=(6, 20, 20)).astype(np.float32)
    array[:, :8] = 0
    out = to_uint8(array)
    assert np.array_equal(out == 0, array == 0)
    assert has_zero_background(array)


def test_computed_tomography_has_no_zero_background(rng):
    array = np.full((6, 20, 20), -1000, np.int16)
    array[:, 5:15, 5:15] = rng.integers(-5, 60, (6, 10, 10))
    assert (array == 0).any()
    out = to_uint8(array)
    assert not has_zero_background(array)
    assert (out[:, :5] == 0).all()
    assert find_background(array) == Background(-1000.0)
    assert (out[array == 0] > 0).all() and out[array > 50].min() > 200


@pytest.mark.parametrize("value", [-1, -3.2, -1000, -1024, -3024, 4095, 32767])
@pytest.mark.parametrize("mode", ["per-volume-percentile", "per-volume-zscore"])
def test_any_constant_around_a_brain_is_its_background(rng, value, mode):
    brain, ball = head(rng, 0, stripped=True)
    brain[ball] += rng.uniform(0, 200, ball.sum()).astype(np.float32)
    padded = np.where(ball, brain, np.float32(value))
    assert find_background(padded) == Background(float(np.float32(value)))
    assert np.array_equal(to_uint8(padded, mode), to_uint8(brain, mode))
    assert is_skull_stripped(Volume(padded, affine()))
    assert np.array_equal(brain_mask(Volume(padded, affine())), ball)


def test_the_background_of_a_slab_that_cuts_through_the_brain_is_found(rng):
    brain, ball = (array[:, :, 8:26] for array in head(rng, 0, stripped=True))
    brain[ball] = rng.uniform(200, 800, ball.sum())
    padded = np.where(ball, brain, np.float32(-3024))
    assert np.array_equal(to_uint8(padded), to_uint8(brain))
    assert np.array_equal(brain_mask(Volume(padded, affine())), brain_mask(Volume(brain, affine())))


@pytest.mark.parametrize("fill", [0, None])
def test_the_mask_of_a_slab_of_scores_is_the_brain(rng, fill):
    brain, ball = (array[:, :, 8:26] for array in head(rng, 0, stripped=True))
    scores = rng.normal(size=brain.shape) + 4 * (brain == 5)
    array = np.where(ball, scores, scores[ball].min() - 0.1 if fill is None else fill).astype(np.float32)
    assert np.array_equal(brain_mask(Volume(array, affine())), ball)
    assert np.array_equal(to_uint8(array) == 0, ~ball)


def test_padding_around_a_volume_with_a_zero_background_is_background_too(rng):
    brain, ball = head(rng, 0, stripped=True)
    brain[ball] += rng.uniform(0, 200, ball.sum()).astype(np.float32)
    padded = np.pad(brain, [(6, 0), (0, 3), (0, 0)], constant_values=-1024)
    assert find_background(padded) == Background(0.0, padding=-1024.0)
    assert np.array_equal(to_uint8(padded)[6:, :-3], to_uint8(brain)) and not to_uint8(padded)[:6].any()
    assert np.array_equal(brain_mask(Volume(padded, affine()))[6:, :-3], ball)


def test_remains_of_an_interpolation_belong_to_the_background(rng):
    brain, ball = head(rng, 0, stripped=True)
    noisy = brain + np.where(ball, 0, rng.normal(0, 1e-2, brain.shape)).astype(np.float32)
    assert np.array_equal(brain_mask(Volume(noisy, affine())), ball)
    assert is_skull_stripped(Volume(noisy, affine()))
    assert (to_uint8(noisy)[~ball] == 0).all()
    ringing = brain.copy()
    ringing[14:18, 20, 18] = -20  # within the brain's rim, while the border is exactly 0
    assert find_background(ringing) == Background(0.0)


def test_padding_beside_noisy_air_is_background_and_the_mask_is_the_head(rng):
    array, ball = head(rng, 8, stripped=False)
    array[:7] = array[33:] = -1024
    assert find_background(array) == Background(-1024.0)
    assert not is_skull_stripped(Volume(array, affine()))
    assert np.array_equal(brain_mask(Volume(array, affine()))[7:33], ball[7:33])
    assert not brain_mask(Volume(array, affine()))[:6].any()


def test_a_frequent_value_of_noise_is_no_background(rng):
    air = rng.integers(-2, 3, (20, 20, 20)).astype(np.int16)
    air[5:15, 5:15, 5:15] = rng.integers(100, 300, (10, 10, 10))
    assert find_background(air) is None
    assert find_background(rng.normal(size=(9, 9, 9)).astype(np.float32)) is None
    assert find_background(np.ones((2, 1, 2))) is None


@pytest.mark.parametrize("array", [np.zeros((2, 3, 3)), np.full((2, 3, 3), 7.0), np.full((2, 3, 3), -7.0)])
@pytest.mark.parametrize("mode", ["per-slice-minmax", "per-volume-percentile"])
def test_constant_volumes_are_black(array, mode):
    assert not to_uint8(array, mode).any()


def test_binary_and_nearly_constant_volumes_keep_their_contrast():
    array = np.zeros((2, 30, 30))
    array[0, :10, :10] = 1
    assert set(np.unique(to_uint8(array))) == {0, 255}
    array[0, 0, 0] = 9
    assert list(np.unique(to_uint8(array))) == [0, 1, 255]
    array = np.full((2, 30, 30), 5.0)
    array[0, 0, 0] = 9
    assert list(np.unique(to_uint8(array))) == [0, 255]


def test_window_clips():
    array = np.array([[[-2000, 0, 40, 80, 3000]]], np.int16)
    assert to_uint8(array, "window", (0, 80)).tolist() == [[[0, 0, 128, 255, 255]]]


@pytest.mark.parametrize("window", [None, (1, 1), (2, 1), (0, np.nan)])
def test_a_window_must_be_a_range(window):
    with pytest.raises(UsageError, match="low < high"):
        to_uint8(np.zeros((1, 2, 2)), "window", window)


def test_an_unknown_mode_is_named():
    with pytest.raises(UsageError, match="zscore"):
        to_uint8(np.zeros((1, 2, 2)), "zscore")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("mode", ["per-slice-minmax", "per-volume-percentile"])
def test_storage_order_does_not_change_a_bit(rng, dtype, mode):
    array = rng.integers(0, 120, (5, 8, 9)).astype(dtype)
    assert np.array_equal(to_uint8(np.asfortranarray(array), mode), to_uint8(array, mode))


def test_blank_slices_are_all_alike():
    array = np.zeros((6, 4, 4), np.uint8)
    array[1, 0, 0] = 1
    array[2] = 9
    assert blank_slices(array).tolist() == [True, False, False, True, True, True]
    assert blank_slices(array[1:2]).tolist() == [False]


def test_stripped_brains_and_whole_heads_are_told_apart(rng):
    brain, ball = head(rng, 0, stripped=True)
    whole, _ = head(rng, 0, stripped=False)
    assert is_skull_stripped(Volume(brain, affine()))
    assert not is_skull_stripped(Volume(whole, affine()))
    assert not is_skull_stripped(Volume(head(rng, 8, stripped=True)[0], affine()))
    assert np.array_equal(brain_mask(Volume(brain, affine())), ball)
    assert is_skull_stripped(Volume(brain[:, :, 18:19], affine()))


def test_the_mask_of_a_noisy_head_is_the_head_with_its_holes_filled(rng):
    array, ball = head(rng, 8, stripped=False)
    array[2, 2, 2] = 400  # a hot pixel in the air is not the patient
    assert np.array_equal(brain_mask(Volume(array, affine())), ball)


def test_the_mask_is_the_same_brain_in_every_storage(rng):
    array, _ = head(rng, 8, stripped=False)
    cube = Volume(array[:36, :36], affine())
    reference = brain_mask(cube)
    for how in ORIENTATIONS[::7]:
        expected = stored_as(cube.with_array(reference), *how).array
        assert np.array_equal(brain_mask(stored_as(cube, *how)), expected)


def test_cavities_are_filled_in_a_single_slice_too(rng):
    array, ball = head(rng, 8, stripped=False)
    assert np.array_equal(brain_mask(Volume(array[:, :, 18:19], affine())), ball[:, :, 18:19])


@pytest.mark.parametrize("value", [0, 4])
def test_the_mask_of_a_constant_volume_is_everything(value):
    assert brain_mask(Volume(np.full((3, 4, 5), value), affine())).all()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("mode", ["per-volume-percentile", "per-volume-zscore", "window"])
def test_whole_numbers_of_any_type_get_the_levels_of_floating_ones(rng, kind, mode):
    limits = np.iinfo(kind)
    array = rng.integers(limits.min, limits.max, (4, 9, 8), kind, endpoint=True)
    array[:, 0] = array[:, -1] = array[:, :, 0] = array[:, :, -1] = 0
    window = (-20.0, 90.0) if mode == "window" else None
    assert np.array_equal(to_uint8(array, mode, window), to_uint8(array.astype(np.float64), mode, window))


def test_what_is_known_of_a_volume_is_found_out_once_for_each():
    asked = []

    @once_a_volume
    def highest(volume):
        asked.append(volume)
        return volume.array.max()

    first = Volume(np.ones((2, 3, 4)), affine())
    second = first.with_array(first.array + 1)
    assert [highest(each) for each in (first, second, first)] == [1, 2, 1] and asked == [first, second]
    gone = weakref.ref(second)
    asked.clear()
    del second
    assert gone() is None, "an answer must not keep its volume in memory"
