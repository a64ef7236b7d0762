"""Synthetic anomalies: seeded, inside the head unless told otherwise, and masked where something changed."""

import numpy as np
import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.synthetic.anomalies.draws import TASKS, versions, with_anomaly

SIZE = 80


@pytest.fixture(scope="module")
def slices():
    y, x = np.indices((SIZE, SIZE)) / SIZE - 0.5
    head = (x / 0.3) ** 2 + (y / 0.4) ** 2 <= 1
    grey = np.random.default_rng(3).integers(60, 200, (3, SIZE, SIZE))
    return (grey * head).astype(np.uint8), np.stack([head] * 3)


@pytest.mark.parametrize("task", [*TASKS[:-1], "sink"])
def test_inside_the_head_only_and_only_what_changed_is_marked(slices, task):
    (image, *_), (head, *_) = slices
    for seed in range(4):
        changed, mask = with_anomaly(image, slices[0], np.random.default_rng(seed), head, task)
        assert changed.dtype == np.uint8 and mask.any() and not mask[~head].any()
        assert np.array_equal(changed[~head], image[~head])
        assert (changed != image)[mask].mean() > 0.9


def test_a_quarter_stays_as_it_is(slices):
    (image, *_), (head, *_) = slices
    changed, mask = with_anomaly(image, slices[0], np.random.default_rng(0), head, "identity")
    assert np.array_equal(changed, image) and not mask.any()
    masks = np.concatenate([masks for _, masks in versions(*slices, count=16, seed=5)])
    assert 0.5 < masks.any(axis=(1, 2)).mean() < 0.95


def test_anywhere_in_the_image_as_the_authors_do(slices):
    drawn = [masks for _, masks in versions(slices[0], None, 8, 5, "image")]
    assert (np.concatenate(drawn) & ~slices[1][0]).any()


def test_a_version_depends_on_seed_version_and_slice_alone(slices):
    first, again, other = (list(versions(*slices, count=2, seed=seed)) for seed in (5, 5, 6))
    assert all(
        np.array_equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert not np.array_equal(first[0][0], other[0][0]) and not np.array_equal(first[0][0], first[1][0])


def test_a_head_too_small_for_a_shape_stays_as_it_is(slices):
    head = np.zeros((SIZE, SIZE), bool)
    head[40, 40:42] = True
    changed, mask = with_anomaly(slices[0][0], slices[0], np.random.default_rng(0), head, "gauss")
    assert np.array_equal(changed, slices[0][0]) and not mask.any()


def test_places_that_are_unknown_or_without_heads_are_refused(slices):
    with pytest.raises(UsageError, match="within 'brain'"):
        next(versions(*slices, count=1, seed=0, within="brain"))
    with pytest.raises(UsageError, match="where the heads are"):
        next(versions(slices[0], None, 1, 0))
