"""Augmentation moves image and mask together, about the centre, the same way for the same seed."""

import numpy as np
import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.training.augment import augmented, mosaic, transform


@pytest.fixture
def box():
    image, mask = np.zeros((64, 64), np.uint8), np.zeros((64, 64), bool)
    image[10:18, 40:52], mask[10:18, 40:52] = 200, True
    return image, mask


def centre(mask):
    return np.argwhere(mask).mean(axis=0)


def test_nothing_asked_changes_nothing(box):
    image, mask = transform(*box)
    assert np.array_equal(image, box[0]) and np.array_equal(mask, box[1])


def test_a_flip_mirrors_columns(box):
    image, mask = transform(*box, flip=True)
    assert np.array_equal(image, box[0][:, ::-1]) and np.array_equal(mask, box[1][:, ::-1])


def test_a_quarter_turn_is_counter_clockwise(box):
    image, mask = transform(*box, degrees=90)
    assert np.array_equal(mask, np.rot90(box[1]))
    assert np.abs(image.astype(int) - np.rot90(box[0])).max() <= 1


def test_zoom_enlarges_about_the_centre(box):
    image, mask = transform(*box, zoom=1.1)
    assert mask.sum() == pytest.approx(1.21 * box[1].sum(), rel=0.15)
    assert centre(mask) - 31.5 == pytest.approx(1.1 * (centre(box[1]) - 31.5), abs=0.6)
    assert (image[mask] > 100).mean() > 0.95


def test_image_and_mask_stay_together_and_the_seed_decides(box):
    images, masks = np.stack([box[0]] * 8), np.stack([box[1]] * 8)
    drawn = [augmented(images, masks, np.arange(8), "flips", np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(drawn[0][0], drawn[1][0]) and np.array_equal(drawn[0][1], drawn[1][1])
    for image, mask in zip(*drawn[0], strict=True):
        assert (image[mask] > 60).mean() > 0.9 and (image[~mask] > 140).mean() < 0.005
    assert len({mask.tobytes() for mask in drawn[0][1]}) > 4
    assert np.array_equal(images[0], box[0])


def test_a_mosaic_is_four_halves_in_reading_order():
    images = np.stack([np.full((32, 32), 50 * (i + 1), np.uint8) for i in range(4)])
    masks = np.stack([np.full((32, 32), i == 2) for i in range(4)])
    image, mask = mosaic(images, masks)
    assert image.shape == (32, 32)
    assert [int(image[y, x]) for y, x in ((4, 4), (4, 28), (28, 4), (28, 28))] == [50, 100, 150, 200]
    assert mask[16:, :16].all() and mask.sum() == 256


def test_mosaics_come_at_their_rate():
    images = np.stack([np.full((16, 16), i, np.uint8) for i in range(200)])
    out, _ = augmented(images, images > 300, np.arange(200), "mosaic", np.random.default_rng(0))
    changed = (out != images).any(axis=(1, 2)).mean()
    assert 0.1 < changed < 0.3


def test_an_unknown_kind_is_refused(box):
    with pytest.raises(UsageError, match="choose one of none, flips, mosaic"):
        augmented(box[0][None], box[1][None], np.arange(1), "jpeg", np.random.default_rng(0))
