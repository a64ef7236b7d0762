"""Heads are told from stripped brains by the dark ring of bone, also where the air around them is exactly 0."""

import numpy as np
import pytest

from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.skull import RING, bone_ring, has_skull


@pytest.fixture(scope="module")
def brain():
    return make_case(7200, channels=("t2w",)).volumes["t2w"]


def with_skull(volume, air=0.0):
    """Bone of 5 mm and scalp of 4 mm around the brain of a case."""
    from scipy import ndimage

    away = ndimage.distance_transform_edt(volume.array == 0)
    array = volume.array.astype(np.float32)
    array[(away > 0) & (away <= 5)] = 0.05 * array.max()
    array[(away > 5) & (away <= 9)] = 0.6 * array.max()
    outside = away > 9
    array[outside] = np.abs(np.random.default_rng(0).normal(0, air, outside.sum())) if air else 0
    return Volume(array, volume.affine)


def told(volume):
    return has_skull(volume)


def test_a_stripped_brain_has_no_ring(brain):
    assert bone_ring(brain) < RING / 2 and told(brain) is False


@pytest.mark.parametrize("air", [0.0, 5.0])
def test_a_head_has_one_whatever_the_air(brain, air):
    head = with_skull(brain, air)
    assert bone_ring(head) > RING and told(head) is True


def test_a_slab_of_a_head_is_told_too_and_one_of_a_brain_is_left_open(brain):
    head = with_skull(brain)
    cut = np.s_[:, :, 70:110]
    assert told(Volume(head.array[cut], head.affine)) is True
    assert told(Volume(brain.array[cut], brain.affine)) is None


@pytest.mark.parametrize("array", [np.zeros((8, 8, 8)), np.ones((40, 40, 1)), np.arange(8.0).reshape(2, 2, 2)])
def test_what_is_no_head_has_no_ring(array):
    assert bone_ring(Volume(array, np.eye(4))) == 0


def test_air_around_a_head_changes_nothing(brain):
    head = with_skull(Volume(brain.array[:, :, 60:100], brain.affine))
    wide = np.pad(head.array, ((40, 3), (0, 25), (0, 0)))
    assert bone_ring(Volume(wide, brain.affine)) == bone_ring(head) > RING
