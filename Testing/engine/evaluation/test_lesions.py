"""Lesion matching, FROC and lesion-wise Dice on cases small enough to count by hand or by brute force."""

import numpy as np
import pytest
from scipy import ndimage

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.evaluation.lesions import FrocCase, froc, froc_case, lesionwise_dice, match_lesions
from ZSADCLIPLib.volumes.components import components

MM = (1.0, 1.0, 1.0)


def cube(shape, *boxes):
    mask = np.zeros(shape, bool)
    for (z, y, x), size in boxes:
        mask[z : z + size, y : y + size, x : x + size] = True
    return mask


def test_corner_neighbours_are_one_lesion():
    truth = np.zeros((3, 3, 3), bool)
    truth[0, 0, 0] = truth[1, 1, 1] = True
    assert components(truth).max() == 1


def test_one_common_voxel_detects_and_others_are_false():
    truth = cube((20, 20, 20), ((2, 2, 2), 3), ((12, 12, 12), 4))
    prediction = cube((20, 20, 20), ((4, 4, 4), 2), ((2, 15, 2), 2), ((17, 2, 2), 1))
    found = match_lesions(prediction, components(truth))
    assert found.detected.tolist() == [True, False] and found.false_positives == 2
    assert found.sensitivity == 0.5
    assert np.isnan(match_lesions(prediction, np.zeros_like(truth, int)).sensitivity)
    with pytest.raises(InputError, match="one grid"):
        match_lesions(prediction[:3], components(truth))


def test_froc_of_a_known_map():
    truth = cube((24, 24, 24), ((2, 2, 2), 3), ((12, 12, 12), 3))
    scores = np.zeros(truth.shape, np.float32)
    scores[3, 3, 3], scores[13, 13, 13] = 0.9, 0.3
    scores[20, 3, 3], scores[3, 20, 3], scores[20, 20, 3] = 0.8, 0.4, 0.35
    case = froc_case(scores, components(truth), (0.85, 0.6, 0.38, 0.2))
    assert case.peaks == pytest.approx((0.9, 0.3)) and case.false_positives == (0, 1, 2, 3)
    assert froc([case], (0.5, 1, 2, 3)) == {0.5: 0.5, 1: 0.5, 2: 0.5, 3: 1.0}
    clean = FrocCase(case.levels, (), (0, 0, 0, 1))
    assert froc([case, clean], (0.5, 2)) == {0.5: 0.5, 2: 1.0}


def test_froc_does_not_reward_parts_that_melt_together():
    case = FrocCase((0.9, 0.5, 0.1), (0.95, 0.2), (0, 30, 0))
    assert froc([case], (1.0,)) == {1.0: 0.5}


def test_froc_drops_small_parts_and_respects_the_region():
    truth = cube((20, 20, 20), ((2, 2, 2), 3), ((14, 14, 14), 3))
    scores = cube(truth.shape, ((10, 2, 2), 1), ((10, 15, 2), 3), ((2, 2, 2), 3)).astype(np.float32)
    assert froc_case(scores, components(truth), (0.5,)).false_positives == (2,)
    assert froc_case(scores, components(truth), (0.5,), spacing=MM, min_mm3=5).false_positives == (1,)
    region = np.ones_like(truth)
    region[9:] = False
    limited = froc_case(scores, components(truth), (0.5,), region)
    assert limited.false_positives == (0,) and limited.peaks == (1.0, -np.inf)


@pytest.mark.parametrize("smallest", (0.0, 6.0, 20.0))
def test_froc_equals_filtering_and_matching_at_every_level(smallest):
    rng, levels, spacing = np.random.default_rng(7), (1.2, 0.8, 0.5, 0.3, 0.1), (2.0, 1.0, 0.5)
    for _ in range(20):
        truth = ndimage.gaussian_filter(rng.normal(size=(8, 16, 17)), 1) > 0.4
        scores = ndimage.gaussian_filter(rng.normal(size=truth.shape) + truth, 0.7)
        region = rng.random(truth.shape) < 0.9
        region[:2] = False
        labels = components(truth)
        case = froc_case(scores, labels, levels, region, spacing, smallest)
        for level, false in zip(levels, case.false_positives, strict=True):
            parts = ndimage.label((scores >= level) & region, np.ones((3, 3, 3)))[0]
            kept = [p for p in range(1, parts.max() + 1) if (parts == p).sum() * np.prod(spacing) >= smallest]
            found = {label for p in kept for label in np.unique(labels[parts == p])} - {0}
            assert {i + 1 for i, peak in enumerate(case.peaks) if peak >= level} == found
            assert false == sum(not (labels[parts == p] > 0).any() for p in kept)


def test_froc_without_lesions_is_undefined_and_levels_must_agree():
    assert np.isnan(froc([FrocCase((0.5,), (), (3,))])[1.0])
    assert np.isnan(froc([FrocCase((0.5,), (0.9,), (3,))], (1.0,))[1.0])  # a higher level might have fewer than 3
    with pytest.raises(UsageError, match="differ"):
        froc([FrocCase((0.5,), (), (3,)), FrocCase((0.4,), (), (3,))])
    with pytest.raises(UsageError, match="descend"):
        froc_case(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), int), (0.1, 0.2))


def published_rules(prediction, truth, spacing, smallest, dilation=1):
    """The challenge's procedure written out voxel set by voxel set, without any cropping."""
    if not truth.any() and not prediction.any():
        return 1.0
    element = ndimage.generate_binary_structure(3, 2)
    merged = ndimage.label(ndimage.binary_dilation(truth, element, iterations=dilation), np.ones((3, 3, 3)))[0] * truth
    parts = ndimage.label(prediction, np.ones((3, 3, 3)))[0]
    scores, used = [], set()
    for label in np.unique(merged[merged > 0]):
        lesion = merged == label
        hits = set(np.unique(parts[ndimage.binary_dilation(lesion, element, iterations=dilation)])) - {0}
        used |= hits
        union = np.isin(parts, list(hits))
        if lesion.sum() * np.prod(spacing) > smallest:
            scores.append(2 * (union & lesion).sum() / (union.sum() + lesion.sum()))
    false = set(np.unique(parts)) - {0} - used
    return sum(scores) / (len(scores) + len(false)) if scores or false else float("nan")


def test_lesionwise_dice_equals_the_published_rules_on_random_phantoms():
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape = tuple(rng.integers(6, 22, 3))
        truth = ndimage.gaussian_filter(rng.normal(size=shape), 1) > rng.uniform(0.15, 0.5)
        prediction = ndimage.gaussian_filter(rng.normal(size=shape) + truth, 1) > rng.uniform(0.2, 0.7)
        spacing = tuple(rng.uniform(0.5, 2, 3))
        expected = published_rules(prediction, truth, spacing, 2.0)
        assert lesionwise_dice(prediction, truth, spacing) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_lesionwise_dice_of_the_degenerate_cases():
    empty, lesion = np.zeros((9, 9, 9), bool), cube((9, 9, 9), ((3, 3, 3), 3))
    assert lesionwise_dice(empty, empty, MM) == 1
    assert lesionwise_dice(lesion, lesion, MM) == 1
    assert lesionwise_dice(empty, lesion, MM) == 0
    assert lesionwise_dice(lesion, empty, MM) == 0
    speck = cube((9, 9, 9), ((4, 4, 4), 1))
    assert np.isnan(lesionwise_dice(speck, speck, MM))
    assert lesionwise_dice(lesion | cube((9, 9, 9), ((0, 0, 0), 1)), lesion, MM) == 0.5
