"""Computed tomography is told by its values, in all ways it is padded, and nothing else is taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volumes.hounsfield import WINDOWS, is_hounsfield, parse_window
from ZSADCLIPLib.volumes.intensity import check_mode


def tomography(rng, air: float = 10, tissue: float = 6, pad: int | None = None) -> np.ndarray:
    """A head of Hounsfield units: brain, ventricles, skull, scalp and a sinus in air, `pad` outside the scanner's circle."""
    i, j, _ = np.indices((64, 64, 24)).astype(float)
    r, centre = np.hypot((i - 31.5) / 24, (j - 31.5) / 28), np.hypot(i - 31.5, j - 31.5)
    level = np.select(
        [centre < 6, np.hypot(i - 31.5, j - 50) < 3, r < 0.85, r < 0.95, r < 1], [8, -950, 35, 900, 20], -1000
    )
    array = level + rng.normal(size=level.shape) * np.where(level < -900, air, tissue)
    if pad is not None:
        array[centre > 33] = pad
    return np.rint(array).astype(np.int16)


@pytest.mark.parametrize("pad", [None, -1000, -1024, -2000, -3024, 0, 4095])
@pytest.mark.parametrize(("air", "tissue"), [(0, 6), (2, 3), (10, 6), (40, 60)])
def test_tomography_is_recognised(rng, pad, air, tissue):
    array = tomography(rng, air, tissue, pad)
    assert is_hounsfield(array)
    assert is_hounsfield(array.astype(np.float32)) and is_hounsfield(np.maximum(array, -1000))


def test_air_set_to_one_value_is_recognised(rng):
    array = tomography(rng)
    array[array < -500] = -1024
    assert is_hounsfield(array)


@pytest.mark.parametrize("scale", [1, 100, 300, 400])
def test_noise_and_scores_are_not(rng, scale):
    assert not is_hounsfield((rng.normal(size=(20, 20, 20)) * scale).astype(np.float32))
    assert not is_hounsfield(rng.uniform(-10 * scale, 10 * scale, (20, 20, 20)))


@pytest.mark.parametrize("pad", [0, -3.2, -1000, -1024, -3024])
@pytest.mark.parametrize("span", [10, 80, 400, 2000])
def test_a_brain_of_another_contrast_is_not_whatever_fills_its_border(rng, pad, span):
    i, j, k = np.indices((30, 30, 20)) - np.array([15, 15, 10]).reshape(3, 1, 1, 1)
    ball = i**2 + j**2 + k**2 < 90
    for values in (
        rng.uniform(0, span, ball.shape),
        rng.normal(0, span / 3, ball.shape),
        rng.gamma(2, span / 6, ball.shape),
    ):
        assert not is_hounsfield(np.where(ball, values, pad).astype(np.float32))


def test_windows_are_named_or_given():
    assert parse_window("brain") == parse_window(["brain"]) == WINDOWS["brain"] == (0, 80)
    assert parse_window(["-20", "180"]) == parse_window((-20, 180.0)) == WINDOWS["subdural"]


@pytest.mark.parametrize(
    "words", [["lung"], ["1"], ["0", "80", "9"], [], ["brain", "bone"], ["brain", "80"], [0, None]]
)
def test_other_windows_are_refused_with_what_is_expected(words):
    with pytest.raises(UsageError, match="expected brain, subdural, bone, or LOW HIGH"):
        parse_window(words)


@pytest.mark.parametrize("words", [["80", "0"], ["5", "5"], ["0", "nan"], ["-inf", "inf"]])
def test_a_window_is_low_and_high(words):
    with pytest.raises(UsageError, match="low < high"):
        check_mode("window", parse_window(words))
